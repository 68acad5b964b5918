"""What a page of a listing holds, taken from S3's answer before botocore makes much of it.

botocore parses the XML twice and makes of each of a page's thousand objects a dict of all that is
known of it, its time parsed by guessing: thirty times the work of reading what counts. A client
that went through `list_quickly` takes objects that look as S3 writes them out of the answer first.
The rest of it (where to go on, errors) botocore reads as ever, and all of it where anything in it
looks otherwise. `objects_of` gives the same objects either way.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from tasks.problem import Problem
from tasks.storage import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MOST_EMPTY_PAGES = 1000  # there may be some
_TAKEN = "ObjectsTaken"
ARCHIVE_CLASSES = ("GLACIER", "DEEP_ARCHIVE")
"""The storage classes whose objects S3 must restore before they can be read."""
_OBJECT = re.compile(
    r"<Contents><Key>([^<&\s]+)</Key>"
    r"<LastModified>(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?Z)</LastModified>"
    r'<ETag>(?:&quot;|")([\w-]+)(?:&quot;|")</ETag>'
    r"(?:<Checksum(?:Algorithm|Type)>\w+</Checksum(?:Algorithm|Type)>)*"
    r"<Size>(\d+)</Size>"
    r"(?:<StorageClass>(\w+)</StorageClass>)?</Contents>",
    re.ASCII,
)


def list_quickly(client: "S3Client") -> None:
    """Have a client leave the objects of its listings to `objects_of`."""
    # By this name it runs before botocore's own for s3, one of which parses all that is there.
    client.meta.events.register("before-parse.*.ListObjectsV2", _take_objects)


def all_objects(ask: Callable[[str], Any], prefix: str, url: str) -> Iterator[StoredObject]:
    """The objects of all pages; `ask` gets the token of a page, none of the first.

    Raises `Problem` where the pages never end, or give again what an earlier one had: S3 lists in
    the order of the keys, so each begins behind the one before it.
    """
    token, asked, empty = "", {""}, 0
    behind: str | None = None
    while True:
        page, last = ask(token), behind
        for one in objects_of(page, prefix):
            if behind is not None and one.key <= behind:
                raise no_listing(url, f"a page goes back to {one.key!a}")
            last = one.key if last is None else max(last, one.key)
            yield one
        if page.get("IsTruncated") is False:
            return
        empty = empty + 1 if last == behind and not page.get("CommonPrefixes") else 0
        token, behind = page["NextContinuationToken"], last
        if token in asked:
            raise no_listing(url, "a page leads back to an earlier one")
        if empty > _MOST_EMPTY_PAGES:
            raise no_listing(url, f"{empty:,} pages without any object came one after the other")
        asked.add(token)


def no_listing(url: str, why: str) -> Problem:
    """For an answer that is no page of the listing that was asked for."""
    return Problem(
        f"{url} cannot be listed: {why}. Run it again; if it is said again, see that "
        "AWS_ENDPOINT_URL_S3, if it is set, names an S3 server, and that no proxy answers for it."
    )


def objects_of(page: Any, prefix: str) -> Iterator[StoredObject]:
    """The objects of an answer to `list_objects_v2`, their keys without the prefix."""
    taken: list[tuple[str, str, str, str, str | None]] | None = page.get(_TAKEN)
    if taken is None:
        for item in page.get("Contents", []):
            key, written = item["Key"].removeprefix(prefix), item["LastModified"].timestamp()
            archived = _archived(item.get("StorageClass"), item.get("RestoreStatus", {}))
            tag = item["ETag"].strip('"')
            yield StoredObject(key, item["Size"], tag, written, archived=archived)
        return
    is_quoted = page.get("EncodingType") == "url"  # botocore asks for that by itself
    for key, modified, etag, size, storage_class in taken:
        name = (unquote_plus(key) if is_quoted else key).removeprefix(prefix)
        written = dt.datetime.fromisoformat(modified).timestamp()
        archived = _archived(storage_class, {})
        yield StoredObject(name, int(size), etag, written, archived=archived)


def _archived(storage_class: str | None, restored: Any) -> str:
    """As `StoredObject.archived`; a listing says of restoring only what it is asked for."""
    if storage_class is None or storage_class not in ARCHIVE_CLASSES:
        return ""
    if restored.get("RestoreExpiryDate"):
        return ""
    return storage_class + (", being restored" if restored.get("IsRestoreInProgress") else "")


def _take_objects(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    taken: list[Any] = []

    def take(match: re.Match[str]) -> str:
        taken.append(match.groups())
        return ""

    try:
        rest = _OBJECT.sub(take, response_dict["body"].decode())
    except UnicodeDecodeError:
        return
    if taken and "<Contents" not in rest and "<!" not in rest:
        response_dict["body"] = rest.encode()
        customized_response_dict[_TAKEN] = taken

"""Where buckets lie, as S3 names it, for all that is asked of them from then on.

A region that is not the bucket's refuses, and names the right one: in a header of its answer, or in
the error document. botocore then asks there, but forgets it with the client. What is learned here
holds for every client of this process, and of those that are forked from it. A denial by another
region than the bucket's counts as such a refusal too, for the right one may say something else.
Each bucket has a region of its own, so source and destination may lie in two.
"""

import re
from typing import TYPE_CHECKING, Any

from botocore.exceptions import InvalidRegionError
from botocore.utils import validate_region_name

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_EXPECTED = re.compile(r"expecting '([\w-]+)'")
_MAY_BE_THE_WRONG_REGION = (301, 302, 307, 400, 403)

_named: dict[str, str] = {}
_answered: set[str] = set()


def follow_regions(client: "S3Client") -> None:
    """Have a client ask each bucket where it is known to lie, and learn from the answers."""
    events: Any = client.meta.events  # described without what handlers return
    events.register("before-endpoint-resolution.s3", _go_there)
    events.register_first("needs-retry.s3", _learn)  # before botocore decides where to ask again


def is_sure_of(bucket: str) -> bool:
    """Whether S3 has answered for the bucket where it is asked, or has named another region."""
    return bucket in _answered or bucket in _named


def forget() -> None:
    _named.clear()
    _answered.clear()


def _go_there(builtins: dict[str, Any], params: dict[str, Any], **_: object) -> None:
    region = _named.get(params.get("Bucket", ""))
    if region is not None:
        builtins["AWS::Region"] = region


def _learn(
    response: tuple[Any, dict[str, Any]] | None, request_dict: dict[str, Any], **_: object
) -> None:
    context = request_dict["context"]
    bucket = context.get("s3_redirect", {}).get("bucket")
    if response is None or not bucket:
        return
    http, parsed = response
    if http.status_code < 300:
        _answered.add(bucket)  # whatever region it names: servers that are not AWS name any
        return
    error, metadata = parsed.get("Error", {}), parsed.get("ResponseMetadata", {})
    region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region") or _told_by(error)
    if not region or region == context.get("signing", {}).get("region"):
        return
    try:
        validate_region_name(region)
    except InvalidRegionError:
        return
    _named[bucket] = region
    if http.status_code in _MAY_BE_THE_WRONG_REGION:  # which botocore follows, once
        error["Code"], error["Region"] = "PermanentRedirect", region


def _told_by(error: dict[str, Any]) -> str:
    """The region of an error document; MinIO names it in its sentence, with a code of its own."""
    if error.get("Code") not in ("AuthorizationHeaderMalformed", "InvalidRegion"):
        return ""
    expected = _EXPECTED.search(str(error.get("Message", "")))
    return str(error.get("Region", "")) or (expected[1] if expected else "")

"""Listings of many pages: all of them or a sentence; never for ever, never a part in silence."""

from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from tasks.problem import Problem
from tasks.storage import s3_listing
from tasks.storage.patience import Patience
from tasks.storage.s3 import S3Prefix
from tests.scripted_s3 import Answer, Exchange, ScriptedS3, client_of

PATIENCE = Patience(attempts=2, first_pause=0.001, longest_pause=0.01)
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult>'


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedS3]:
    with ScriptedS3({}) as server:
        yield server


@pytest.fixture
def s3(server: ScriptedS3) -> ScriptedS3:
    server.script.clear()
    server.requests.clear()
    return server


@pytest.fixture(scope="module")
def root(server: ScriptedS3) -> S3Prefix:
    client = client_of(server.url, PATIENCE)
    return S3Prefix("s3://bucket/v2", lambda _: client)


def page(*keys: str, token: str | None = None, is_truncated: bool | None = None) -> Answer:
    """A page of these keys below v2/, truncated if there is a token, unless told otherwise."""
    truncated = token is not None if is_truncated is None else is_truncated
    items = "".join(
        f"<Contents><Key>v2/{key}</Key><LastModified>2021-11-08T00:00:05.000Z</LastModified>"
        "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>2</Size></Contents>"
        for key in keys
    )
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    text = f"{HEAD}<IsTruncated>{str(truncated).lower()}</IsTruncated>{more}{items}"
    return _sent(f"{text}</ListBucketResult>")


def folder(name: str, token: str) -> Answer:
    return _sent(
        f"{HEAD}<IsTruncated>true</IsTruncated><NextContinuationToken>{token}"
        f"</NextContinuationToken><CommonPrefixes><Prefix>v2/{name}/</Prefix></CommonPrefixes>"
        "</ListBucketResult>"
    )


def _sent(text: str) -> Answer:
    def answer(exchange: Exchange) -> bool:
        return exchange.send("200 OK", text.encode(), Content_Type="application/xml")

    return answer


def tokens(s3: ScriptedS3) -> list[str]:
    queries = [parse_qs(urlsplit(one.target).query) for one in s3.requests]
    return [query.get("continuation-token", [""])[0] for query in queries]


def keys(root: S3Prefix) -> list[str]:
    return [one.key for one in root.objects("")]


def test_pages_are_asked_for_until_the_last(s3: ScriptedS3, root: S3Prefix) -> None:
    s3.answers("", page("", "a", token="1"), page("b", token="2"), page("c"))
    assert keys(root) == ["", "a", "b", "c"]
    assert tokens(s3) == ["", "1", "2"]


def test_a_page_without_objects_is_not_the_end(s3: ScriptedS3, root: S3Prefix) -> None:
    """S3 gives such pages where many objects were deleted."""
    s3.answers("", page(token="1"), page("a", token="2"), page(token="3"), page("b"))
    assert keys(root) == ["a", "b"]
    s3.answers("", page(token="1"), page("a"))
    assert root.first_key("", after="") == "a"


ENDLESS: dict[str, tuple[Callable[[], list[Answer]], str]] = {
    "the same page": (lambda: [page("a", token="1")] * 3, "a page goes back to 'a'"),
    "the same token": (
        lambda: [page("a", token="1"), page("b", token="1"), page("c")],
        "a page leads back to an earlier one",
    ),
    "the same token, nothing else": (
        lambda: [page(token="1")] * 3,
        "a page leads back to an earlier one",
    ),
    "in a circle": (
        lambda: [page("a", token="1"), page("b", token="2"), page("c", token="1"), page("d")],
        "a page leads back to an earlier one",
    ),
    "the same keys": (
        lambda: [page("a", "b", token="1"), page("b", "c", token="2"), page("d")],
        "a page goes back to 'b'",
    ),
    "nothing, ever": (
        lambda: [page(token=str(number)) for number in range(20)],
        "6 pages without any object came",
    ),
    "no token": (lambda: [page("a", is_truncated=True)], "the answer is no listing"),
    "no token later": (
        lambda: [page("a", token="1"), page("b", is_truncated=True), page("c")],
        "the answer is no listing",
    ),
    "nothing and no token": (lambda: [page(is_truncated=True)], "the answer is no listing"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_pages_that_lead_nowhere_are_said_to(
    s3: ScriptedS3, root: S3Prefix, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_listing, "_MOST_EMPTY_PAGES", 5)
    make, why = ENDLESS[name]
    pages = make()
    s3.answers("", *pages)
    with pytest.raises(Problem, match=rf"^s3://bucket/v2 cannot be listed: {why}"):
        keys(root)
    assert len(s3.requests) <= 6


def test_pages_of_folders_alone_are_no_circle(
    s3: ScriptedS3, root: S3Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_listing, "_MOST_EMPTY_PAGES", 2)
    s3.answers("", *[folder(str(number), str(number)) for number in range(9)], page("z"))
    assert [one.key for one in root.top_objects()] == ["z"]


@pytest.mark.parametrize("found", ["raw/a", "raw/b", "other"])
def test_what_lies_behind_a_key_does(s3: ScriptedS3, root: S3Prefix, found: str) -> None:
    """Who goes on from key to key would never come to an end."""
    s3.answers("", page(found))
    with pytest.raises(Problem, match="s3://bucket/v2 cannot be listed: the answer is to another"):
        root.first_key("raw/", after="raw/b")

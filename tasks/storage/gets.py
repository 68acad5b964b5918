"""GETs of one bucket's objects, many at once: signed, checked, and tried again with patience.

Each is held to the listing: an object that has been replaced or removed since is a `Problem`, never
other bytes; so is everything that patience does not help with. Bytes are checked by the checksums
that S3 keeps (`tasks.storage.kept_checksums`). Every attempt that fails is logged, and all are
counted. For one thread of a process that does not fork later.
"""

import heapq
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from tasks import secrets
from tasks.problem import Problem
from tasks.storage import StoredObject
from tasks.storage.address import BulkSource, Credentials
from tasks.storage.answers import (
    OBJECT_COMES,
    Failure,
    Kind,
    damaged,
    failure_of,
    is_other_form,
    not_of_object,
)
from tasks.storage.dialect import CHECKSUMS_REFUSED, is_of_aws, may_be_of_a_header
from tasks.storage.encodings import GZIP, other
from tasks.storage.kept_checksums import Check, checks_of
from tasks.storage.listed import CredentialsExpired, Unreadable, changed, gone
from tasks.storage.patience import MOMENTS_OF_CLOCK, USED_UP, Patience, tried
from tasks.storage.refusal import CODES_OF_ONE_OBJECT
from tasks.storage.signing import Signer
from tasks.storage.traffic import Traffic
from tasks.storage.transfers import Limits, Transfer, Transfers

_log = logging.getLogger("tasks.storage")
_ASKED = {"x-amz-checksum-mode": "ENABLED"}
_RECODED_AT_MOST = 2  # times that another form of it came: asked for as gzip, and as itself
_WAIT_SECONDS = 60.0  # for no reason but that it must be some time
_LOOK_AGAIN_SECONDS = 0.005  # whether another thread has done with one


@dataclass(slots=True, eq=False)
class _Get:
    """One object that is being read, and how that went until now."""

    number: int
    stored: StoredObject
    began: float = 0.0
    attempt: int = 0
    attempt_began: float = 0.0
    offset: int = 0
    clock_was_set: int = 0
    asks_for_checksums: bool = True
    refused: str = ""
    """How such an attempt was refused last."""
    accept: str = GZIP
    recoded: int = 0


class Gets:
    """Reads objects of a bucket, `at_once` at a time."""

    def __init__(
        self,
        source: BulkSource,
        at_once: int,
        patience: Patience,
        check_etag: bool,
        under_way: threading.Semaphore | None = None,
    ) -> None:
        """`under_way` is what several threads share that read `at_once` together."""
        self._source = source
        self._patience = patience
        self._check_etag = check_etag
        parts = urlsplit(source.bucket_url)
        self._origin, self._path = f"{parts.scheme}://{parts.netloc}", parts.path
        self._asks_for_checksums = source.asks_for_checksums
        self._asked = {
            asks: {**(_ASKED if asks else {}), **source.headers} for asks in (True, False)
        }
        self._signers = {
            asks: Signer(source.region, parts.netloc, asked) for asks, asked in self._asked.items()
        }
        self._accept = GZIP
        limits = Limits(patience.connect, patience.stall)
        self._transfers = Transfers(at_once, limits, source.proxy, source.ca_bundle)
        self._under_way = under_way or threading.Semaphore(at_once)
        self._retries_left = patience.retries
        self._requests = self._attempts = self._bytes = 0
        self._seconds = 0.0
        self._retries: Counter[str] = Counter()

    def read(self, objects: list[StoredObject], credentials: Credentials | None) -> list[bytes]:
        """The bodies of the objects, in the same order; raises `Problem` as described above."""
        bodies = [b""] * len(objects)
        waiting = deque(_Get(number, one) for number, one in enumerate(objects) if one.size)
        paused: list[tuple[float, int, _Get]] = []  # a heap: when to try again
        under_way: dict[Transfer, _Get] = {}
        try:
            while waiting or paused or under_way:
                now = time.monotonic()
                while paused and paused[0][0] <= now:
                    waiting.append(heapq.heappop(paused)[2])
                while waiting and self._transfers.free and self._may_start(not under_way):
                    get = waiting.popleft()
                    under_way[self._start(get, credentials, True)] = get
                wait = max(0.0, paused[0][0] - now) if paused else _WAIT_SECONDS
                if waiting and self._transfers.free:
                    wait = min(wait, _LOOK_AGAIN_SECONDS)
                for transfer in self._transfers.wait(wait):
                    get = under_way.pop(transfer)
                    self._under_way.release()
                    body = transfer.body
                    failure = self._failure(get, transfer, body)
                    if failure is None:
                        bodies[get.number] = body
                        self._succeeded(get)
                    else:
                        again_at = time.monotonic() + self._pause_after(get, failure)
                        heapq.heappush(paused, (again_at, get.number, get))
        finally:
            self._transfers.stop()
            for _ in under_way:
                self._under_way.release()
        return bodies

    def stream(self, stored: StoredObject, credentials: Credentials | None) -> Iterator[bytes]:
        """One body in chunks; one that breaks off is continued where it did.

        A checksum is only known to be wrong when all chunks have been given away: then it ends in
        a `Problem`.
        """
        if not stored.size:
            return
        get = _Get(0, stored)
        checks: list[Check] | None = None
        while True:
            self._under_way.acquire()
            transfer = self._start(get, credentials, False)
            known = get.offset
            for part in self._parts(transfer, stored, get.offset):
                if known and transfer.status == 200:  # all of it, where the rest was asked for
                    part, known = part[known:], max(0, known - len(part))
                get.offset += len(part)
                if checks is None:
                    checks = self._checks(stored, transfer)
                for check in checks:
                    check.update(part)
                yield part
            self._count_attempt(transfer)
            failure = failure_of(transfer, stored, get.offset)
            if failure is None:
                break
            time.sleep(self._pause_after(get, failure))
        self._succeeded(get)
        for check in checks or []:
            if not check.is_met():
                raise Problem(
                    f"{self._place(get)} cannot be read: {damaged(transfer, check.name).sentence}. "
                    "Run it again."
                )

    def traffic(self) -> Traffic:
        """What the requests came to since this was asked last; those under way count when done."""
        counted = Traffic(
            self._requests, self._attempts, self._bytes, self._seconds, dict(self._retries)
        )
        self._requests = self._attempts = self._bytes = 0
        self._seconds = 0.0
        self._retries.clear()
        return counted

    def _may_start(self, may_wait: bool) -> bool:
        """Whether one more may be under way; waits for it where there is nothing else to do."""
        return self._under_way.acquire(may_wait)

    def _start(self, get: _Get, credentials: Credentials | None, whole: bool) -> Transfer:
        now = time.monotonic()
        get.attempt += 1
        get.attempt_began = now
        get.began = get.began or now
        size = get.stored.size
        path = self._path + quote(self._source.prefix + get.stored.key)
        asks = get.asks_for_checksums = get.asks_for_checksums and self._asks_for_checksums
        if credentials is None:  # of a bucket that anyone may read
            headers = [f"{name}: {value}" for name, value in self._asked[asks].items()]
        else:
            headers = self._signers[asks].headers(path, credentials)
        headers.append(f'if-match: "{get.stored.etag}"')
        if not get.recoded:
            get.accept = self._accept
        headers.append(f"accept-encoding: {get.accept}")  # not signed: some servers change it
        if get.offset:
            headers.append(f"range: bytes={get.offset}-")
        seconds = self._patience.seconds_of_attempt(get.began, size)
        return self._transfers.start(self._origin + path, headers, seconds, size, whole)

    def _parts(self, transfer: Transfer, stored: StoredObject, offset: int) -> Iterator[bytes]:
        """The body as it comes; nothing of what tells an error, or is no part of the object."""
        try:
            ended = is_of_object = False
            while not ended:
                ended = bool(self._transfers.wait(_WAIT_SECONDS))
                if transfer.status not in OBJECT_COMES or not (part := transfer.take()):
                    continue
                is_of_object = is_of_object or _is_as_stored(transfer, stored, offset)
                if is_of_object:
                    yield part
        finally:
            self._transfers.stop()
            self._under_way.release()

    def _failure(self, get: _Get, transfer: Transfer, body: bytes) -> Failure | None:
        self._count_attempt(transfer)
        failure = failure_of(transfer, get.stored, len(body))
        if failure is None:
            for check in self._checks(get.stored, transfer):
                check.update(body)
                if not check.is_met():
                    return damaged(transfer, check.name)
        return failure

    def _checks(self, stored: StoredObject, transfer: Transfer) -> list[Check]:
        if not self._check_etag and b"x-amz-checksum-" not in transfer.raw_head.lower():
            return []  # as nearly all are: not worth reading every header
        return checks_of(transfer.headers, stored.etag if self._check_etag else None)

    def _pause_after(self, get: _Get, failure: Failure) -> float:
        """How long to wait until the next attempt; raises `Problem` if there is to be none."""
        then = self._what_then(get, failure)
        self._log(get, failure, None if isinstance(then, Problem) else then)
        if isinstance(then, Problem):
            self._count(get)
            raise then
        self._retries[failure.reason] += 1
        self._retries_left -= 1
        return then

    def _log(self, get: _Get, failure: Failure, pause: float | None) -> None:
        if not _log.isEnabledFor(logging.INFO):
            return
        why = secrets.without(failure.for_log)
        then = "the last" if pause is None else f"again in {pause:.2f} s"
        told = {
            "key": self._source.prefix + get.stored.key,
            "operation": "GET",
            "status": failure.status,
            "code": failure.code,
            "error": why,
            "request_id": failure.request_id,
            "seconds": round(time.monotonic() - get.attempt_began, 3),
            "attempt": get.attempt,
            "backoff": pause if pause is None else round(pause, 3),
        }
        _log.info(
            "GET %a failed: %s (attempt %d, %s)",
            *(told["key"], why, get.attempt, then),
            extra={"s3": told},
        )

    def _what_then(self, get: _Get, failure: Failure) -> float | Problem:
        """How long to wait until the next attempt, or what to say if there is to be none."""
        place = self._place(get)
        patience = self._patience
        if failure.kind is Kind.GONE:
            return gone(place)
        if failure.kind is Kind.CHANGED:
            return changed(place)
        if failure.kind is Kind.RECODED:
            get.recoded += 1
            asked, get.accept = get.accept, other(get.accept)
            if self._accept == asked:
                self._accept = get.accept  # for all that are asked for from now on
            if get.recoded > _RECODED_AT_MOST:
                return Problem(f"{place} cannot be read: {failure.sentence}.")
        if failure.kind is Kind.EXPIRED:
            return CredentialsExpired(f"{place} cannot be read: {failure.sentence}.")
        if failure.kind is Kind.REFUSED and failure.error:
            return Problem(
                f"{place} cannot be read: {failure.sentence}. Check AWS_ENDPOINT_URL_S3 and "
                "AWS_CA_BUNDLE, then run it again."
            )
        if self._has_another_way(get, failure):
            return 0.0
        is_clock = failure.kind is Kind.CLOCK
        if failure.kind is Kind.REFUSED or (is_clock and get.clock_was_set >= MOMENTS_OF_CLOCK):
            is_of_one = (failure.code or str(failure.status)) in CODES_OF_ONE_OBJECT
            kind = Unreadable if is_of_one else Problem
            return kind(f"{place} cannot be read: {failure.sentence}.")
        if self._retries_left <= 0:
            return Problem(f"{place} cannot be read ({failure.reason}), {USED_UP}")
        if is_clock:
            get.clock_was_set += 1
            for signer in self._signers.values():
                signer.clock_offset = failure.seconds
            return 0.0
        pause = patience.pause_before_next(get.attempt, get.began, get.stored.size, failure.seconds)
        if pause is not None:
            return pause
        last = "" if failure.status < 400 else f"; the last answer was {failure.reason}"
        times = f"(after {tried(get.attempt, get.began)}{last})"
        if failure.code or failure.status >= 400 or failure.kind is Kind.RECODED:
            return Problem(f"{place} cannot be read: {failure.sentence} {times}.")
        return Problem(
            f"{place} cannot be read: {failure.sentence} {times}. Check the network and "
            "AWS_ENDPOINT_URL_S3, then run it again."
        )

    def _has_another_way(self, get: _Get, failure: Failure) -> bool:
        """Whether to ask again: as before, for what is refused once may pass; then without asking
        for checksums, which a server other than AWS's may not know."""
        if is_of_aws(self._source.bucket_url) or not get.asks_for_checksums:
            return False
        if not may_be_of_a_header(failure.status, failure.code):
            return False
        get.asks_for_checksums = get.refused != failure.reason
        get.refused = failure.reason
        return True

    def _place(self, get: _Get) -> str:
        return self._source.address_of(get.stored.key)

    def _succeeded(self, get: _Get) -> None:
        self._count(get)
        if self._asks_for_checksums and not get.asks_for_checksums:
            self._asks_for_checksums = False
            self._retries[CHECKSUMS_REFUSED] += 1

    def _count_attempt(self, transfer: Transfer) -> None:
        self._attempts += 1
        self._bytes += transfer.bytes

    def _count(self, get: _Get) -> None:
        self._requests += 1
        self._seconds += time.monotonic() - get.began


def _is_as_stored(transfer: Transfer, stored: StoredObject, offset: int) -> bool:
    """Whether a body that begins is the object's, from its beginning or from `offset` on."""
    return not_of_object(transfer, stored) is None and not is_other_form(transfer, stored, offset)

"""HTTP GETs through libcurl, many under way at once in one thread, at little CPU and memory.

Knows connections, proxies, certificates and time limits, all as it is told: nothing comes from the
environment. Knows nothing of S3. It does not follow redirects, does not try again and never shows
the headers that were sent. Not to be used in a process that forks later, nor by two
threads at once.
"""

import io
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

import pycurl  # type: ignore[import-untyped]

_BUFFER_BYTES = 1 << 18  # one for all transfers
_LARGEST_ERROR_BYTES = 1 << 20  # of a document that says what is wrong
_HEADER = re.compile(r"^([^:\s]+):[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_STALL_LOOKS = 8  # so often within the time after which a transfer counts as stalled
_HOPELESS = {
    *(pycurl.E_URL_MALFORMAT, pycurl.E_SSL_CERTPROBLEM, pycurl.E_SSL_CIPHER),
    *(pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE),
}
_NAMES = {
    pycurl.E_UNSUPPORTED_PROTOCOL: "no HTTP",
    pycurl.E_COULDNT_RESOLVE_PROXY: "name not found",
    pycurl.E_COULDNT_RESOLVE_HOST: "name not found",
    pycurl.E_COULDNT_CONNECT: "not connected",
    pycurl.E_PARTIAL_FILE: "cut off",
    pycurl.E_OPERATION_TIMEDOUT: "timeout",
    pycurl.E_SSL_CONNECT_ERROR: "no TLS",
    pycurl.E_GOT_NOTHING: "no answer",
    pycurl.E_SEND_ERROR: "reset",
    pycurl.E_RECV_ERROR: "reset",
    pycurl.E_FILESIZE_EXCEEDED: "too long",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a connection may take, and that may pass without a byte."""

    connect: float
    stall: float


@dataclass(frozen=True, slots=True)
class Fault:
    """Why there is no whole answer: a short name, libcurl's sentence, and whether it may pass."""

    name: str
    message: str
    may_pass: bool


class Transfer:
    """One GET: its answer so far, and all of it once `Transfers.wait` has returned it."""

    __slots__ = ("_body", "_came", "_curl", "_head", "_since", "_status", "bytes", "fault")

    def __init__(self, curl: pycurl.Curl, expected: int) -> None:
        self.fault: Fault | None = None
        self.bytes = 0
        """How many came of the body; set at the end."""
        self._curl: pycurl.Curl | None = curl
        self._status = 0
        self._came = -1
        self._since = 0.0
        self._head = io.BytesIO()
        # All the memory at once: nothing is copied while it fills, nor when it is taken out whole.
        self._body = io.BytesIO(bytes(expected))
        curl.setopt(pycurl.HEADERFUNCTION, self._head.write)
        curl.setopt(pycurl.WRITEFUNCTION, self._body.write, use_memoryview=True)

    @property
    def status(self) -> int:
        """The HTTP status, 0 as long as there is none."""
        return self._status if self._curl is None else self._curl.getinfo(pycurl.RESPONSE_CODE)

    @property
    def raw_head(self) -> bytes:
        """The lines above the body, as they came."""
        return self._head.getvalue().rpartition(b"\r\n\r\nHTTP/")[2]  # of the last, if more came

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers, by their names in lower case."""
        text = self.raw_head.decode("latin-1").replace("\r\n", "\n")
        return {name.lower(): value for name, value in _HEADER.findall(text)}

    @property
    def reason(self) -> str:
        """What stands behind the status."""
        first = self.raw_head.partition(b"\r\n")[0].decode("latin-1")
        return first.split(" ", 2)[2] if first.count(" ") >= 2 else ""

    @property
    def body(self) -> bytes:
        """What has come of the body."""
        return self._body.getvalue()

    def take(self) -> bytes:
        """What has come of the body since this was called last."""
        part = self._body.getvalue()
        self._body.seek(0)
        self._body.truncate()
        return part

    def _silence(self, now: float) -> float:
        """For how many seconds this has been asked, and nothing has come."""
        assert self._curl is not None
        came = int(self._curl.getinfo(pycurl.SIZE_DOWNLOAD_T)) + self._head.tell()
        if came != self._came:
            self._came, self._since = came, now
        return now - self._since

    def _end(self, fault: Fault | None) -> pycurl.Curl:
        curl, self._curl = self._curl, None
        assert curl is not None
        self.fault = fault
        self._status = curl.getinfo(pycurl.RESPONSE_CODE)
        self.bytes = int(curl.getinfo(pycurl.SIZE_DOWNLOAD_T))
        self._body.truncate()  # to what has come
        curl.unsetopt(pycurl.HEADERFUNCTION)  # which hold what has come
        curl.unsetopt(pycurl.WRITEFUNCTION)
        return curl


class Transfers:
    """GETs under way, `at_once` of them at most, over connections that are kept."""

    def __init__(
        self, at_once: int, limits: Limits, proxy: str | None = None, ca_bundle: str = ""
    ) -> None:
        """`proxy` is the URL of one that all go through, and `ca_bundle` a file."""
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, at_once)
        self._free = [_make_handle(limits, proxy, ca_bundle) for _ in range(at_once)]
        self._under_way: dict[pycurl.Curl, Transfer] = {}
        self._stall = limits.stall
        self._look_again = 0.0

    @property
    def free(self) -> int:
        """How many more can be started now."""
        return len(self._free)

    def start(
        self, url: str, headers: list[str], seconds: float, size: int, whole: bool
    ) -> Transfer:
        """Start a GET that may take so many seconds and should bring `size` bytes.

        `whole` unless they are taken as they come: then all the memory is there from the beginning.
        """
        curl = self._free.pop()
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.HTTPHEADER, headers)
        curl.setopt(pycurl.MAXFILESIZE_LARGE, max(size, _LARGEST_ERROR_BYTES))
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(1000 * seconds)))
        transfer = Transfer(curl, size if whole else 0)
        self._under_way[curl] = transfer
        self._multi.add_handle(curl)
        return transfer

    def wait(self, seconds: float) -> list[Transfer]:
        """Go on until something ended or, where nothing does, something came or time is up.

        Returns those that ended.
        """
        if not self._under_way:
            time.sleep(seconds)
            return []
        self._multi.perform()
        if not (ended := self._ended()):
            soonest = self._multi.timeout()  # milliseconds, or less than 0 for never
            until = min(seconds, soonest / 1000) if soonest >= 0 else seconds
            self._multi.select(min(until, self._stall / _STALL_LOOKS))
            self._multi.perform()
            ended = self._ended()
        return ended + self._stalled()

    def stop(self) -> None:
        """Give up whatever is under way, with its connection."""
        for curl in list(self._under_way):
            self._release(curl, Fault("given up", "it was given up", False))

    def _ended(self) -> list[Transfer]:
        ended: list[Transfer] = []
        more = 1
        while more:
            more, whole, failed = self._multi.info_read()
            ended += [self._release(curl, None) for curl in whole]
            ended += [self._release(curl, _fault(*why)) for curl, *why in failed]
        return ended

    def _stalled(self) -> list[Transfer]:
        """Those of which no byte has come for too long, which are given up."""
        now = time.monotonic()
        if now < self._look_again:
            return []
        self._look_again = now + self._stall / _STALL_LOOKS
        fault = Fault("stalled", f"no byte came for {self._stall:g} seconds", True)
        under_way = list(self._under_way.items())
        stalled = [curl for curl, one in under_way if one._silence(now) >= self._stall]
        return [self._release(curl, fault) for curl in stalled]

    def _release(self, curl: pycurl.Curl, fault: Fault | None) -> Transfer:
        transfer = self._under_way.pop(curl)
        self._multi.remove_handle(curl)
        self._free.append(transfer._end(fault))
        return transfer


def _make_handle(limits: Limits, proxy: str | None, ca_bundle: str) -> pycurl.Curl:
    curl = pycurl.Curl()
    for option, value in (
        (pycurl.NOSIGNAL, 1),
        (pycurl.BUFFERSIZE, _BUFFER_BYTES),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
        (pycurl.PATH_AS_IS, 1),
        (pycurl.CONNECTTIMEOUT_MS, int(1000 * limits.connect)),
        (pycurl.PROXY, proxy or ""),  # both are empty rather than not set: then libcurl would look
        (pycurl.NOPROXY, ""),  # into the environment
    ):
        curl.setopt(option, value)
    if ca_bundle:
        curl.setopt(pycurl.CAINFO, ca_bundle)
        curl.setopt(pycurl.PROXY_CAINFO, ca_bundle)
    return curl


def _fault(code: int, message: str) -> Fault:
    name = _NAMES.get(code, f"libcurl's error {code}")
    return Fault(name, message or pycurl.easy_strerror(code), code not in _HOPELESS)

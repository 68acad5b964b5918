"""Headless Chromium, driven by its own driver: what a person sees of a page, and does there."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.conftest import free_port

DEADLINE_SECONDS = 60.0


def wait_for(condition: Callable[[], Any]) -> Any:
    """What the condition gives once it is true."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("what was waited for did not come")


def ask(url: str, body: object = None, method: str | None = None) -> Any:
    """The JSON that an address of this machine answers."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


class Browser:
    """Headless Chromium through the W3C WebDriver protocol."""

    def __init__(self, driver: str, profile: Path) -> None:
        arguments = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--no-first-run", "--disable-quic"),
            *("--disable-dev-shm-usage", "--window-size=1300,900", f"--user-data-dir={profile}"),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ]
        options = {"args": arguments, "binary": shutil.which("chromium")}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"performance": "ALL"},
        }
        session = ask(f"{driver}/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"{driver}/session/{session['value']['sessionId']}"

    def open(self, url: str) -> None:
        # By way of an empty page: a change behind the # alone would load nothing.
        for address in ("about:blank", url):
            ask(f"{self._session}/url", {"url": address})

    def text(self, selector: str) -> str:
        """What a person reads in an element: nothing where it is hidden or missing."""
        script = (
            f"const e = document.querySelector({json.dumps(selector)}); return e && e.innerText"
        )
        answer = ask(f"{self._session}/execute/sync", {"script": script, "args": []})
        return answer["value"] or ""

    def asked_for(self) -> list[str]:
        """The addresses that pages have asked for since this was called last, met or not."""
        log = ask(f"{self._session}/se/log", {"type": "performance"})["value"]
        events = [json.loads(entry["message"])["message"] for entry in log]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def click(self, selector: str) -> None:
        how = {"using": "css selector", "value": selector}
        [element] = ask(f"{self._session}/element", how)["value"].values()
        ask(f"{self._session}/element/{element}/click", {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        ask(self._session, method="DELETE")


@pytest.fixture(scope="module")
def chromedriver(without_proxy: None) -> Iterator[str]:  # noqa: ARG001
    """The address of what starts browsers, with the environment to reach it."""
    for program, package in (("chromium", "chromium"), ("chromedriver", "chromium-driver")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: install the Debian package {package}")
    port = free_port()
    command = ["chromedriver", f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    driver = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return bool(ask(f"{driver}/status")["value"]["ready"])
        except urllib.error.URLError:
            return False

    try:
        wait_for(is_ready)
        yield driver
    finally:
        process.terminate()
        process.wait()

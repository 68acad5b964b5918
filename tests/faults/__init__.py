"""An S3 that fails on demand: a proxy in front of a real server, for tests of what fails.

Requests go through byte by byte, so that signatures stay valid, and answers come back, but for
those that a test wants to fail, one by one (`Control.fail`) or at random from a seed
(`Control.storm`). `Fault` says what can go wrong. It is for tests on this machine only: it listens
on 127.0.0.1, speaks plain HTTP and knows buckets by path.
"""

from collections.abc import Iterator

import pytest

from tests.faults.control import Control, Rule, Storm
from tests.faults.kinds import Fault
from tests.faults.proxy import FaultyS3
from tests.faults.request import Request

__all__ = ["Control", "Fault", "FaultyS3", "Request", "Rule", "Storm"]


@pytest.fixture
def faulty_s3(s3_server: str) -> Iterator[FaultyS3]:
    """The shared S3 server behind a proxy of the test's own: `url` to reach it, and `control`."""
    with FaultyS3(s3_server) as proxy:
        yield proxy

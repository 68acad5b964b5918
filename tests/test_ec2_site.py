"""What a command with ON=ec2 takes along from this machine, and what it does not."""

import pytest

from ops.ec2.site import settings_of_run


def test_only_settings_of_a_run_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "BUSTIMES_ORDER": "snapshot",
        "BUSTIMES_PROCESSES": " ",
        "BUSTIMES_SOURCE": "s3://of-the-stack",
        "BUSTIMES_PYTHON": "/this/machine's/python",
        "BUSTIMES_API_TOKEN": "secret",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert settings_of_run() == {"BUSTIMES_ORDER": "snapshot"}

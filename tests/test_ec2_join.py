"""The script that keeps an instance's member running, run for real on this machine."""

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ec2_machine import SCRIPTS, Instance, new_instance
from tests.processes_under_test import is_gone, wait_until

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(sys.platform != "linux", reason="the scripts are for Linux"),
]

MEMBER = """
import os, signal, sys, time
home = os.environ["BUSTIMES_HOME"]
signal.signal(signal.SIGTERM, {term})
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))
with open(f"{{home}}/members", "a") as file:
    print(os.getpid(), os.environ["BUSTIMES_CODE"], file=file)
while True:
    time.sleep(60)
"""
ORDERLY, STUBBORN = "lambda *_: sys.exit(143)", "signal.SIG_IGN"


class Crew:
    """An instance whose member does nothing but live, and the processes of its members."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        (instance.home / "log").mkdir(parents=True)

    def install(self, code: str, term: str = ORDERLY) -> None:
        """As prepare.sh would: the code, and an environment that names it."""
        home = self.instance.home
        folder = home / "code" / code
        (folder / "ops/ec2").mkdir(parents=True)
        for package in ("ops", "ops/ec2"):
            (folder / package / "__init__.py").touch()
        (folder / "ops/ec2/member.py").write_text(MEMBER.format(term=term))
        shutil.copytree(SCRIPTS, folder / "ops/ec2/scripts")
        settings = {
            "BUSTIMES_HOME": home,
            "BUSTIMES_CODE": code,
            "BUSTIMES_PYTHON": sys.executable,
            "LUIGI_CONFIG_PATH": folder / "luigi.cfg",
            "PYTHONPATH": folder,
        }
        lines = [f"export {name}='{value}'\n" for name, value in settings.items()]
        (home / "environment").write_text("".join(lines))

    def join(self, **environment: str) -> str:
        code, said = self.instance.run("join.sh", **environment)
        assert code == 0, said
        return said

    def members(self) -> list[tuple[int, str]]:
        """The number and code of every member that has ever been started."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.instance.home / "members").read_text().splitlines()
            return [(int(line.split()[0]), line.split()[1]) for line in lines]
        return []

    def wait_for(self, number: int) -> tuple[int, str]:
        """The member that was started as the `number`th."""
        wait_until(lambda: len(self.members()) >= number, lambda: f"never: {self.log()}")
        return self.members()[number - 1]

    def keeper(self) -> int:
        """The process that starts the member again."""
        return int((self.instance.home / "member.id").read_text().split()[0])

    def log(self) -> str:
        return (self.instance.home / "log/member.log").read_text()

    def end(self) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.killpg(self.keeper(), signal.SIGKILL)


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    crew = Crew(new_instance(tmp_path / "instance"))
    yield crew
    crew.end()


def test_a_member_is_started_once_and_outlives_who_started_it(crew: Crew) -> None:
    crew.install("aaaa")
    both = [crew.instance.start("join.sh") for _ in range(2)]
    said = sorted(process.communicate(timeout=60)[0] for process in both)
    pid, code = crew.wait_for(1)
    assert code == "aaaa"
    assert said == [
        f"The member is started (process {crew.keeper()}) with the code aaaa.\n",
        f"The member runs already (process {crew.keeper()}).\n",
    ]
    assert os.getsid(pid) == crew.keeper()
    # Without what keeps it running it still counts as running.
    os.kill(crew.keeper(), signal.SIGKILL)
    wait_until(lambda: is_gone(crew.keeper()), lambda: "still there")
    assert "runs already" in crew.join()
    assert crew.members() == [(pid, "aaaa")]


def test_a_member_that_fails_is_started_again_until_it_ends_well(crew: Crew) -> None:
    crew.install("aaaa")
    crew.join()
    os.kill(crew.wait_for(1)[0], signal.SIGKILL)
    second, _ = crew.wait_for(2)
    assert "The member has ended with code 137; it starts again in 5 seconds." in crew.log()
    keeper = crew.keeper()
    os.kill(second, signal.SIGUSR1)
    wait_until(lambda: is_gone(keeper), lambda: f"goes on: {crew.log()}")
    assert len(crew.members()) == 2
    assert "is started" in crew.join()  # the next run has it take part again
    crew.wait_for(3)


@pytest.mark.parametrize("term", [ORDERLY, STUBBORN])
def test_newer_code_takes_the_place_of_older(crew: Crew, term: str) -> None:
    crew.install("aaaa", term)
    crew.join()
    old, _ = crew.wait_for(1)
    keeper = crew.keeper()
    crew.install("bbbb")
    said = crew.join(BUSTIMES_LEAVE_SECONDS="1" if term == STUBBORN else "60")
    assert "The member with the code aaaa is asked to end." in said
    assert ("so it is killed" in said) == (term == STUBBORN)
    wait_until(lambda: is_gone(old) and is_gone(keeper), lambda: "still there")
    assert crew.wait_for(2)[1] == "bbbb"
    assert len(crew.members()) == 2

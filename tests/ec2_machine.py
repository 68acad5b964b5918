"""A folder that stands for an instance, where the scripts of the instances run for real."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import PROJECT

SCRIPTS = PROJECT / "ops/ec2/scripts"


@dataclass
class Instance:
    """A folder that stands for an instance: its home, its commands, its environment."""

    folder: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def command(self, name: str, text: str) -> None:
        """Put a command of its own before those of this machine."""
        path = self.folder / "bin" / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def start(self, script: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            ["bash", str(SCRIPTS / script), *arguments],
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, script: str, *arguments: str, **environment: str) -> tuple[int, str]:
        """The exit code, and all that was said."""
        process = self.start(script, *arguments, **environment)
        said, _ = process.communicate(timeout=120)
        return process.returncode, said


def new_instance(folder: Path, **environment: str) -> Instance:
    """An instance as it comes from EC2; of Python it has what `dnf` has installed."""
    (folder / "bin").mkdir(parents=True)
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    (folder / "bin/python3.11").symlink_to(python)
    one = Instance(
        folder,
        {  # no HOME: SSM's agent gives none either
            "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
            "BUSTIMES_HOME": str(folder / "home"),
            "PYTHONPATH": ":".join(path for path in sys.path if path.endswith("site-packages")),
        }
        | environment,
    )
    one.command("aws", f'exec "{sys.executable}" -m awscli "$@"')
    return one

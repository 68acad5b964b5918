"""`make audit`: is anything that is installed here known to be vulnerable? For all lock files.

Asks OSV (osv.dev) by pip-audit, which has an environment of its own. What every package is pinned
to is sent there, by name and version, and nothing else. A package that could not be looked up is
not taken for a safe one. Only on demand, for an advisory of tomorrow must not break the build of
today; nothing is changed. Ends with 0 where nothing is known, 1 where something is, and 2 where it
could not be found out.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import figures
from tasks.problem import Problem
from tasks.settings import PROJECT

_TOOL = Path(sys.prefix, "audit", "bin", "pip-audit")
_OSV = "https://api.osv.dev/v1/query"


@dataclass(frozen=True)
class Finding:
    """A package with a known vulnerability, and the lock files that name it."""

    package: str
    version: str
    vulnerability: str
    fixed_in: list[str]
    locks: list[str]

    def __str__(self) -> str:
        better = " or ".join(self.fixed_in) or "no version yet"
        return (
            f"{self.package} {self.version}: {self.vulnerability}, fixed in {better} "
            f"({', '.join(self.locks)})"
        )


def locks(project: Path = PROJECT) -> list[Path]:
    """Every lock file of the project."""
    folders = ("ops", "tasks", "tests")
    return [
        *project.glob("*.lock"),
        *(p for one in folders for p in project.glob(f"{one}/**/*.lock")),
    ]


def audit(files: list[Path], tool: Path = _TOOL, url: str = _OSV) -> tuple[int, list[Finding]]:
    """How many packages were looked up, and what is known; raises `Problem` if some were not."""
    command = [
        *(tool, "--disable-pip", "--require-hashes", "--progress-spinner", "off"),
        *("--format", "json", "--vulnerability-service", "osv", "--osv-url", url),
        *(word for file in files for word in ("--requirement", file)),
    ]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        packages = json.loads(ended.stdout)["dependencies"]
    except FileNotFoundError:
        raise Problem(f"pip-audit is not there ({tool}): make audit installs it.") from None
    except (ValueError, KeyError, TypeError):
        why = ended.stderr.strip().rpartition("\n")[2] or "it says nothing"
        raise Problem(
            f"The dependencies could not be looked up: {why}. Check the network, and that every "
            "line of the lock files has its hash."
        ) from None
    unknown = [one["name"] for one in packages if "skip_reason" in one]
    if unknown or not packages:
        raise Problem(f"Not everything could be looked up: {', '.join(unknown) or 'nothing'}.")
    return len(packages), [
        _finding(one, vulnerability, files) for one in packages for vulnerability in one["vulns"]
    ]


def _finding(package: dict[str, Any], vulnerability: dict[str, Any], files: list[Path]) -> Finding:
    name, version = package["name"], package["version"]
    pinned = f"{name}=={version}".lower()
    named = [
        file.relative_to(PROJECT).as_posix() if file.is_relative_to(PROJECT) else file.name
        for file in files
        if pinned in file.read_text().lower().replace("_", "-").split()
    ]
    known_as = sorted({vulnerability["id"], *vulnerability.get("aliases", [])})
    return Finding(
        name, version, " = ".join(known_as), vulnerability.get("fix_versions", []), named
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.audit", description="Known weaknesses.")
    parser.add_argument("--osv-url", default=_OSV, help="another OSV than %(default)s")
    options = parser.parse_args(arguments)
    files = locks()
    try:
        count, findings = audit(files, url=options.osv_url)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    print("\n".join(map(str, findings)) or "No vulnerability is known.")
    packages = figures.count(count, "package")
    print(f"{packages} of {figures.count(len(files), 'lock file')} looked up at {options.osv_url}.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

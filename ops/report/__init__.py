"""`make report`: what the archive holds, as one HTML file that people would rather look at.

From the destination alone: its listing, manifests, and what verify and prune have left there; the
raw side is not read, and nothing is changed. `reading` takes it in, `states`, `days`, `fields`,
`sizes`, `refusals` and `speed` make figures of it, `words` makes sentences, `charts` says what is
drawn, and `page` puts it all into one file.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from tasks.bustimes.archive import Archive
from tasks.bustimes.archive import now as time_now
from tasks.problem import Problem
from tasks.settings import load_local
from tasks.storage import open_root

FILE = "report.html"


@dataclass(frozen=True)
class Written:
    """Where a report is, and what it says in two sentences."""

    place: str
    sentences: tuple[str, str]

    def lines(self) -> list[str]:
        """What to print."""
        return [self.place, *self.sentences]


def report(archive: Archive, to: str = "", now: dt.datetime | None = None) -> Written:
    """Write the report of an archive; `now` is the time by which weeks are over.

    `to` is a file that ends with .html, or a folder or ``s3://bucket/prefix`` for a report.html in
    it; without it, it goes below this machine's own files. Raises `Problem`.
    """
    try:
        from ops.report import content, page
    except ModuleNotFoundError as error:
        raise Problem(
            f"The report needs {error.name}, which is not installed: make report installs it, or "
            "pip install --require-hashes -r ops/report/requirements.lock."
        ) from None

    folder, name = target(to)
    made = content.content(archive, now or time_now())
    open_root(folder).write(name, page.render(made.values))
    return Written(f"{folder}/{name}", made.sentences)


def target(to: str) -> tuple[str, str]:
    """The root that a report goes to, and its name there."""
    to = to.strip().rstrip("/") or str(load_local().state / "report")
    is_bucket = "://" in to and to.count("/") < 3
    if is_bucket or not to.lower().endswith((".html", ".htm")):
        return to, FILE
    if "://" not in to:
        path = Path(to).expanduser().absolute()
        return str(path.parent), path.name
    folder, _, name = to.rpartition("/")
    return folder, name

"""`make report`: what the archive holds, as one HTML file that people would rather look at.

From the destination alone: its listing, manifests, and what verify and prune have left there; the
raw side is not read, and nothing is changed. `reading` takes it in, `states`, `days`, `fields`,
`sizes`, `refusals` and `speed` make figures of it, `words` makes sentences, `charts` says what is
drawn, and `page` puts it all into one file.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from tasks import advice
from tasks.bustimes.archive import Archive
from tasks.bustimes.archive import now as time_now
from tasks.problem import Problem
from tasks.settings import load_local
from tasks.storage import open_root
from tasks.storage.address import S3Place, place_of

FILE = "report.html"


@dataclass(frozen=True)
class Written:
    """Where a report is, what it says in two sentences, and commands to run next, with why."""

    place: str
    sentences: tuple[str, str]
    commands: list[tuple[str, str]]

    def lines(self) -> list[str]:
        """What to print."""
        return [self.place, *self.sentences, *advice.lines(self.commands)]


def report(archive: Archive, to: str = "", now: dt.datetime | None = None) -> Written:
    """Write the report of an archive; `now` is the time by which weeks are over.

    `to` is a file that ends with .html, or a folder or ``s3://bucket/prefix`` for a report.html in
    it; without it, it goes below this machine's own files. Raises `Problem`.
    """
    try:
        from ops.report import content, page
    except ModuleNotFoundError as error:
        raise Problem(
            f"The report needs {error.name}, which is not installed: {advice.make('report')} "
            "installs it, or pip install --require-hashes -r ops/report/requirements.lock."
        ) from None

    folder, name = target(to)
    made = content.content(archive, now or time_now())
    root = open_root(folder)
    root.write(name, page.render(made.values))
    return Written(root.address_of(name), made.sentences, made.commands)


def target(to: str) -> tuple[str, str]:
    """The address of the root that a report goes to, and its name there."""
    place = place_of(to if to.strip() else str(load_local().state / "report"))
    if isinstance(place, Path):
        return (str(place.parent), place.name) if _is_page(place.name) else (str(place), FILE)
    around, slash, name = place.prefix.removesuffix("/").rpartition("/")
    if not _is_page(name):
        return place.url, FILE
    return S3Place(place.bucket, around + slash).url, name


def _is_page(name: str) -> bool:
    return name.lower().endswith((".html", ".htm"))

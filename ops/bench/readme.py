"""Where the figures of a run are shown: the READMEs, and beside them the plot and the results.

`put_in_place` is what ``make bench BENCH=--readme`` does after measuring. It rewrites what stands
between two comments of each README, and nothing else; the same results give the same text.
"""

from collections.abc import Iterable
from pathlib import Path

from ops.bench import plot, report
from ops.bench.results import Results
from tasks.problem import Problem

BEGIN, END = "<!-- from make bench BENCH=--readme -->", "<!-- end of make bench -->"

_PICTURE = "Speed against what people would use instead, and memory over time"


def put_in_place(results: Results, project: Path) -> list[Path]:
    """Show the results in the project's folder; returns the files that were written."""
    here = project / "ops" / "bench"
    written = {path: text_with(path, results) for path in _readmes(project)}
    written[here / "plot.svg"] = plot.svg(results)
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    results.write(here / "results.json")
    return [*written, here / "results.json"]


def check(project: Path) -> None:
    """Raises `Problem` unless each README has its place for the figures."""
    for path in _readmes(project):
        _parts(path)


def text_with(readme: Path, results: Results) -> str:
    """The text of a README with these results in it; raises `Problem` if it has no place."""
    before, after = _parts(readme)
    shown = _everything(results) if readme.parent.name == "bench" else _in_short(results)
    return "\n".join([before + BEGIN, *shown, END + after])


def _parts(readme: Path) -> tuple[str, str]:
    """What stands before and behind the place for the figures."""
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise Problem(
            f"{readme} has no place for the figures: a line {BEGIN} and, somewhere below it, a "
            f"line {END}."
        )
    return before, after


def _readmes(project: Path) -> Iterable[Path]:
    return project / "README.md", project / "ops" / "bench" / "README.md"


def _in_short(results: Results) -> list[str]:
    return [f"![{_PICTURE}](ops/bench/plot.svg)", "", *report.summary(results)]


def _everything(results: Results) -> list[str]:
    return [f"![{_PICTURE}](plot.svg)", "", *report.lines(results, markdown=True)]

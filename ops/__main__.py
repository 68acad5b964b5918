"""The commands behind the Makefile: ``python -m ops COMMAND --help``.

Each command prepares its place, does one thing through `tasks`, and ends with an exit code that
tells the truth: 0 when it did what was asked, 1 when something is left or wrong, 2 for a mistake
that the message explains, 130 when interrupted (Ctrl-C), 143 when terminated. A `Problem` is
printed as its sentence.
"""

import argparse
import contextlib
import locale
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from ops import beginning
from ops import place as places
from ops.options import COMMANDS
from tasks import advice, forks, open_files, own_files, run_log, secrets, standard_streams
from tasks.bustimes.programs import converter
from tasks.out_of_memory import SENTENCE, check_limit, is_out_of_memory
from tasks.problem import Problem
from tasks.progress import RunProgress, in_terminal, log_to, say, tell
from tasks.settings import load, load_local

if TYPE_CHECKING:
    from tqdm import tqdm

STANDING_FILE = "progress.json"
"""Where a run stands, in the folder of this machine's own files."""


_LOG_LINES = 100
_LOGGED = {"smoke", "full", "refresh", "sync", "verify", "report", "restore", "prune"}
"""Commands that keep what they say: not those that only look at what there is."""


def smoke(options: argparse.Namespace) -> int:
    from ops.smoke import WEEK
    from ops.smoke import smoke as run_smoke
    from tasks.weeks import Week

    place = _started(options, with_luigid=not options.local_scheduler)
    scheduler = None if options.local_scheduler else place.luigid.address
    run_smoke(place, Week.parse(options.weeks) if options.weeks else WEEK, scheduler)
    return 0


def full(options: argparse.Namespace) -> int:
    own_luigid = not (options.local_scheduler or options.scheduler)
    place = _started(options, with_luigid=own_luigid)
    forks.load(converter(load().source))  # while this process loads what it needs itself
    try:
        return _full(options, place, own_luigid)
    finally:
        forks.unload()


def _full(options: argparse.Namespace, place: places.Place, own_luigid: bool) -> int:
    # What luigi would import if it is there: schemas of parameters, requests to luigid, tornado.
    unneeded = ("jsonschema", "tornado", *(("requests",) if options.local_scheduler else ()))
    with beginning.quick(without=unneeded):
        from tasks.bustimes.graph import AllWeeks, run

    if place.s3 is not None:
        _fill_if_empty()
    weeks = {"weeks": options.weeks, "from": options.first, "to": options.last}
    with beginning.quick():
        task = AllWeeks(**weeks, refresh=options.refresh)
        task.requires()  # finds mistakes before luigi does, and says them better
    if own_luigid:
        say(f"Every week and its progress: {place.page}")
    scheduler = place.luigid.address if own_luigid else options.scheduler
    if run(task, options.workers, scheduler, place.state / STANDING_FILE):
        verify = advice.make("verify", WEEKS=options.weeks, FROM=options.first, TO=options.last)
        say("Done: every week that was asked for is there.")
        for line in advice.lines([(verify, "checks them")]):
            say(line)
        return 0
    say("Not everything was done; what went wrong is said above. The next run goes on from here.")
    return 1


def refresh(options: argparse.Namespace) -> int:
    options.refresh = True
    return full(options)


def restore(options: argparse.Namespace) -> int:
    from tasks import figures
    from tasks.bustimes.archive import Archive
    from tasks.bustimes.restore import restore as write_back
    from tasks.bustimes.restore import snapshots_to_restore
    from tasks.storage import open_root
    from tasks.weeks import Week

    _started(options)
    if not options.week or not options.to:
        example = advice.make("restore", WEEK="2018-W25", TO="folder")
        raise Problem(f"Say which week, and where to, as in: {example}")
    archive, week, to = Archive.open(), Week.parse(options.week), open_root(options.to)
    total = 1 if options.snapshot else snapshots_to_restore(archive, week)
    with _bar(total=total, desc="restore", unit="snapshot") as bar:
        back = write_back(archive, week, to, options.snapshot, bar.update)
    written = back.snapshots - back.were_there
    done = f"written to {to.url}"
    if back.were_there:
        done = f"in {to.url}: {written:,} written, {back.were_there:,} were there already"
    tell(
        f"{week}: {figures.count(back.snapshots, 'snapshot')} with "
        f"{figures.count(back.records, 'record')}, {figures.size(back.bytes)}, {done}."
    )
    if back.refused:
        tell(f"{figures.count(back.refused, 'snapshot')} that had been refused came back as kept.")
    if back.merged:
        tell(
            f"{figures.count(back.merged, 'snapshot')} of the same second as another one came back "
            "empty, and that one with the records of both."
        )
    if not back.knows_names:
        tell(
            "The week was converted before there were inventories: empty snapshots are not known, "
            "and all names begin with raw/."
        )
    return 0


def prune(options: argparse.Namespace) -> int:
    from ops.prune import Choice, candidates_of, delete, say_what_may_go
    from tasks.bustimes.archive import Archive
    from tasks.bustimes.prune import must_be_allowed

    _started(options)
    archive = Archive.open()
    if options.confirm:
        must_be_allowed(archive, options.confirm)
    weeks = archive.chosen_weeks(options.weeks, options.first, options.last)

    def bar(total: int, title: str, unit: str) -> "tqdm[Any]":
        return _bar(total=total, desc=title, unit=unit)

    candidates = candidates_of(archive, weeks, bar)
    if options.confirm:
        return delete(archive, options.confirm, candidates, tell, bar)
    given = {"WEEKS": options.weeks, "FROM": options.first, "TO": options.last}
    choice = Choice(weeks, given)
    for line in say_what_may_go(archive, choice, candidates):
        tell(line)
    return 0


def plan(options: argparse.Namespace) -> int:
    from ops.ec2 import comparison
    from tasks.bustimes.archive import Archive
    from tasks.bustimes.plan import check_kept_rate, kept_rate
    from tasks.bustimes.plan import plan as make_plan

    place = _started(options)
    if place.s3 is not None:
        _fill_if_empty()
    check_kept_rate(place.state, say)
    archive = Archive.open()
    weeks = archive.chosen_weeks(options.weeks, options.first, options.last)
    with _bar(desc="weeks listed") as bar:
        made = make_plan(
            archive,
            weeks,
            os.cpu_count() or 1,
            kept_rate(place.state),
            bar.update,
            everything=not options.weeks,
        )
    given = {"WEEKS": options.weeks, "FROM": options.first, "TO": options.last}
    following = [(advice.make("full", **given), "converts them")]
    if not made.to_do:
        following = [(advice.make("verify", **given), "checks what is done")] if made.done else []
    on_ec2 = comparison.lines(made) if made.is_all_s3 else ()
    print("\n".join([*made.lines(), *on_ec2, *advice.lines(following, width=13)]))
    return 0


def status(options: argparse.Namespace) -> int:
    from ops.status import lines
    from tasks.bustimes.archive import Archive

    place = places.prepare()
    if place.s3 is not None and not place.s3.is_here():
        starts = f"{advice.make('smoke')} or {advice.make('full')}"
        print(f"Nothing runs here: {starts} starts what is needed.")
        return 0
    weeks = Archive.open().chosen_weeks(options.weeks, options.first, options.last)
    for line in lines(place, weeks):
        print(line)
    return 0


def sync(options: argparse.Namespace) -> int:
    from tasks.bustimes.archive import Archive, publish_waiting

    _started(options)
    archive = Archive.open()
    waiting = archive.spool.waiting()
    failed = 0
    for spooled in _bar(waiting, desc="upload"):
        try:
            tell(f"{spooled.week} {publish_waiting(archive, spooled)}.")
        except Problem as problem:
            say(str(problem), logging.ERROR)
            failed += 1
    if not waiting:
        tell(f"Nothing waits for {archive.destination.url} in {archive.settings.spool}.")
    return 1 if failed else 0


def verify(options: argparse.Namespace) -> int:
    from tasks.bustimes.archive import Archive
    from tasks.bustimes.verify import verify as check_all

    _started(options)
    archive = Archive.open()
    weeks = archive.chosen_weeks(options.weeks, options.first, options.last)
    with _bar(total=len(weeks), desc="verify", unit="week") as bar:

        def on_week(_: object) -> None:
            bar.update()
            if bar.n == len(weeks):
                bar.close()  # what is read from now on has bars of its own

        report = check_all(
            archive,
            weeks,
            options.deep,
            on_week,
            options.seed,
            options.share,
            RunProgress,
            everything=not options.weeks,
        )
    for line in report.lines():
        tell(line)
    return 0 if report.is_fine else 1


def report(options: argparse.Namespace) -> int:
    from ops.report import report as write_report
    from tasks.bustimes.archive import Archive

    _started(options)
    for line in write_report(Archive.open(), options.to).lines():
        tell(line)
    return 0


def luigid(_options: argparse.Namespace) -> int:
    place = places.prepare()
    place.make_state()
    place.luigid.start()
    print(f"luigid runs: {place.page}")
    return 0


def ui(options: argparse.Namespace) -> int:
    return luigid(options)


def logs(_options: argparse.Namespace) -> int:
    from ops.logs import last_run

    last = last_run(places.prepare().logs)
    if last is None:
        starts = f"{advice.make('smoke')} or {advice.make('full')}"
        print(f"There are no logs yet: {starts} writes some.")
        return 0
    left_out = len(last.lines) - _LOG_LINES
    which = f"its last {_LOG_LINES} lines, of {len(last.lines):,}" if left_out > 0 else "all of it"
    print(f"{last.title} ({which}; {last.path}):")
    print("\n".join(last.lines[-_LOG_LINES:]))
    return 0


def setup(options: argparse.Namespace) -> int:
    place = _started(options, with_luigid=True)
    if place.s3 is not None:
        print(f"embedded S3  http://127.0.0.1:{place.s3.port}")
    print(f"luigid       {place.page}")
    print(f"Ready: {advice.make('smoke')} tries a week, {advice.make('full')} converts all.")
    return 0


def teardown(_options: argparse.Namespace) -> int:
    from tasks import figures
    from tasks.bustimes.plan import RATE_FILE

    place = places.everything()
    for service in place.services:
        if service.is_running():
            service.stop()
            print(f"The {service.name} is stopped.")
    spool = load().spool
    waiting = list(spool.glob("*/????-W??/manifest.json"))
    aside = list(spool.glob("*/*.damaged*"))
    ours = {
        "s3": "",
        "luigid": "luigid's history",
        "log": "all logs",
        RATE_FILE: "the rate measured here",
        STANDING_FILE: "",
        "progress.lock": "",
    }
    removed = [told for name, told in ours.items() if told and (place.state / name).exists()]
    for name in ours:
        _remove(place.state / name)
        for damaged in place.state.glob(f"{name}.damaged*"):
            _remove(damaged)
    if not waiting and not aside and spool.resolve().is_relative_to(place.state.resolve()):
        _remove(spool)
    with contextlib.suppress(OSError):  # somebody else's files are in it
        place.state.rmdir()
    if waiting:
        weeks = figures.count(len(waiting), "finished week")
        print(f"{spool} stays, with {weeks} that {advice.make('sync')} uploads.")
    else:
        print("Nothing runs any more, and the files of the services are gone.")
    if removed:
        print(f"Removed with them: {', '.join(removed)}.")
    for path in aside:
        print(f"{path} stays: it was put aside. Remove it once its week is in the archive.")
    return 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _add_the_current_week(options: argparse.Namespace) -> None:
    """With CURRENT=1 the range ends with the week that is not over yet, or the list gets it."""
    if getattr(options, "current", False):
        from tasks.bustimes.archive import now
        from tasks.weeks import Week

        current = Week.of(now()).label
        if options.weeks:
            options.weeks = f"{options.weeks},{current}"
        elif not options.last:
            options.last = current


def _started(options: argparse.Namespace, with_luigid: bool = False) -> places.Place:
    """The command's place with its services, and its log."""
    from tasks.storage import tally

    place = places.prepare()
    place.make_state()
    if options.command in _LOGGED:
        settings = load()
        where = f"{settings.source} -> {settings.destination}"
        log_to(place.logs / f"{options.command}.log", f"{_as_typed(options)} ({where})")
    place.start(with_luigid)
    tally.of_process.take()  # what making buckets took is none of what a run asks for
    return place


def _as_typed(options: argparse.Namespace) -> str:
    """The command as make got it, or would have."""
    given = {
        one.name: 1 if one.is_switch else getattr(options, one.attribute)
        for one in COMMANDS[options.command].flags
        if getattr(options, one.attribute) != one.default
    }
    return advice.make(options.command, **given)


def _bar(things: Iterable[Any] | None = None, unit: str = "week", **options: Any) -> "tqdm[Any]":
    """A bar over the things, or over what it is told of; only where someone watches."""
    from tqdm import tqdm  # here: it takes a while to import, and a run does without it

    return tqdm(things, unit=f" {unit}", leave=False, disable=not in_terminal(), **options)


def _fill_if_empty() -> None:
    """The embedded server starts empty: give it something to convert."""
    from ops.smoke import WEEK, fill
    from tasks.bustimes.archive import Archive

    archive = Archive.open()
    if next(archive.source.objects(""), None) is None:
        say(f"The embedded S3 server is empty: it gets {fill(archive, WEEK)}.")


def _parser() -> argparse.ArgumentParser:
    """Of the table of options; values are texts, which `_read` reads."""
    parser = argparse.ArgumentParser(
        prog="python -m ops", description="The commands behind the Makefile.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in _RUN:
        one = COMMANDS[name]
        command = commands.add_parser(name, help=one.help, description=one.help, allow_abbrev=False)
        for option in (*one.flags, *one.internal):
            kind: dict[str, Any] = (
                {"action": "store_true"}
                if option.is_switch
                else {"default": None, "metavar": option.metavar or None}
            )
            text = f"with --on ec2: {option.help}" if option.ec2_only else option.help
            command.add_argument(option.flag, dest=option.attribute, help=text, **kind)
    return parser


def _read(options: argparse.Namespace) -> None:
    """Turn the texts of options into values; raises `Problem`."""
    one = COMMANDS[options.command]
    for option in (*one.flags, *one.internal):
        text = getattr(options, option.attribute)
        if text is None or text == "":
            setattr(options, option.attribute, option.default)
        elif not option.is_switch:
            setattr(options, option.attribute, option.read_as(text, f"{option.flag} {text}"))


class _Stopped(KeyboardInterrupt):
    """A signal asks to stop; any other kind of exception luigi would take for a failed task's."""


def _stop_when_asked() -> None:
    """Have Ctrl-C and SIGTERM end this process in order, and at once when they come again."""
    this_process = os.getpid()

    def stop(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != this_process:  # a worker that luigi forked: what it started ends with it
            os._exit(128 + number)
        signal.signal(number, signal.SIG_DFL)
        raise _Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    standard_streams.prepare()
    secrets.guard()
    options = _parser().parse_args(arguments)
    _stop_when_asked()
    try:
        _read(options)
        check_limit()
        open_files.ask_for_many()
        _add_the_current_week(options)
        if options.on == "ec2":
            from ops.ec2 import commands

            os.environ[advice.ON] = options.on

            return commands.run(options)
        if options.dry_run:
            raise Problem(
                "DRY_RUN=1 goes with ON=ec2. On this machine, "
                f"{advice.make('plan')} says what a run would do."
            )
        log = load_local().state / "log" / f"{options.command}.jsonl"
        if log.parent.parent.is_dir():
            own_files.make_way(log, say)
        run_log.begin(log)
        return _RUN[options.command](options)
    except Problem as problem:
        say(str(problem), logging.ERROR)
        return 2
    except _Stopped as stopped:
        say("Interrupted. What is finished is kept; the next run goes on from here.")
        return 128 + int(stopped.args[0])
    except BrokenPipeError:
        return 1  # whoever read the output has gone
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(SENTENCE, file=sys.stderr)
        return 1


_RUN: dict[str, Callable[[argparse.Namespace], int]] = {
    command.__name__: command
    for command in (
        *(smoke, full, refresh, plan, status, logs, sync, verify, report, restore, prune),
        *(luigid, ui, setup, teardown),
    )
}


def _use_utf8() -> None:
    """Begin anew in UTF-8 where the locale is another: names and sentences may hold anything."""
    has_utf8 = sys.flags.utf8_mode or locale.getencoding().lower().replace("-", "") == "utf8"
    if not has_utf8 and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"  # for all that this command starts as well
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    _use_utf8()
    sys.exit(main())

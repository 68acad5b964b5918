"""What is sent to the instances to do: the commands that run there, and the run itself.

A command runs on one instance and is waited for; a run is written on the board, and every instance
is told to look. Changes nothing in AWS but what the instances themselves then do.
"""

import argparse
import datetime as dt
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ops.ec2 import bundle, remote
from ops.ec2.board import Run, now
from ops.ec2.site import SCRIPTS, Site, settings_of_run
from tasks import advice, figures
from tasks.problem import Problem
from tasks.storage.address import place_of
from tasks.storage.s3 import S3Prefix

if TYPE_CHECKING:
    from ops.ec2.fleet import Instance

_PREPARE_SECONDS = 1800
_COMMAND_SECONDS = 48 * 3600


def smoke(site: Site, options: argparse.Namespace) -> int:
    weeks = ["--weeks", options.weeks] if options.weeks else []
    return _on_one(site, options, ["smoke", "--local-scheduler", *weeks])


def verify(site: Site, options: argparse.Namespace) -> int:
    deep = ["--deep"] if options.deep else []
    share = ["--share", str(options.share)] if options.share else []
    seed = ["--seed", str(options.seed)] if options.seed is not None else []
    return _on_one(site, options, ["verify", *deep, *share, *seed, *_choice(options)])


def refresh(site: Site, options: argparse.Namespace) -> int:
    options.refresh = True
    return full(site, options)


def restore(site: Site, options: argparse.Namespace) -> int:
    if not options.to or isinstance(place_of(options.to), Path):
        raise Problem(
            "On EC2 a week is restored to S3: TO=s3://bucket/prefix. Without ON=ec2 it comes to "
            "this machine."
        )
    given = {"--week": options.week, "--snapshot": options.snapshot, "--to": options.to}
    arguments = [text for pair in given.items() if pair[1] for text in pair]
    return _on_one(site, options, ["restore", *arguments])


def prune(site: Site, options: argparse.Namespace) -> int:
    if options.confirm:
        _must_be_allowed_to_delete(site, options.confirm)
    confirm = ["--confirm", options.confirm] if options.confirm else []
    return _on_one(site, options, ["prune", *confirm, *_choice(options)])


def sync(site: Site, options: argparse.Namespace) -> int:
    targets = [one.id for one in _instances(site)]
    if options.dry_run:
        _would_send("sync", targets)
        return 0
    return max(_send(site, "command", ["sync"], targets, _COMMAND_SECONDS, _print).values())


def full(site: Site, options: argparse.Namespace) -> int:
    instances = _instances(site)
    _must_be_set_up_for(site, len(instances))
    found = site.board.run_with_etag()
    order = Run(
        run_id=f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
        state="running",
        started=now(),
        weeks=options.weeks,
        first=options.first,
        last=options.last,
        refresh=options.refresh,
        workers=options.workers,
        settings=settings_of_run(),
        keep=options.keep,
        by=site.aws.arn,
        code=bundle.make().hash,
    )
    _check_weeks(options)
    if found is not None and found[0].is_running and not _is_same(found[0], order):
        raise Problem(
            f"Another run is on since {found[0].started}, started by {found[0].by}: "
            f"{advice.make('status', ON='ec2')} shows it. Wait for its end, or end it with "
            f"{advice.make('teardown', ON='ec2', FORCE=1)}"
        )
    targets = [one.id for one in instances]
    if options.dry_run:
        print(f"A run of {_range(order)} would start on {figures.count(len(targets), 'instance')}:")
        _would_send("join", targets)
        return 0
    if found is not None and found[0].is_running:
        print("This run is on already; instances that do not take part yet join it.")
    elif site.board.write_run(order, found[1] if found is not None else "") is None:
        status = advice.make("status", ON="ec2")
        raise Problem(f"Somebody else has started a run this very moment: {status} shows it.")
    site.fleet.keep()  # a setup that was broken off may have left a time for it to end
    said: list[str] = []
    try:
        on_all(site, "join", [], targets, said.append)
    except Problem:
        print("\n".join(said), file=sys.stderr)
        raise
    print(
        f"The run is on: {_range(order)}, on {figures.count(len(targets), 'instance')}. It needs "
        "this machine no longer.\n"
        f"{advice.make('status', ON='ec2')} shows how far it is, {advice.make('logs', ON='ec2')} "
        f"what it says, {advice.make('ui', ON='ec2')} luigid's page."
    )
    if not order.keep:
        print("When all weeks are done and verified, the fleet ends itself (KEEP=1 keeps it).")
    return 0


def _instances(site: Site) -> list["Instance"]:
    """Those that scripts can be sent to; raises `Problem` where there are none."""
    found = [one for one in site.fleet.instances() if one.is_ready]
    if not found:
        if site.stack.describe() is None:
            setup = advice.make("setup", ON="ec2")
            raise Problem(f"There is no fleet {site.ec2.stack} yet: {setup} makes one.")
        raise Problem(
            f"The fleet {site.ec2.stack} has no instance that can be reached: "
            f"{advice.make('setup', ON='ec2')} starts some, and "
            f"{advice.make('status', ON='ec2')} shows what there is."
        )
    return found


def _on_one(site: Site, options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Run a command of the project on one instance; returns its exit code there."""
    _check_weeks(options)
    target = _instances(site)[0].id
    given = [f"{name}={value}" for name, value in settings_of_run().items()]
    if options.dry_run:
        _would_send(" ".join([*given, *arguments]), [target])
        return 0
    print(f"On {target}:", flush=True)
    words = [*given, *arguments]
    return _send(site, "command", words, [target], _COMMAND_SECONDS, _print)[target]


def on_all(
    site: Site,
    name: str,
    arguments: Sequence[str],
    targets: Sequence[str],
    show: Callable[[str], None],
) -> None:
    """Run a script on instances; raises `Problem` unless it succeeds on all of them."""
    codes = _send(site, name, arguments, targets, _PREPARE_SECONDS, show)
    failed = [instance for instance, code in codes.items() if code]
    if failed:
        raise Problem(f"{name}.sh failed on {', '.join(failed)}: why, is said above.")


def _send(
    site: Site,
    name: str,
    arguments: Sequence[str],
    targets: Sequence[str],
    seconds: int,
    show: Callable[[str], None],
) -> dict[str, int]:
    """Run a script on instances, and show what it prints there; returns its exit codes."""

    def on_line(instance: str, line: str) -> None:
        show(f"{instance}  {line}" if len(targets) > 1 else line)

    return remote.run(
        site.aws,
        site.ec2.stack,
        SCRIPTS / f"{name}.sh",
        arguments,
        instances=targets,
        on_line=on_line,
        timeout_seconds=seconds,
    )


def _print(line: str) -> None:
    print(line, flush=True)


def _would_send(what: str, targets: Sequence[str]) -> None:
    print(f"Would run on {', '.join(targets)}: {what}")


def _choice(options: argparse.Namespace) -> list[str]:
    given = {"--weeks": options.weeks, "--from": options.first, "--to": options.last}
    return [part for name, value in given.items() if value for part in (name, value)]


def _check_weeks(options: argparse.Namespace) -> None:
    """Find a mistake here before an instance does."""
    from tasks.bustimes.archive import Archive

    first, last = getattr(options, "first", ""), getattr(options, "last", "")
    Archive.open().chosen_weeks(getattr(options, "weeks", ""), first, last)


def _must_be_set_up_for(site: Site, ready: int) -> None:
    """Raises `Problem` where the stack was made for other places, or for fewer instances."""
    state = site.stack.describe()
    made = state.parameters if state is not None else {}
    places = {
        "SourceBucket": site.source_bucket,
        "DestinationBucket": site.destination.bucket,
        "DestinationPrefix": site.destination.prefix.rstrip("/"),
    }
    other = [made[name] for name, value in places.items() if made.get(name, value) != value]
    if other:
        raise Problem(
            f"The fleet was set up for other places ({', '.join(other)}). First run "
            f"{advice.make('setup', ON='ec2')}"
        )
    if ready < site.ec2.instances:
        raise Problem(
            f"Of {site.ec2.instances} instances, {ready} can be reached: "
            f"{advice.make('setup', ON='ec2', INSTANCES=site.ec2.instances)} brings the rest, and "
            f"INSTANCES={ready} goes on with what there is."
        )


def _must_be_allowed_to_delete(site: Site, confirm: str) -> None:
    """Find a mistake here, and not by a denial in the middle."""
    from tasks.bustimes.archive import Archive
    from tasks.bustimes.prune import must_be_allowed

    must_be_allowed(Archive.open(), confirm)
    state = site.stack.describe()
    if state is None:
        return  # there is no instance either, which is said next
    allowed = {"AllowPrune": "yes", "SourcePrefix": S3Prefix(site.settings.source).prefix}
    if any(state.parameters.get(name) != value for name, value in allowed.items()):
        raise Problem(
            f"The instances of {site.ec2.stack} may not delete from {site.settings.source}: the "
            "stack's parameter AllowPrune says so. "
            f"{advice.make('setup', ON='ec2', ALLOW_PRUNE='true')} lets them, and the same "
            "without ALLOW_PRUNE takes that back."
        )


def _is_same(one: Run, other: Run) -> bool:
    names = ("weeks", "first", "last", "refresh", "workers", "settings", "keep")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _range(order: Run) -> str:
    if order.weeks:
        return order.weeks
    if order.first or order.last:
        return f"{order.first or 'the first week'} to {order.last or 'the last finished week'}"
    return "every finished week"

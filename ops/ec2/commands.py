"""What each command does with ON=ec2, from a person's machine.

Every command is a few steps that may be broken off and repeated: what is done already is found
done. Nothing is kept on this machine, so any other with the same settings and credentials may go
on. With DRY_RUN=1 a command looks, says what it would do, and changes nothing. The work itself is
done on the instances, where the very same commands run without ON=ec2.
"""

import argparse
import datetime as dt
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ops.ec2 import (
    bundle,
    comparison,
    costs,
    forward,
    preflight,
    record,
    runlog,
    screen,
    survey,
    traces,
)
from ops.ec2.aws import explained, pauses
from ops.ec2.board import Run, now
from ops.ec2.errands import full, on_all, prune, refresh, restore, smoke, sync, verify
from ops.ec2.notify import webhook_parameter
from ops.ec2.site import TEMPLATE, Site
from ops.ec2.steps import event, step
from tasks import advice, figures
from tasks.problem import Problem
from tasks.settings import load_local, load_notify
from tasks.storage.s3 import S3Prefix

if TYPE_CHECKING:
    from ops.ec2.preflight import Found

_REGISTRATION_SECONDS = 600.0
_LAST_WORDS_SECONDS = 90.0
_LAST_LINES_SECONDS = 3.0


def run(options: argparse.Namespace) -> int:
    """Run a command; returns its exit code. Raises `Problem`."""
    command = _COMMANDS.get(options.command)
    if command is None:
        raise Problem(f"make {options.command} is for this machine: leave ON=ec2 away.")
    return command(Site.open(), options)


def setup(site: Site, options: argparse.Namespace) -> int:
    with step("check") as this:
        found = preflight.check(site.aws, site.settings, site.ec2)
        this.outcome = (
            f"{site.aws.arn} in {site.ec2.region}; {', '.join(site.ec2.instance_types[:2])}"
            f"{' …' if len(site.ec2.instance_types) > 2 else ''}, {found.architecture}"
        )
    for note in found.notes:
        event(note)
    packed = bundle.make()
    url = bundle.url_of(packed, site.code)
    wanted = site.ec2.instances
    price = survey.price_an_hour(site)
    if options.dry_run:
        state = site.stack.describe()
        print(f"code       {url}, {figures.size(len(packed.data))}, would be uploaded")
        there = "is there and would be updated where it differs" if state else "would be made"
        print(f"stack      {site.ec2.stack} {there}: {TEMPLATE.name}")
        print(f"fleet      {figures.count(wanted, 'spot instance')}, {price}")
        print("prepare    Python 3.11, the pinned packages and the code, on each of them")
        print("prove      each lists a raw snapshot and writes one object below _probe/")
        print("Nothing was changed.")
        return 0
    with step("code") as this:
        is_new = bundle.upload(packed, site.code)
        this.outcome = f"{url}{'' if is_new else ', there already'}"
        _keep_webhook(site)
    with step("stack") as this:
        template = TEMPLATE.read_text()
        parameters = _parameters(site, found, url)
        changed = site.stack.ensure(template, parameters, event)
        this.outcome = f"{site.ec2.stack} {'is ready' if changed else 'is as it should be'}"
    with step("fleet") as this:
        if site.fleet.desired() != wanted:
            site.fleet.resize(wanted)
        instances = site.fleet.wait_until_registered(wanted, _REGISTRATION_SECONDS, event)
        this.outcome = ", ".join(f"{one.id} ({one.type} in {one.zone})" for one in instances)
    targets = [one.id for one in instances]
    try:
        for name, arguments in (("prepare", [url, site.ec2.region]), ("prove", []), ("join", [])):
            with step(name) as this:
                on_all(site, name, arguments, targets, event)
                this.outcome = f"done on {figures.count(len(targets), 'instance')}"
    except Problem as problem:
        if survey.working(site):
            raise
        site.fleet.resize(0)
        raise Problem(
            f"{problem} The fleet was set back to zero, so that nothing costs money; "
            f"{advice.make('setup', ON='ec2')} starts it again."
        ) from None
    print(
        f"\nReady: {advice.make('smoke', ON='ec2')} tries a week, "
        f"{advice.make('full', ON='ec2')} converts all. The fleet costs "
        f"{price} from now on; without a run it ends itself after {site.ec2.idle_minutes} minutes."
    )
    return 0


def status(site: Site, options: argparse.Namespace) -> int:
    print("\n".join(screen.lines(survey.view(site, options))))
    return 0


def logs(site: Site, _options: argparse.Namespace) -> int:
    found = site.board.run()
    if found is None:
        print(f"There are no logs: {advice.make('full', ON='ec2')} starts a run.")
        return 0
    started = dt.datetime.fromisoformat(found.started)
    over_since = None if found.is_running else -math.inf

    def until() -> bool:
        """Whether the run is over, and its last words have had the time to arrive."""
        nonlocal over_since
        if over_since is None:
            latest = site.board.run()
            if latest is None or not latest.is_running:
                over_since = time.monotonic()
        return over_since is not None and time.monotonic() - over_since > _LAST_LINES_SECONDS

    for stream, line in runlog.follow(
        site.aws, f"/{site.ec2.stack}", runlog.PREFIX, since=started, until=until
    ):
        print(f"{stream.removeprefix(runlog.PREFIX)}  {line}", flush=True)
    return 0


def report(_site: Site, options: argparse.Namespace) -> int:
    """Made on this machine: a few hundred small objects are read, for less than a cent."""
    from ops.report import report as write_report
    from ops.report import target
    from tasks.bustimes.archive import Archive
    from tasks.storage import open_root

    archive = Archive.open()
    if options.dry_run:
        folder, name = target(options.to)
        page = open_root(folder).address_of(name)
        print(f"{page} would be written, of {archive.destination.url}.")
        return 0
    print("\n".join(write_report(archive, options.to).lines()))
    return 0


def ui(site: Site, options: argparse.Namespace) -> int:
    found = site.board.lease()
    if found is None or not found[0].instance:
        full = advice.make("full", ON="ec2")
        raise Problem(f"luigid runs as long as a run is on, and none is: {full} starts one.")
    lease, port = found[0], load_local().luigid_port
    if options.dry_run:
        print(f"Port {port} of this machine would lead to luigid on {lease.instance}.")
        return 0

    def show() -> None:
        print(f"http://127.0.0.1:{port}/static/visualiser/index.html  (Ctrl-C ends it)", flush=True)

    forward.forward(site.aws, lease.instance, lease.address, lease.port, port, show)
    return 0


def plan(site: Site, options: argparse.Namespace) -> int:
    from tasks.bustimes.archive import Archive
    from tasks.bustimes.plan import kept_rate
    from tasks.bustimes.plan import plan as make_plan

    archive = Archive.open()
    weeks = archive.chosen_weeks(options.weeks, options.first, options.last)
    made = make_plan(archive, weeks, 1, kept_rate(load_local().state))
    kind, count = site.ec2.instance_types[0], site.ec2.instances
    print("\n".join(made.work()))
    if made.to_do:
        names = list(dict.fromkeys([*site.ec2.instance_types, *comparison.COMPARED]))
        prices = costs.ask(site.aws.client("ec2"), names, survey.utc_now())
        taken = costs.estimate(
            made.raw_bytes,
            made.snapshots,
            len(made.to_do),
            count,
            kind,
            prices,
            made.rate,
            site.ec2.disk_gb,
        )
        print(
            f"time         about {figures.duration(taken.seconds)} on "
            f"{figures.count(count, 'instance')} like {kind}{_what_binds(taken)}\n"
            f"cost         about {costs.dollars(taken.cost.total)}: {taken.cost.parts()} "
            f"({prices.origin})"
        )
        print("\n".join([*made.storage(), *comparison.lines(made, prices, site.ec2.disk_gb)]))
    steps = {
        "setup": f"the stack {site.ec2.stack}, {figures.count(count, 'spot instance')}",
        "smoke": "one week, end to end",
        "full": "all of it; verified in the end, then the fleet ends",
        "teardown": "nothing is left but the weeks",
    }
    commands = {advice.make(command, ON="ec2"): what for command, what in steps.items()}
    width = max(map(len, commands))
    for label, (command, what) in zip(["steps", "", "", ""], commands.items(), strict=True):
        print(f"{label:13}{command:{width}}  {what}")
    return 0


def teardown(site: Site, options: argparse.Namespace) -> int:
    found = traces.find(site)
    if not found:
        print(f"Nothing of {site.ec2.stack} is there.")
        return 0
    order = site.board.run_with_etag()
    is_on = order is not None and order[0].is_running and bool(survey.working(site))
    if options.dry_run:
        for words in found:
            print(f"Would be removed: {words}.")
        if is_on:
            print("A run is on: that takes FORCE=1.")
        return 0
    if is_on and not options.force:
        raise Problem(
            f"A run is on: {advice.make('status', ON='ec2')} shows it. "
            f"{advice.make('teardown', ON='ec2', FORCE=1)} ends it and removes the fleet; the "
            "weeks that are done stay."
        )
    if order is not None and order[0].is_running:
        ended = replace(order[0], state="cancelled", ended=now(), sentence="ended by teardown")
        site.board.write_run(ended, order[1])
    seen = survey.view(site, options)
    with step("stack") as this:
        removed = site.stack.delete(event)
        this.outcome = f"{site.ec2.stack} {'is removed' if removed else 'was gone already'}"
    if seen.run is not None or seen.cost.total:
        ended_run = seen.run or Run()
        members = [one.member for one in seen.sightings]
        kept = record.RunRecord(ended_run, members, seen.cost, ended_run.sentence, now())
        record.write(site.destination, kept)
    with step("objects") as this:
        this.outcome = ", ".join(traces.remove(site)) or "none"
        left = _left_after_a_while(site)
    for words in left:
        print(f"Still there: {words}.")
    if left:
        print(f"{advice.make('teardown', ON='ec2')} again removes it.")
        return 1
    status = advice.make("status", ON="ec2")
    print(f"Nothing is left but the weeks. {status} tells what the run has cost.")
    return 0


def _left_after_a_while(site: Site) -> list[str]:
    """What is still there when instances have had the time to end, and to say their last words."""
    deadline = time.monotonic() + _LAST_WORDS_SECONDS
    for pause in pauses():
        left = traces.find(site)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(pause)
        traces.remove(site)
    raise AssertionError("pauses never end")


def _what_binds(taken: costs.Estimate) -> str:
    longest = max(taken.bounds.values())
    if longest < taken.seconds / 2:
        return ", most of it for the fleet to get ready"
    return f"; what binds is {taken.binds}"


def _parameters(site: Site, found: "Found", code_url: str) -> dict[str, str]:
    return {
        "SourceBucket": site.source_bucket,
        "DestinationBucket": site.destination.bucket,
        "DestinationPrefix": site.destination.prefix.rstrip("/"),
        "InstanceTypes": ",".join(site.ec2.instance_types),
        "ImageId": found.image_parameter,
        "Instances": str(site.ec2.instances),
        "DiskGb": str(site.ec2.disk_gb),
        "Vpc": found.vpc,
        "Subnets": ",".join(found.subnets),
        "CodeUrl": code_url,
        "LuigidPort": str(load_local().luigid_port),
        "LogDays": str(site.ec2.log_days),
        "NotifyTopic": load_notify().sns_topic,
        "AllowPrune": "yes" if site.settings.allow_prune else "no",
        "SourcePrefix": S3Prefix(site.settings.source).prefix,
    }


def _keep_webhook(site: Site) -> None:
    """Put the webhook where only the instances read it: its address is as good as a password."""
    webhook, name = load_notify().webhook, webhook_parameter(site.ec2.stack)
    if not webhook:
        return
    with explained(f"The webhook cannot be kept as {name} in Parameter Store"):
        site.aws.client("ssm").put_parameter(
            Name=name, Value=webhook, Type="SecureString", Overwrite=True
        )


_COMMANDS: dict[str, Callable[[Site, argparse.Namespace], int]] = {
    command.__name__: command
    for command in (
        *(setup, smoke, full, refresh, plan, status, logs, sync),
        *(verify, report, restore, prune, ui, teardown),
    )
}

"""A week's hours through converter processes: the same in the same order for any number of them.

What they asked of S3, and the retries that it took, count as this process's own.
"""

import contextlib
from collections.abc import Callable, Generator
from dataclasses import replace

from tasks.bustimes.converter import Job, Setup
from tasks.bustimes.hour import ConvertedHour
from tasks.bustimes.listing import ListedSnapshot
from tasks.bustimes.programs import converter
from tasks.storage import budget, dialect, tally
from tasks.storage.address import Credentials
from tasks.storage.traffic import Traffic
from tasks.workers import FETCHES_AT_ONCE, in_order


def convert_hours(
    hours: list[list[ListedSnapshot]],
    setup: Setup,
    processes: int,
    credentials: Callable[[], Credentials | None],
    renew: Callable[[Credentials | None], Credentials | None] | None = None,
) -> Generator[ConvertedHour]:
    """The converted hours, in the order of `hours`; raises as `tasks.workers.in_order` does.

    `renew` gets credentials that S3 calls expired, and looks for others.
    """
    jobs = (Job(hour, credentials()) for hour in hours)

    def with_fresh_credentials(job: Job) -> Job | None:
        fresh = credentials()
        if fresh == job.credentials and renew is not None:
            fresh = renew(job.credentials)
        return None if fresh == job.credentials else replace(job, credentials=fresh)

    number = max(1, min(processes, len(hours)))
    share = budget.of_run.share_of(setup.patience.retries, number * FETCHES_AT_ONCE)
    setup = replace(setup, patience=replace(setup.patience, retries=share))
    converted: Generator[tuple[ConvertedHour, Traffic]] = in_order(
        converter(setup.source.url), setup, jobs, number, with_fresh_credentials
    )
    with contextlib.closing(converted):
        for hour, traffic in converted:
            budget.of_run.spend(sum(traffic.retries.values()))
            if traffic.attempts:  # not a folder's
                tally.of_process.add("GET", traffic)
                dialect.learn(setup.source.endpoint, traffic)
            yield hour

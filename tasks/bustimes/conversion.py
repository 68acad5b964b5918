"""A week's hours through converter processes: the same in the same order for any number of them."""

from collections.abc import Callable, Generator
from dataclasses import replace

from tasks.bustimes.converter import Job, Setup
from tasks.bustimes.hour import ConvertedHour
from tasks.bustimes.listing import ListedSnapshot
from tasks.settings import PROJECT
from tasks.storage.address import Credentials
from tasks.storage.traffic import Traffic
from tasks.workers import Program, in_order


def convert_hours(
    hours: list[list[ListedSnapshot]],
    setup: Setup,
    processes: int,
    credentials: Callable[[], Credentials | None],
) -> Generator[tuple[ConvertedHour, Traffic]]:
    """The converted hours, in the order of `hours`, each with what fetching it came to.

    Raises as `tasks.workers.in_order` does.
    """
    program: Program[Setup, Job, tuple[ConvertedHour, Traffic]] = Program(
        "tasks.bustimes.converter", "A converter process", PROJECT
    )
    jobs = (Job(hour, credentials()) for hour in hours)

    def with_fresh_credentials(job: Job) -> Job | None:
        fresh = credentials()
        return None if fresh == job.credentials else replace(job, credentials=fresh)

    number = max(1, min(processes, len(hours)))
    yield from in_order(program, setup, jobs, number, with_fresh_credentials)

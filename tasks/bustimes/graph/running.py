"""A run: a task and all it needs, with luigi's scheduler here or in luigid, to its end.

Weeks that another run has under way are waited for, and taken over if that run dies. What luigi
says of settings and of a luigid that is gone becomes a sentence.
"""

import contextlib
import time
from pathlib import Path
from types import FrameType

import luigi
from luigi.execution_summary import LuigiStatusCode
from luigi.metrics import MetricsCollectors
from luigi.rpc import RemoteScheduler, RPCError
from luigi.scheduler import Scheduler
from luigi.task_status import FAILED

from tasks import forks, luigi_messages
from tasks.bustimes.graph import under_way
from tasks.problem import Problem
from tasks.progress import say
from tasks.storage import traffic

_WAIT_SECONDS = 1.0
_INTERRUPTED = "The run was interrupted. The next one goes on from here."
_UNDER_WAY_ELSEWHERE = "being run by another worker"  # luigi's words; it calls this a success


def run(
    task: luigi.Task, workers: int, scheduler: str | None, standing: Path | None = None
) -> bool:
    """Run a task and all it needs; True where everything was done.

    Weeks that another run has under way are waited for, and taken over if that run dies. Without a
    `scheduler`, as ``host:port`` of luigid, the scheduler lives in this process. `standing` is the
    file to keep `tasks.bustimes.standing` in. Asked with SIGUSR1, a run takes no more weeks, and
    ends when those under way are done.
    """
    where: dict[str, object] = {"local_scheduler": True}
    if scheduler is not None:
        host, _, port = scheduler.rpartition(":")
        where = {"scheduler_host": host, "scheduler_port": int(port)}
    under_way.run.begin(workers, standing)
    luigi.configuration.get_config().set("core", "no_configure_logging", "true")
    luigi_messages.print_with(say)
    try:
        return _build(task, workers, where)
    except RPCError:
        say(
            f"The Luigi scheduler at {scheduler} does not answer any more. What is finished is "
            "kept; the next run goes on from here."
        )
        return False
    except (ValueError, OSError) as error:  # a setting of luigi's own, or no room for its locks
        sentence = luigi_messages.sentence_of(error)
        if sentence is None:
            raise
        raise Problem(sentence) from None
    finally:
        forks.unload()
        under_way.run.end()
        for line in traffic.lines(under_way.run.traffic.total()):
            say(line)


def _build(task: luigi.Task, workers: int, where: dict[str, object]) -> bool:
    said = False
    while True:
        result = luigi.build(
            [task],
            workers=workers,
            detailed_summary=True,
            worker_scheduler_factory=_Workers(),
            **where,
        )
        if _Worker.was_asked_to_stop:
            if task.complete():
                return True
            say("Asked to stop: no more weeks are taken. The next run goes on from here.")
            return False
        if result.status in (LuigiStatusCode.SUCCESS, LuigiStatusCode.SUCCESS_WITH_RETRY):
            if _UNDER_WAY_ELSEWHERE not in result.summary_text:
                return True
        elif result.status != LuigiStatusCode.NOT_RUN:
            return False
        if not said:
            say("Another run has some of these weeks under way; waiting for it.")
            said = True
        time.sleep(_WAIT_SECONDS)


class _Worker(luigi.worker.Worker):
    """luigi's worker, which takes no more tasks after SIGUSR1; remembers that it was asked.

    Interrupted (Ctrl-C), it gives back what it has under way: otherwise luigid would show that as
    running, and keep others from it, until it misses the worker.
    """

    was_asked_to_stop = False

    def handle_interrupt(self, signum: int, frame: FrameType | None) -> None:
        _Worker.was_asked_to_stop = True
        super().handle_interrupt(signum, frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: object
    ) -> bool:
        if isinstance(error, KeyboardInterrupt):
            if isinstance(self._scheduler, RemoteScheduler):
                self._scheduler._rpc_retry_attempts = 1  # whoever stops a run does not wait
            with contextlib.suppress(RPCError):
                for task_id in self._running_tasks:
                    self._scheduler.add_task(
                        worker=self._id, task_id=task_id, status=FAILED, expl=_INTERRUPTED
                    )
        return bool(super().__exit__(kind, error, where))


def _quick_to_give_up(_factory: object, url: str) -> RemoteScheduler:
    """A scheduler that is given up after a few seconds without an answer, and not after minutes.

    Set here, since luigi warns of these very settings if they stand in its [core].
    """
    scheduler = RemoteScheduler(url)
    scheduler._rpc_retry_attempts, scheduler._rpc_retry_wait = 3, 3
    scheduler._rpc_log_retries = False
    return scheduler


# For plain luigi as well.
setattr(  # noqa: B010, a method
    luigi.interface._WorkerSchedulerFactory, "create_remote_scheduler", _quick_to_give_up
)


class _Workers(luigi.interface._WorkerSchedulerFactory):
    def create_local_scheduler(self) -> Scheduler:
        """One without metrics, which nobody could ask it for."""
        none = MetricsCollectors.none
        return Scheduler(prune_on_get_work=True, record_task_history=False, metrics_collector=none)

    def create_worker(
        self, scheduler: object, worker_processes: int, assistant: bool = False
    ) -> _Worker:
        return _Worker(scheduler=scheduler, worker_processes=worker_processes, assistant=assistant)

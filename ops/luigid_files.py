"""What luigid keeps in its folder: its tasks and their history. What is damaged is put aside.

Looked at when luigid starts, and the history again whenever an entry cannot be made: that a history
cannot be written is no reason for a run to fail. Settings may have the history in another database,
which is left alone.
"""

import contextlib
import logging
import pickle
import sqlite3
from pathlib import Path
from typing import Any

from ops.service import NOTICE
from tasks import own_files

HISTORY = Path("history.db")
STATE = Path("state.pickle")

_log = logging.getLogger("luigi.server")


def check_history() -> None:
    """Put the database of the history aside if it is damaged, or not one of today's luigi."""
    from luigi.db_task_history import Base

    beside = [HISTORY.with_name(f"{HISTORY.name}-{kind}") for kind in ("journal", "wal", "shm")]
    for path in (HISTORY, *beside):
        own_files.make_way(path.absolute(), _tell)
    if not HISTORY.exists():
        return
    why = ""
    try:
        with contextlib.closing(sqlite3.connect(HISTORY)) as database:
            if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                why = "it is damaged"
            for table in Base.metadata.tables.values():
                found = {row[1] for row in database.execute(f"PRAGMA table_info({table.name})")}
                if found and not found >= {column.name for column in table.columns}:
                    why = "it is of another version of luigi"
    except sqlite3.Error as error:
        why = f"it is damaged: {error}"
    if why:
        for path in (HISTORY, *beside):
            if path.exists():
                _tell(own_files.put_aside(path.absolute(), why))


def check_state() -> None:
    """Put the file of tasks aside if luigid cannot begin with it."""
    from luigi.scheduler import SimpleTaskState, Task, Worker
    from luigi.task_status import PENDING

    own_files.make_way(STATE.absolute(), _tell)
    if not STATE.exists():
        return
    try:
        state = SimpleTaskState(str(STATE))
        state.set_state(pickle.loads(STATE.read_bytes()))
        for kept, new in (
            *((task, Task("", PENDING, [])) for task in state.get_active_tasks()),
            *((worker, Worker("")) for worker in state._active_workers.values()),
        ):
            if not vars(kept).keys() >= vars(new).keys():
                raise ValueError("of another version of luigi")
    except Exception as error:  # whatever unpickling may come to
        _tell(own_files.put_aside(STATE.absolute(), f"luigid cannot begin with it: {error!r:.80}"))


def forgiving_history() -> type[Any]:
    """Luigi's history, which never fails a run: an entry that cannot be made is left out."""
    from luigi.db_task_history import Base, DbTaskHistory

    class ForgivingHistory(DbTaskHistory):
        def _add_task_event(self, task: Any, event: Any) -> None:
            try:
                super()._add_task_event(task, event)
            except Exception as error:  # sqlite's, sqlalchemy's, luigi's own
                _log.warning("The history lacks an entry: %s", error)
                self._begin_anew(task)

        def _begin_anew(self, task: Any) -> None:
            with contextlib.suppress(Exception):
                self.engine.dispose()
                check_history()
                Base.metadata.create_all(self.engine)
            self.tasks = {}
            task.record_id = None

    return ForgivingHistory


def _tell(sentence: str) -> None:
    print(f"{NOTICE}{sentence}", flush=True)

"""The Luigi tasks of the bustimes archive: a week, all weeks, and verify on top.

`tasks` holds them, `running` runs one with all that it needs, `week_progress` tells how far a week
is, and `under_way` is what all of them know of the run. Thin: what a week is and how it is
converted, the modules beside this package know.
"""

import luigi

from tasks import luigi_messages, standard_streams
from tasks.bustimes.graph.running import run
from tasks.bustimes.graph.tasks import AllWeeks, Verify, WeekTask

__all__ = ["AllWeeks", "Verify", "WeekTask", "run"]

standard_streams.prepare()
luigi_messages.install()

# luigi hands only some of what it can be told to its tasks: statistics, for metrics, as well.
luigi.worker.TaskProcess.forward_reporter_attributes["report_task_statistics"] = "report_statistics"

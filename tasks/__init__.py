"""Luigi tasks that turn heaps of small raw objects into few large, checked files.

``luigi --module tasks`` finds every task here. The modules that do the work need no luigi, and a
notebook or a converter process that imports one of them should not pay for it; so the graph is
imported only where luigi already is.
"""

import sys

if "luigi" in sys.modules:
    from tasks.bustimes.graph import AllWeeks, Verify, WeekTask

    __all__ = ["AllWeeks", "Verify", "WeekTask"]

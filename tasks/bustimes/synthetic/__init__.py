"""Synthetic raw snapshots: a made-up fleet that moves around Portland, for tests and benchmarks.

`snapshots` makes bodies as the collector wrote them for any span of time, and `write_folder` puts
them into files; `python -m tasks.bustimes.synthetic` is the same as a command. They promise the
same bytes for the same arguments on every machine, and never read settings, a clock or real data
or talk to a network. Inside, `fleet` knows who drives what when, `snapshots` what the collector
wrote of it, and `python2_repr` how Python 2 printed that.
"""

from tasks.bustimes.synthetic.bodies import LAST_REPR, snapshots, write_folder
from tasks.bustimes.synthetic.python2 import Long, python2_repr

__all__ = ["LAST_REPR", "Long", "python2_repr", "snapshots", "write_folder"]

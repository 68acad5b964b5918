"""Makes the servers: ``python -m tests.servers``."""

from tests.servers import KINDS, make

for kind in KINDS:
    make(kind)

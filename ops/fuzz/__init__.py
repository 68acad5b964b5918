"""Fuzzing: made-up input for all that reads what others wrote. `make fuzz MINUTES=10`.

    __main__.py        the command: searches for a time, and says what came of it
    worker.py          one search in a process of its own, which an input may crash
    search.py          one search: inputs that reach new code are kept and changed further
    changes.py         how an input is changed: by bytes, and by the tokens that it is
    coverage.py        which code an input reaches, in C and in Python
    checked_kernel.py  the conversion kernel with checks and counters compiled in
    targets.py         what is fed: a target promises something of any bytes
    readers.py         the targets that read snapshots: kernel, repr, JSON, gzip
    places.py          the targets that read names, settings and S3's answers
    kept.py            the targets that read manifests, records of weeks, and files of commands
    bombs.py           bodies that are small to describe and dear to read: what they cost

A fault is anything that a target does not promise: a wrong result, an exception that is no sentence
for a person, a trap of the kernel, a crash, or no end. For developers; nothing here runs in a
conversion.
"""

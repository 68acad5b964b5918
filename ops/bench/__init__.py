"""`make bench`: what the conversion costs, against what people would use instead.

`python -m ops.bench` makes the data (`data`), runs every contender on it as a process tree of its
own (`contenders`, `measure`, `supervisor`) from folders and from an S3 endpoint (`endpoint`), holds
the outputs against each other (`checks`), and prints and writes what came out (`results`, `goals`,
`report`, `plot`, `readme`). The other modules are the programs that are measured:
`straightforward`, `duckdb_day`, `gets`, and `limit` and `levels`, which call our `codec` alone.
Seconds mean something only beside other seconds of the same run: the machine may be busy, and says
so. `README.md` beside this file is the page on speed.
"""

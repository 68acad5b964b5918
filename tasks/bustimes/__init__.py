"""The archive of TriMet's bus positions: one snapshot a minute, since December 2016.

In the order of the work: `snapshot` (what one is; `python_repr` and `json_records` read its two
formats thoroughly, `reasons` says what others look like), `listing` (which ones a week has), `hour`
(the conversion; `kernel` does what is usual at machine speed), `converter` and `conversion` (the
same in several processes), `weekfile` and `manifest` (what is written), `verify`, `plan`, and
`graph` (the Luigi tasks). `synthetic` makes test data.
"""

"""The archive of TriMet's bus positions: one snapshot a minute, since December 2016.

In the order of the work: `snapshot` (what one is; `python_repr` and `json_records` read its two
formats), `listing` (which ones a week has), `hour` (the conversion), `converter` and `conversion`
(the same in several processes), `weekfile` and `manifest` (what is written), `verify`, `plan`, and
`graph` (the Luigi tasks). `synthetic` makes test data.
"""

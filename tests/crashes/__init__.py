"""Runs that meet a crash at a moment drawn from a seed, and what is due when they have ended.

`moments` is the S3 server's front: it sees each request, so that "as the third UploadPart comes" is
a moment, and it can go down. `blows` draws what happens when, to whom. `world` holds the raw
snapshots of three weeks, the runs, and what an undisturbed run makes of them. Everything is a real
process that really gets the signal, and a real server behind real sockets.
"""

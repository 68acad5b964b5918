"""How a person runs the project: the services it needs on this machine, and the places it runs in.

The pipeline itself is in `tasks`; nothing there imports from here.
"""

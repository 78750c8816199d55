"""vexctl, the command line.

One module per group of commands; each has a Typer application that `_app.py` adds.  Commands use
the public client and the package's own functions, and say how it went by their exit code
(`_exit.py`).
"""

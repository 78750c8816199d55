"""vexctl, the command line.

One module per group of commands.  A group of its own (`vexctl import ...`) is a Typer application
that `_app.py` adds with `add_typer`; a command without a group is added there with `app.command`.
Commands use the public client and the package's own functions, import what is heavy when they run,
do their work in `explained()`, which turns errors into one line and an exit code, and end with
`finish(ok=...)` (`_exit.py`).  docs/cli.md describes each; a test holds it to that.
"""

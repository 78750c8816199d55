"""vexctl contention: what requests of a server wait for."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import typer

from vexfs_chroma._cli._asking import AS_JSON, TIME, URL, as_ms, group, show_table, window
from vexfs_chroma._cli._exit import explained, finish, out

app = group("What requests of a server wait for.")


@app.command("analyze")
def analyze(url: str = URL, seconds: float = TIME, as_json: bool = AS_JSON) -> None:
    """Tell what requests wait for in the next seconds: threads, locks, the disk, processors.

    Exit code 1 when they wait for something more than they should.
    """
    from vexfs_chroma._observe import _contention

    with explained():
        before, now, counters, passed = window(url, seconds)
        found = _contention.contention(before, now, counters, passed)
        problems = _contention.problems(found)
        if as_json:
            plain = found | {"problems": [dataclasses.asdict(one) for one in problems]}
            typer.echo(json.dumps(plain, indent=2))
        else:
            _show(found)
            for one in problems:
                out.print(f"{one.name}: {one.evidence}\n    {one.advice}", markup=False)
    finish(ok=not problems)


def _show(found: dict[str, Any]) -> None:
    requests = found["requests"]
    if requests:
        show_table(
            ("requests in threads", "count", "ms for a thread", "running", "waiting in it"),
            [
                (
                    {"read": "only read", "write": "write"}[kind],
                    f"{one['requests']:,}",
                    as_ms(one["thread_ms"]),
                    as_ms(one["running_ms"]),
                    as_ms(one["waiting_ms"]),
                )
                for kind, one in requests.items()
            ],
        )
    else:
        out.print("no request needed a thread: all were answered at once, or there were none")
    out.print(f"event loop  {as_ms(found['event_loop_late_ms'])} ms late on average")
    cpu, delay = found["running_cpus"], found["waiting_for_cpus"]
    if cpu is not None:
        waiting = "" if delay is None else f"; threads that waited for one: {delay:.2f}"
        out.print(f"processors  {cpu:.2f} of {found['cpus']} busy{waiting}, on average")
    if found["writes"]:
        out.print(f"log         {found['syncs']} syncs for {found['writes']} writes")
        waited = found["writes_waited_ms"].items()
        of_each = ", ".join(f"{what} {as_ms(ms / found['writes'])} ms" for what, ms in waited)
        out.print(f"a write     waits for {of_each}")

"""vexctl storage and system: about the files of a database, and the machine."""

from __future__ import annotations

import json
import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.filesize import decimal

from vexfs_chroma._cli._exit import explained, finish, out

if TYPE_CHECKING:
    from vexfs_chroma._stats import CollectionStats

storage_app = typer.Typer(no_args_is_help=True, help="The files of a database.")
system_app = typer.Typer(no_args_is_help=True, help="The machine.")

_JSON = typer.Option(False, "--json", help="Print JSON.")
_DISK = typer.Option(Path(), "--path", help="Of the disk to look at.")
_PATH = typer.Argument(..., metavar="PATH", readable=False, help="The database; it is only read.")


@storage_app.command("analyze")
def analyze(path: Path = _PATH, as_json: bool = _JSON) -> None:
    """Tell where the bytes of a database are, and which could be had back.

    Exit code 1 when more than a third of the rows in the files of a collection is dead.
    """
    from vexfs_chroma._stats import stats

    with explained():
        found = stats(path)
        lines = [_collection(one) for one in found.collections]
        if as_json:
            plain = {"disk": found.as_dict()["disk"], "collections": lines}
            typer.echo(json.dumps(plain, indent=2))
        else:
            out.print(f"{found.path}: {decimal(found.disk.total)}", markup=False)
            for line in lines:
                out.print(_text(line), markup=False)
    finish(ok=not any(line["wasteful"] for line in lines))


def _collection(one: CollectionStats) -> dict[str, Any]:
    dead = one.dead_rows / one.file_rows if one.file_rows else 0.0
    raw = one.raw_document_bytes + one.raw_metadata_bytes
    stored = one.stored_document_bytes + one.stored_metadata_bytes
    return {
        "collection": one.name,
        "rows": one.rows,
        "bytes": one.disk.total,
        "bytes_per_row": one.disk.total / one.rows if one.rows else None,
        "vector_share": one.disk.vectors / one.disk.total if one.disk.total else 0.0,
        "dead_share": dead,
        "compression": raw / stored if stored else None,
        "unflushed_rows": one.unflushed_rows,
        "leftover_bytes": one.disk.leftovers,
        "wasteful": dead > 1 / 3 and one.dead_rows > 1000,
    }


def _text(line: dict[str, Any]) -> str:
    parts = [f"{line['rows']:,} records", decimal(line["bytes"])]
    if line["bytes_per_row"] is not None:
        parts.append(f"{line['bytes_per_row']:,.0f} bytes each")
    parts.append(f"{line['vector_share']:.0%} vectors")
    if line["compression"] is not None:
        parts.append(f"texts and metadata {line['compression']:.1f} times smaller than they are")
    if line["dead_share"]:
        parts.append(f"{line['dead_share']:.0%} of the rows in files dead")
    if line["leftover_bytes"]:
        parts.append(f"{decimal(line['leftover_bytes'])} left over")
    advice = "\n    client.vacuum() gives the space of dead rows back" if line["wasteful"] else ""
    return f"{line['collection']}: {', '.join(parts)}{advice}"


@system_app.command("resources")
def resources(
    path: Path = _DISK,
    as_json: bool = _JSON,
) -> None:
    """Tell what the machine has for a database: processors, memory, disk, open files."""
    import resource

    from vexfs_chroma._observe._facts import kernels

    with explained():
        disk = shutil.disk_usage(path)
        memory = _memory()
        files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        found = {
            "cpus": os.cpu_count(),
            "usable_cpus": _usable_cpus(),
            "machine": platform.machine(),
            "kernels": kernels(),
            "load": list(os.getloadavg()),
            "memory_bytes": memory.get("MemTotal"),
            "available_bytes": memory.get("MemAvailable"),
            "disk_bytes": disk.total,
            "free_bytes": disk.free,
            "open_files": {"now": files, "most": most},
        }
        if as_json:
            typer.echo(json.dumps(found, indent=2))
            return
        out.print(
            f"processors  {found['usable_cpus']} of {found['cpus']}, {found['machine']}, "
            f"kernels {found['kernels']}, load {os.getloadavg()[0]:.1f}"
        )
        if found["memory_bytes"] is not None:
            available = decimal(memory["MemAvailable"])
            out.print(f"memory      {available} of {decimal(memory['MemTotal'])} available")
        out.print(f"disk        {decimal(disk.free)} of {decimal(disk.total)} free")
        out.print(f"open files  {files:,}, at most {most:,}")


def _usable_cpus() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _memory() -> dict[str, int]:
    """Of /proc/meminfo, in bytes; empty where there is none."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if line.endswith("kB"))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}

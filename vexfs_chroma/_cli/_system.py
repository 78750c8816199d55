"""vexctl system: the machine."""

from __future__ import annotations

import json
import os
import platform
import shutil
from pathlib import Path

import typer
from rich.filesize import decimal

from vexfs_chroma._cli._asking import AS_JSON, group
from vexfs_chroma._cli._exit import explained, out

app = group("The machine.")

_DISK = typer.Option(Path(), "--path", help="Of the disk to look at.")


@app.command("resources")
def resources(
    path: Path = _DISK,
    as_json: bool = AS_JSON,
) -> None:
    """Tell what the machine has for a database: processors, memory, disk, open files."""
    import resource

    from vexfs_chroma._observe._facts import kernels, usable_cpus

    with explained():
        disk = shutil.disk_usage(path)
        memory = _memory()
        files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        found = {
            "cpus": os.cpu_count(),
            "usable_cpus": usable_cpus(),
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


def _memory() -> dict[str, int]:
    """Of /proc/meminfo, in bytes; empty where there is none."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if line.endswith("kB"))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}

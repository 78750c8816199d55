"""Which system calls make writes durable: fsync, fdatasync, msync and their like, per call.

    python tools/count_syncs.py [--calls 50] [--peers vexfs_chroma,chromadb]

Runs each library in a process of its own under strace (Linux), with 50 calls of every kind, one
record each, and prints how many syncs each kind made.  chromadb is what is installed; vexfs_chroma
runs in its three durabilities.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

SYNCS = ("fsync", "fdatasync", "msync", "sync_file_range", "syncfs", "sync")
STEPS = ("open", "create_collection", "add", "upsert", "update", "update metadata", "delete")
ENDS = ("delete_collection", "close")
MARK = "/vexfs-count-syncs/"


def mark(name: str) -> None:
    """Shows in the trace: a file that is not there is looked for."""
    os.path.exists(MARK + name.replace(" ", "_"))  # noqa: PTH110  one system call, no more


def calls_of(collection: Any, calls: int) -> list[tuple[str, Any]]:
    """Every kind of write, as a function of the number of the call."""
    ids = [str(i) for i in range(calls)]
    return [
        ("add", lambda i: collection.add(ids=[ids[i]], embeddings=[[i, 1.0]], documents=["text"])),
        ("upsert", lambda i: collection.upsert(ids=[ids[i]], embeddings=[[i, 2.0]])),
        ("update", lambda i: collection.update(ids=[ids[i]], embeddings=[[i, 3.0]])),
        ("update metadata", lambda i: collection.update(ids=[ids[i]], metadatas=[{"n": i}])),
        ("delete", lambda i: collection.delete(ids=[ids[i]])),
    ]


def work(peer: str, path: str, calls: int) -> None:
    """What is traced."""
    name, _, durability = peer.partition(":")
    if name == "chromadb":
        import chromadb as library
    else:
        import vexfs_chroma as library
    options = {"durability": durability} if durability else {}
    mark("open")
    client = library.PersistentClient(path, **options)
    collection = client.create_collection("calls", embedding_function=None)
    made = [f"collection-{i}" for i in range(calls)]
    mark("create_collection")
    for one in made:
        client.create_collection(one, embedding_function=None)
    for kind, call in calls_of(collection, calls):
        mark(kind)
        for i in range(calls):
            call(i)
    mark("delete_collection")
    for one in made:
        client.delete_collection(one)
    mark("close")
    client.close()
    mark("end")


def trace(peer: str, calls: int) -> dict[str, Counter[str]]:
    """Syncs per kind of call."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "trace"
        traced = ",".join((*SYNCS, "stat", "newfstatat", "statx", "access"))
        command = ["strace", "-f", "-qq", "-e", f"trace={traced}", "-o", str(log)]
        itself = [sys.executable, __file__, "--work", peer, "--calls", str(calls)]
        environment = {**os.environ, "ANONYMIZED_TELEMETRY": "False"}
        subprocess.run(
            [*command, *itself, "--path", str(Path(directory) / uuid.uuid4().hex)],
            check=True,
            env=environment,
        )
        return count(log.read_text(errors="replace"))


def count(text: str) -> dict[str, Counter[str]]:
    """Syncs between the marks of a trace."""
    found: dict[str, Counter[str]] = {name: Counter() for name in (*STEPS, *ENDS)}
    step = ""
    for line in text.splitlines():
        if marked := re.search(re.escape(MARK) + r"(\w+)", line):
            step = marked[1].replace("_", " ") if "metadata" in marked[1] else marked[1]
        elif (call := re.match(r"\d+ +(\w+)\(", line)) and call[1] in SYNCS and step in found:
            found[step][call[1]] += 1
    return found


def show(peers: list[str], calls: int) -> None:
    """Print the table."""
    print(
        f"syncs of {calls} calls each ('open' and 'close' are one), by fsync + fdatasync + others\n"
    )
    results = {peer: trace(peer, calls) for peer in peers}
    print("| |" + "|".join(f" {peer} " for peer in peers) + "|")
    print("|---|" + "---|" * len(peers))
    for step in (*STEPS, *ENDS):
        cells = []
        for peer in peers:
            counter = results[peer][step]
            others = sum(counter[name] for name in SYNCS[2:])
            parts = [counter["fsync"], counter["fdatasync"], *([others] if others else [])]
            cells.append(" + ".join(map(str, parts)))
        print(f"| {step} |" + "|".join(f" {cell} " for cell in cells) + "|")


def main() -> None:
    """Trace and print; or, as a child, be traced."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument(
        "--peers",
        default="vexfs_chroma:full,vexfs_chroma:normal,vexfs_chroma:off,chromadb",
        help="libraries to trace, NAME or vexfs_chroma:DURABILITY",
    )
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.path, arguments.calls)
    elif shutil.which("strace") is None:
        sys.exit("strace is needed (on Debian: apt-get install strace)")
    else:
        show(arguments.peers.split(","), arguments.calls)


if __name__ == "__main__":
    main()

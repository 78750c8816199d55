"""Small file systems to fill: a tmpfs, an ext4 in a file, mounted for a test.

Both need root and a kernel that lets us mount; where that is missing the test is skipped, with the
reason that the system gave.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

MIB = 1 << 20


def run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot {command[0]}: {done.stderr.strip()}")


@contextlib.contextmanager
def mounted(directory: Path, kind: str, size: int = 64 * MIB) -> Iterator[Path]:
    """A file system of `size` bytes at directory/disk; kind is "tmpfs" or "ext4"."""
    needed = ["mount", "umount", *(["mkfs.ext4"] if kind == "ext4" else [])]
    if os.geteuid() != 0 or not all(shutil.which(program) for program in needed):
        pytest.skip(f"needs root and {', '.join(needed)}, to mount a small file system")
    path = directory / "disk"
    path.mkdir()
    if kind == "tmpfs":
        run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path))
    else:
        image = directory / "image"
        with image.open("wb") as file:
            file.truncate(size)
        run("mkfs.ext4", "-q", "-m", "0", str(image))
        run("mount", "-o", "loop", str(image), str(path))
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextlib.contextmanager
def mounted_again(directory: Path, place: Path) -> Iterator[Path]:
    """The same directory at a second path."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root and mount, to have a directory at a second path")
    place.mkdir(exist_ok=True)
    run("mount", "--bind", str(directory), str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def free(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


def is_freed(disk: Path, least: int) -> bool:
    """Whether there is so much room, soon: files that the background has open take theirs until
    it closes them."""
    end = time.monotonic() + 60
    while free(disk) <= least and time.monotonic() < end:
        time.sleep(0.01)
    return free(disk) > least


def fill_up(disk: Path) -> Path:
    """Take the last byte; the file that did."""
    assert os.statvfs(disk).f_blocks * os.statvfs(disk).f_frsize <= 1024 * MIB, "not the machine's"
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (MIB, 65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return ballast

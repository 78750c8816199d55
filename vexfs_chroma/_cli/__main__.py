"""Runs vexctl: python -m vexfs_chroma._cli."""

from __future__ import annotations

from vexfs_chroma._cli._app import main

if __name__ == "__main__":
    main()

"""Backups of databases that are in use, and databases made of backups."""

from __future__ import annotations

from vexfs_chroma._backup._copy import BackupReport
from vexfs_chroma._backup._jobs import backup, backup_open, restore

__all__ = ["BackupReport", "backup", "backup_open", "restore"]

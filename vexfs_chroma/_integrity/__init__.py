"""Checking and repairing databases.

`_check.py` looks at all of a database and changes nothing; `_repair.py` copies what can be read out
of damaged parts and puts the copy in their place.  The engine's share, a collection at a time, is
`_engine/_integrity.py`; names are `_names.py`'s.
"""

from vexfs_chroma._integrity._check import check
from vexfs_chroma._integrity._repair import repair
from vexfs_chroma._integrity._report import CheckReport, Finding, Loss, RepairReport

__all__ = ["CheckReport", "Finding", "Loss", "RepairReport", "check", "repair"]

"""The lease protocol as a model: csrc/db/{lease,commit,catchup,flush,collection}.c, call by call.

Several processes have one collection open.  Each may write (take the lease, catch up, perhaps take
the log over, append, sync, publish with the head, answer), flush (MAINT; seal the log and begin the
next under the lease; later commit a manifest under the lease; remove what it replaces), read (head,
manifest, logs, without a lock), close, and be opened again.  Any step may be the last: kills,
failing syncs and power failures are steps, too.

A step is what other processes, or a power failure, can tell apart.  What a holder of the lease does
without changing a file is part of the next step, since nobody else changes anything meanwhile.

What must hold:

- Whatever the disk is like, now or after a power failure, recovering finds every acknowledged batch
  once, and all that any reader ever saw, in the same order (durability "normal": after a power
  failure all that a sync succeeded for, and nothing in another order).
- A read gives all that was acknowledged, and all that any reader had seen, when it began.
- Where processes differ in durability: what a process that syncs at once has answered for is there
  after every power failure, and what the other has answered for is not forgotten.
- Where the system drops the pages of a sync that fails, records that only readers saw may go; then
  nobody goes on showing them, or builds on them.
- An add goes by exactly what a get showed just before it, if no process has died since the opening.
- Only one process appends.  When nobody is at work, all see the same.
- Nothing of this is ever taken for damage.
"""

from __future__ import annotations

from lease_flushing import Flushing
from lease_reading import Reading
from lease_state import Rules, Size
from lease_writing import Writing

__all__ = ["Lease", "Rules", "Size"]


class Lease(Writing, Reading, Flushing):
    """The model, for `explore`."""

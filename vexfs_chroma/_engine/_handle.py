"""Handles: C pointers that are never freed while a call uses them, nor used after they are freed.

    with handle as pointer:
        lib.vex_count(pointer, ...)

The engine asks that no handle is used after the call that closes it returned.  So a handle knows
the threads that are inside a call with it.  `close()` lets no further call in, the last thread to
leave gives the pointer back, and `close()` returns when that has happened.  Closing a handle
closes the handles opened from it first; one lock serves such a family.

A signal handler may run `close()` in a thread that is itself inside a call.  Waiting for itself
would never end, so `close()` then returns early, and the pointer is given back when that call
leaves.  The lock is re-entrant for the same reason.  The garbage collector, too, may run anywhere,
even in a callback from the engine; there a finaliser leaves the closing to a thread of its own.
In a forked child the other threads do not exist: what they held is forgotten there.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from chromadb.errors import InternalError


class Handle:
    """Owner of one C pointer; `release` gives it back to the engine."""

    def __init__(
        self,
        name: str,
        pointer: Any,
        release: Callable[[Any], object],
        parent: Handle | None = None,
    ) -> None:
        self._name = name
        self._pointer = pointer
        self._release = release
        self._parent = parent
        self._children: set[Handle] = set()
        self._users: list[int] = []  # threads inside a call, once per nested call
        self._closed = False
        self._failure: Exception | None = None
        # Entered itself, the lock costs half of what its condition does.
        self._lock: Any = threading.RLock() if parent is None else parent._lock
        self._left: threading.Condition = (
            threading.Condition(self._lock) if parent is None else parent._left
        )
        (_roots if parent is None else parent._children).add(self)

    def __enter__(self) -> Any:
        with self._lock:
            if self._closed:
                raise InternalError(f"{self._name} is closed; open it again to use it")
            self._users.append(threading.get_ident())
            return self._pointer

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users.remove(threading.get_ident())
            if self._closed:
                (self._parent or self)._give_back()

    def close(self) -> None:
        """Close this handle and its children; idempotent.  Raises what the engine reports."""
        with self._left:
            for handle in self._family():
                handle._closed = True
            self._give_back()
            me = threading.get_ident()
            while self._pointer is not None and not any(me in h._users for h in self._family()):
                self._left.wait()
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _family(self) -> list[Handle]:
        return [*self._children, self]

    def _give_back(self) -> None:
        """Release what is closed and unused, children first.  Called with the lock held."""
        for child in tuple(self._children):
            child._give_back()
        if not self._closed or self._users or self._children or self._pointer is None:
            return
        pointer, self._pointer = self._pointer, None
        try:
            self._release(pointer)
        except Exception as failure:  # noqa: BLE001 - raised by close()
            self._failure = failure
        if self._parent is not None:
            self._parent._children.discard(self)
        self._left.notify_all()

    def _forget_other_threads(self) -> None:
        lock = threading.RLock()
        left = threading.Condition(lock)
        me = threading.get_ident()
        for handle in self._family():
            handle._lock, handle._left = lock, left
            handle._users = [user for user in handle._users if user == me]


def close_with(owner: object, handle: Handle) -> weakref.finalize[[Handle], object]:
    """Close the handle when `owner` is no longer referenced, at the latest when Python exits."""
    return weakref.finalize(owner, _finalize, handle)


def _finalize(handle: Handle) -> None:
    if _inside_engine():
        threading.Thread(target=handle.close, name="vexfs-close").start()
    else:
        handle.close()


def _inside_engine() -> bool:
    """Whether this thread belongs to the engine, or is in a call to it."""
    me = threading.get_ident()
    return isinstance(threading.current_thread(), threading._DummyThread) or any(
        me in handle._users for root in tuple(_roots) for handle in root._family()
    )


_roots: weakref.WeakSet[Handle] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for root in tuple(_roots):
        root._forget_other_threads()


os.register_at_fork(after_in_child=_after_fork_in_child)

"""Reads `index_metadata.pickle` of a Chroma index without running anything in it.

Python's own unpickler calls whatever a pickle names.  This is a small reader of the opcodes that
Chroma's writers use (Python's protocols 2 to 5, and serde_pickle of the Rust implementation): it
builds dictionaries, strings and numbers.  The one object in these files, `PersistentData`, becomes
the dictionary of its attributes; no class is ever looked up.

Chroma writes this file in place, so a killed process leaves it cut short.  Whatever was read until
then is kept: the entries of a dictionary are whole as soon as key and value are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_MARK = object()


class PickleDamagedError(ValueError):
    """The bytes are not a pickle of the kind that Chroma writes, or end too early."""


@dataclass(slots=True)
class IndexMetadata:
    """What the file says."""

    labels: dict[str, int] = field(default_factory=dict)
    """The label of each id in the vector files."""
    max_seq_id: int | None = None
    """The last operation in the vector files; older layouts only."""
    damage: str | None = None
    """Why the rest of the file could not be read."""


def read_index_metadata(data: bytes) -> IndexMetadata:
    """What of the file can be read.  Never raises on account of its contents."""
    reader = _Reader(data)
    found = IndexMetadata()
    try:
        reader.run()
    except PickleDamagedError as error:
        found.damage = str(error)
    state = _attributes(reader.stack)
    for id, label in _pairs(state.get("id_to_label")):
        if isinstance(id, str) and _is_number(label):
            found.labels[id] = label
    for label, id in _pairs(state.get("label_to_id")):
        if isinstance(id, str) and _is_number(label):
            found.labels.setdefault(id, label)
    found.max_seq_id = _sequence_number(state.get("max_seq_id"))
    return found


def _attributes(stack: list[Any]) -> dict[str, Any]:
    """The attributes of the object, from a finished stack or one that broke off.

    Where it broke off, the keys and values of the outermost dictionary still lie on the stack.
    """
    found: dict[str, Any] = {}
    for item in stack:
        if isinstance(item, _Object):
            found.update(item.state)
    flat = [item for item in stack if item is not _MARK and not isinstance(item, _Object)]
    i = 0
    if flat and isinstance(flat[0], dict):
        found.update(flat[0])
        i = 1
    names = {"dimensionality", "total_elements_added", "max_seq_id"}
    while i < len(flat):
        name = flat[i]
        if name in ("id_to_label", "label_to_id", "id_to_seq_id"):
            rest = flat[i + 1 :]
            if rest and isinstance(rest[0], dict):
                entries = list(rest[0].items())
                entries += _open_pairs(rest[1:])
                found[name] = dict(entries)
            i += 2
        elif isinstance(name, str) and name in names and i + 1 < len(flat):
            found[name] = flat[i + 1]
            i += 2
        else:
            i += 1
    return found


def _open_pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    """Entries that were read but not yet put into their dictionary."""
    pairs = []
    for key, value in zip(items[::2], items[1::2], strict=False):
        if isinstance(value, dict) or isinstance(key, dict):
            break  # the dictionary was complete, and what follows is the next attribute
        pairs.append((key, value))
    return pairs


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _sequence_number(value: Any) -> int | None:
    if isinstance(value, bytes):  # older releases kept them as big-endian bytes
        return int.from_bytes(value, "big") if len(value) == 8 else None
    return value if _is_number(value) else None


class _Object:
    """An instance of some class, of which only the state matters."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> None:
        data, operations = self.data, _OPERATIONS
        while True:
            if self.at >= len(data):
                raise PickleDamagedError(f"it ends after {len(data)} bytes, in the middle")
            code = data[self.at]
            if code == 0x2E:  # STOP
                return
            self.at += 1
            operation = operations.get(code)
            if operation is None:
                raise PickleDamagedError(f"unknown opcode {code:#04x} at byte {self.at - 1}")
            try:
                operation(self)
            except (IndexError, KeyError, struct.error, UnicodeDecodeError, TypeError) as error:
                raise PickleDamagedError(f"damaged at byte {self.at}") from error

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        if len(taken) != count:
            raise PickleDamagedError(f"it ends after {len(self.data)} bytes, in the middle")
        self.at += count
        return taken

    def unsigned(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self, size: int) -> None:
        self.stack.append(self.take(self.unsigned(size)).decode("utf-8", "surrogatepass"))

    def raw(self, size: int) -> None:
        self.stack.append(self.take(self.unsigned(size)))

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def line(self) -> None:
        end = self.data.find(b"\n", self.at)
        self.take((len(self.data) if end < 0 else end) - self.at + 1)

    def integer(self, size: int) -> None:
        self.stack.append(int.from_bytes(self.take(size), "little", signed=True))

    def float64(self) -> None:
        self.stack.append(struct.unpack(">d", self.take(8))[0])

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def since_mark(self) -> list[Any]:
        stack = self.stack
        at = len(stack) - 1
        while stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise PickleDamagedError(f"no mark at byte {self.at}")
        items = stack[at + 1 :]
        del stack[at:]
        return items

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put([key, value])

    def set_items(self) -> None:
        self._put(self.since_mark())

    def _put(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise PickleDamagedError(f"entries of something else at byte {self.at}")
        target.update(zip(items[::2], items[1::2], strict=False))

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise PickleDamagedError(f"items of something else at byte {self.at}")
        target.extend(items)

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack.pop() for _ in range(count))
        self.stack.append(items[::-1])

    def class_by_line(self) -> None:
        self.line()
        self.line()
        self.stack.append(_Object())

    def class_by_stack(self) -> None:
        del self.stack[-2:]
        self.stack.append(_Object())

    def new_object(self) -> None:
        """NEWOBJ and REDUCE: class or function, arguments -> an object, of which nothing runs."""
        del self.stack[-2:]
        self.stack.append(_Object())

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Object):
            raise PickleDamagedError(f"state of something else at byte {self.at}")
        if isinstance(state, tuple) and state and isinstance(state[0], dict):
            state = state[0]
        if isinstance(state, dict):
            target.state.update(state)


_OPERATIONS: dict[int, Callable[[_Reader], Any]] = {
    0x80: lambda r: r.take(1),  # PROTO
    0x95: lambda r: r.take(8),  # FRAME
    ord("("): lambda r: r.push(_MARK),
    ord("0"): lambda r: r.stack.pop(),
    ord("}"): lambda r: r.push({}),
    ord("]"): lambda r: r.push([]),
    ord(")"): lambda r: r.push(()),
    ord("N"): lambda r: r.push(None),
    0x88: lambda r: r.push(True),
    0x89: lambda r: r.push(False),
    ord("J"): lambda r: r.integer(4),
    ord("K"): lambda r: r.push(r.unsigned(1)),
    ord("M"): lambda r: r.push(r.unsigned(2)),
    0x8A: lambda r: r.integer(r.unsigned(1)),  # LONG1
    0x8B: lambda r: r.integer(r.unsigned(4)),  # LONG4
    ord("G"): lambda r: r.float64(),
    ord("X"): lambda r: r.text(4),
    0x8C: lambda r: r.text(1),  # SHORT_BINUNICODE
    0x8D: lambda r: r.text(8),  # BINUNICODE8
    ord("U"): lambda r: r.raw(1),
    ord("T"): lambda r: r.raw(4),
    ord("B"): lambda r: r.raw(4),
    ord("C"): lambda r: r.raw(1),
    0x8E: lambda r: r.raw(8),  # BINBYTES8
    ord("q"): lambda r: r.remember(r.unsigned(1)),
    ord("r"): lambda r: r.remember(r.unsigned(4)),
    0x94: lambda r: r.remember(len(r.memo)),  # MEMOIZE
    ord("h"): lambda r: r.recall(r.unsigned(1)),
    ord("j"): lambda r: r.recall(r.unsigned(4)),
    ord("s"): lambda r: r.set_item(),
    ord("u"): lambda r: r.set_items(),
    ord("a"): lambda r: r.append([r.stack.pop()]),
    ord("e"): lambda r: r.append(r.since_mark()),
    ord("t"): lambda r: r.push(tuple(r.since_mark())),
    0x85: lambda r: r.tuple_of(1),
    0x86: lambda r: r.tuple_of(2),
    0x87: lambda r: r.tuple_of(3),
    ord("c"): lambda r: r.class_by_line(),
    0x93: lambda r: r.class_by_stack(),  # STACK_GLOBAL
    0x81: lambda r: r.new_object(),
    ord("R"): lambda r: r.new_object(),
    ord("b"): lambda r: r.build(),
}

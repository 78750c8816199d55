"""The environment variables of the server, and mistaken ones.

The variable of a key is VEXFS_<SECTION>_<KEY>; the keys of [database] are options of the database,
whose variables are VEXFS_<KEY> everywhere.  A variable that nobody reads is a mistake when it is in
the name space of a section, or when it looks like one of ours: other programs, and whatever starts
containers, have names of their own that begin with VEXFS_.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import msgspec

from vexfs_chroma import _options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Sections = Mapping[str, type[msgspec.Struct]]

_PREFIX = "VEXFS_"
_OF_THE_PROCESS = frozenset(
    {
        "VEXFS_CODEC",
        "VEXFS_METRICS_DIR",
        "VEXFS_SIMD",
        "VEXFS_SLOW_LOG",
        "VEXFS_SLOW_MS",
        "VEXFS_THREADS",
    }
)
"""What any process with a database reads besides its options."""
_OF_TOOLS = frozenset(
    {
        "VEXFS_CFLAGS",
        "VEXFS_DATA",
        "VEXFS_FAULTS",
        "VEXFS_MODEL",
        "VEXFS_SANITIZE",
        "VEXFS_TOKEN",
        "VEXFS_URL",
    }
)
"""What vexctl's other commands, the build and the tests read; to the server they mean nothing."""
_LIKE = 0.8  # DURABILTY and DURABILITY: 0.95; DATA and DATABASE: 0.67
# A Service called vexfs gives every container of its name space such variables.
_OF_KUBERNETES = re.compile(
    r"VEXFS(_.*)?_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_[0-9]+_[A-Z]+(_.*)?)"
)


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: what may have been meant, or what there is."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"


def variables(sections: Sections) -> dict[str, tuple[str, str]]:
    """The variables of all keys, each with its section and key."""
    return {
        f"{_PREFIX}{key if section == 'database' else f'{section}_{key}'}".upper(): (section, key)
        for section, kind in sections.items()
        for key in kind.__struct_fields__
        if section != "auth"  # hashes belong into a file
    }


def from_environment(
    sections: Sections, environment: Mapping[str, str], problems: list[str]
) -> dict[str, dict[str, Any]]:
    """What the variables say, by section and key, without the options of the database.

    Those are read where databases are opened.  An empty variable says nothing.  What is wrong, of
    these too, is added to `problems`.
    """
    known = variables(sections)
    found: dict[str, dict[str, Any]] = {name: {} for name in sections}
    for variable, text in environment.items():
        section, key = known.get(variable, ("database", ""))
        if section == "database" or not text:
            continue
        hint = get_type_hints(sections[section])[key]
        try:
            found[section][key] = _typed(text, hint)
        except msgspec.ValidationError as error:
            problems.append(f"{variable}={text!r}: {with_choices(str(error), hint)}")
    problems += _options.environment_problems(environment)
    problems += _unknown(sections, environment, known)
    return found


def with_choices(what: str, hint: Any) -> str:
    """What msgspec says about a value of this type, with the names that there are."""
    choices = get_args(hint)
    if not what.startswith("Invalid enum value") or not choices:
        return what
    return f"{what}; there are {', '.join(map(str, choices))}"


def _typed(text: str, hint: Any) -> Any:
    is_list = hint == tuple[str, ...]
    value: Any = [part.strip() for part in text.split(",") if part.strip()] if is_list else text
    return msgspec.convert(value, hint, strict=False)


def _unknown(
    sections: Sections, environment: Mapping[str, str], known: Mapping[str, tuple[str, str]]
) -> Iterator[str]:
    """Variables that were meant for us, and that nobody reads."""
    ours = {*known, *_options.VARIABLES, *_OF_THE_PROCESS}
    bare = [name.removeprefix(_PREFIX) for name in sorted(ours)]
    for variable, text in environment.items():
        if not variable.startswith(_PREFIX) or variable in ours | _OF_TOOLS:
            continue
        if _OF_KUBERNETES.fullmatch(variable) or "://" in text:
            continue
        name = variable.removeprefix(_PREFIX)
        near = difflib.get_close_matches(name, bare, n=1, cutoff=_LIKE)
        section = next((one for one in sections if name.startswith(f"{one}_".upper())), None)
        if near:
            yield f"unknown variable {variable}; did you mean {_PREFIX}{near[0]}?"
        elif section == "auth":
            yield f"unknown variable {variable}; [auth] is in the file alone"
        elif section is not None:
            keys = {key: one for one, (place, key) in known.items() if place == section}
            key = name[len(section) + 1 :].lower()
            near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
            meant = (
                f"did you mean {keys[near[0]]}?"
                if near
                else f"there are {', '.join(keys.values())}"
            )
            yield f"unknown variable {variable}; {meant}"

"""Keys of ours in the metadata of a collection: what they may say.

All begin with "vexfs:".  What is mistyped there would be stored and mean nothing: records that were
to expire would stay, say.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from chromadb.errors import InvalidArgumentError

from vexfs_chroma._empty_lists import EMPTY_LISTS
from vexfs_chroma._expiry import TTL, TTL_SECONDS, Expiry, read_expiry
from vexfs_chroma._nested import NESTED

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "vexfs:"
_KEYS = (TTL, TTL_SECONDS, NESTED, EMPTY_LISTS)


def check_own(metadata: Mapping[str, Any] | None) -> Expiry | None:
    """When records of a collection with this metadata expire; None: never.

    Raises InvalidArgumentError for keys of ours that there are not, and for what they cannot say.
    """
    for key in metadata or ():
        if key.startswith(_PREFIX) and key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            raise InvalidArgumentError(
                f"metadata of a collection has no key {key!r}: "
                + (f"is {near[0]!r} meant?" if near else f"{', '.join(_KEYS)} are those of vexfs")
            )
    for key in (NESTED, EMPTY_LISTS):
        asked = metadata.get(key) if metadata else None
        if asked is not None and not isinstance(asked, bool):
            raise InvalidArgumentError(f"{key} must be True or False, got {asked!r}")
    return read_expiry(metadata)

"""Another space, or other parameters of the graph, for a collection that has records already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.errors import InvalidArgumentError

from vexfs_chroma._names import as_integer

if TYPE_CHECKING:
    from vexfs_chroma._extensions import Extensions

SPACES = ("l2", "cosine", "ip")
_LIMITS = {"max_neighbors": (2, 1024), "ef_construction": (1, 65535)}


def check_parameters(space: object, **parameters: object) -> None:
    """Raise InvalidArgumentError when the collection cannot have these; None: as it is."""
    if space is not None and not (isinstance(space, str) and space in SPACES):
        raise InvalidArgumentError(f"space must be one of {', '.join(SPACES)}, got {space!r}")
    for name, value in parameters.items():
        least, most = _LIMITS[name]
        number = as_integer(value)
        if value is not None and (number is None or not least <= number <= most):
            raise InvalidArgumentError(
                f"{name} must be an int from {least} to {most}, got {value!r}"
            )


class Reindexing(ChromaCollection):
    """Changing what Chroma settles when a collection is created."""

    if TYPE_CHECKING:

        @property
        def _api(self) -> Extensions: ...

    def reindex(
        self,
        space: str | None = None,
        max_neighbors: int | None = None,
        ef_construction: int | None = None,
    ) -> None:
        """Change the distance or the parameters of the graph, and have the graph built anew.

        Takes no longer for many records: embeddings stay as they are, and the graph is built in the
        background (wait_for_index() waits for it).  Reads and writes go on: queries are exact until
        the graph is there, which takes longer in large collections, and each is by the old distance
        or by the new one.  Other processes see the new one on their next call.  A crash leaves all
        of the old configuration or all of the new one.

        Args:
            space: "l2", "cosine" or "ip".  None, here and below: as it is.
            max_neighbors: Links of a record in the graph, 2 to 1024.
            ef_construction: Candidates for them when a record is inserted, 1 to 65535.

        Raises:
            InvalidArgumentError: another value.
            NotFoundError: the collection was deleted.
            ReadOnlyError: the database takes no writes.
        """
        check_parameters(space, max_neighbors=max_neighbors, ef_construction=ef_construction)
        numbers = as_integer(max_neighbors), as_integer(ef_construction)
        self._api.reindex_collection(self.id, space, *numbers)
        self._model = self._client.get_collection_by_id(self.id, self.tenant, self.database)

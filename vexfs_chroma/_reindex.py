"""Another space, graph or embedding function for a collection that has records already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chromadb.api.collection_configuration import update_collection_configuration_to_json
from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.api.types import validate_embedding_function
from chromadb.errors import InvalidArgumentError

from vexfs_chroma._names import as_integer

if TYPE_CHECKING:
    from collections.abc import Callable

    from chromadb.api.types import EmbeddingFunction

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

    def reembed(
        self,
        embedding_function: EmbeddingFunction[Any],
        *,
        batch_size: int = 100,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Embed all documents with another function, whose dimension may be another one.

        The collection is read and written meanwhile, with the embeddings that it has.  When all
        documents are embedded it changes over to the new ones at once, for this and all other
        processes; its configuration names the new function then.  Ids, documents and metadata stay
        as they are, and so do sparse vectors.  A crash leaves all of the old embeddings or all of
        the new ones; nothing is changed when this raises an error.  Documents that are added or
        changed before the end are embedded, too; equal ones once.  Needs room beside the database
        for the new embeddings twice, and about 150 bytes of memory per record.

        Objects for the same collection that exist elsewhere embed with the old function until
        they are made anew by get_collection().

        Args:
            embedding_function: The new one.
            batch_size: Documents that it is given at once, at most.
            progress: Called with the number of records whose embedding is there, and that of all.

        Returns:
            The number of records.

        Raises:
            ValueError: No embedding function.
            InvalidArgumentError: A record without a document; embeddings that are none, or are of
                several dimensions; another `batch_size`.
            DatabaseLockedError: The collection is written to so often that the end is not reached.
            ReadOnlyError: The database takes no writes.
            StorageFullError: There is no room; so for every method that writes.
            NotOfferedError: The database is behind a server.
        """
        size = as_integer(batch_size)
        if size is None or size < 1:
            raise InvalidArgumentError(f"batch_size must be a positive int, got {batch_size!r}")
        validate_embedding_function(embedding_function)
        configuration = update_collection_configuration_to_json(
            {"embedding_function": embedding_function}
        )
        n = self._api.reembed_collection(
            self.id,
            lambda documents: embedding_function(input=documents),
            configuration["embedding_function"],
            size,
            progress,
        )
        self._model = self._client.get_collection_by_id(self.id, self.tenant, self.database)
        self._embedding_function = embedding_function
        return n

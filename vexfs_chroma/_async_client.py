"""AsyncClient: a local database for asyncio, by threads.

Every call is one of LocalClient or its collections, in a thread of the client's own: embedding
functions, too, so that nothing keeps the event loop waiting.  The engine gives up the GIL, so calls
of many tasks run side by side.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from chromadb.errors import InvalidArgumentError
from typing_extensions import Self

from vexfs_chroma._client import EphemeralClient, PersistentClient
from vexfs_chroma._observe import _trace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from pathlib import Path
    from uuid import UUID

    from chromadb.api.types import DeleteResult, GetResult, IndexingStatus, QueryResult
    from chromadb.auth import UserIdentity
    from chromadb.config import Settings

    from vexfs_chroma._collection import Collection
    from vexfs_chroma._local_client import LocalClient

T = TypeVar("T")

THREADS = 8
"""Calls that run at a time, unless the client says otherwise."""


class _Threads:
    """Runs calls in threads of its own."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="vexfs-async")

    async def run(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        loop = asyncio.get_running_loop()
        work = functools.partial(call, *args, **kwargs)
        if _trace.tracer is not None:  # spans have the task's as their parent
            work = functools.partial(contextvars.copy_context().run, work)
        try:
            done = loop.run_in_executor(self._pool, work)
        except RuntimeError:  # there are no threads any more: the client is closed, and says so
            return call(*args, **kwargs)
        return await done

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown)


class AsyncCollection:
    """A collection of an AsyncClient: the methods of chromadb's AsyncCollection.

    They take and give what those of Collection do.  A call that is cancelled while it runs goes on
    in its thread: a write may still happen, whole.  Other methods of our collections (`explain`,
    `stats`, `wait_for_index`, ...) are there, too, each to be awaited; `local` is the collection
    itself.
    """

    def __init__(self, local: Collection, threads: _Threads) -> None:
        self.local = local
        self._threads = threads

    def __repr__(self) -> str:
        return f"AsyncCollection(name={self.name})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncCollection) and self.local == other.local

    __hash__ = None  # type: ignore[assignment]

    @property
    def id(self) -> UUID:
        """Its uuid."""
        return self.local.id

    @property
    def name(self) -> str:
        """Its name."""
        return self.local.name

    @property
    def metadata(self) -> Any:
        """Its metadata."""
        return self.local.metadata

    @property
    def configuration(self) -> Any:
        """Its configuration."""
        return self.local.configuration

    @property
    def schema(self) -> Any:
        """Its schema."""
        return self.local.schema

    @property
    def tenant(self) -> str:
        """The tenant that it belongs to."""
        return self.local.tenant

    @property
    def database(self) -> str:
        """The database that it is in."""
        return self.local.database

    async def add(self, *args: Any, **kwargs: Any) -> None:
        """See Collection.add."""
        await self._threads.run(self.local.add, *args, **kwargs)

    async def update(self, *args: Any, **kwargs: Any) -> None:
        """See Collection.update."""
        await self._threads.run(self.local.update, *args, **kwargs)

    async def upsert(self, *args: Any, **kwargs: Any) -> None:
        """See Collection.upsert."""
        await self._threads.run(self.local.upsert, *args, **kwargs)

    async def delete(self, *args: Any, **kwargs: Any) -> DeleteResult:
        """See Collection.delete."""
        return await self._threads.run(self.local.delete, *args, **kwargs)

    async def get(self, *args: Any, **kwargs: Any) -> GetResult:
        """See Collection.get."""
        return await self._threads.run(self.local.get, *args, **kwargs)

    async def peek(self, limit: int = 10) -> GetResult:
        """See Collection.peek."""
        return await self._threads.run(self.local.peek, limit)

    async def query(self, *args: Any, **kwargs: Any) -> QueryResult:
        """See Collection.query."""
        return await self._threads.run(self.local.query, *args, **kwargs)

    async def search(self, *args: Any, **kwargs: Any) -> Any:
        """See Collection.search."""
        return await self._threads.run(self.local.search, *args, **kwargs)

    async def count(self, *args: Any, **kwargs: Any) -> int:
        """See Collection.count."""
        return await self._threads.run(self.local.count, *args, **kwargs)

    async def modify(self, *args: Any, **kwargs: Any) -> None:
        """See Collection.modify."""
        await self._threads.run(self.local.modify, *args, **kwargs)

    async def fork(self, new_name: str) -> AsyncCollection:
        """See Collection.fork."""
        return AsyncCollection(await self._threads.run(self.local.fork, new_name), self._threads)

    async def fork_count(self) -> int:
        """See Collection.fork_count."""
        return await self._threads.run(self.local.fork_count)

    async def get_indexing_status(self) -> IndexingStatus:
        """See Collection.get_indexing_status."""
        return await self._threads.run(self.local.get_indexing_status)

    async def iter_batches(self, *args: Any, **kwargs: Any) -> AsyncIterator[GetResult]:
        """See Collection.iter_batches; for `async for`."""
        batches = await self._threads.run(self.local.iter_batches, *args, **kwargs)
        while (batch := await self._threads.run(next, batches, None)) is not None:
            yield batch

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        return _awaitable(self, self.local, name)


class AsyncLocalClient:
    """A client of a local database for asyncio; AsyncClient() makes it.

    It has the methods of chromadb's AsyncClientAPI, which take and give what those of LocalClient
    do, with AsyncCollections in the place of collections.  Other methods of LocalClient (`backup`,
    `stats`, `vacuum`, ...) are there, too, each to be awaited; `local` is the client itself.
    """

    def __init__(self, local: LocalClient, threads: _Threads) -> None:
        self.local = local
        self._threads = threads

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait for calls that are running, and close the client."""
        await self._threads.run(self.local.close)
        await self._threads.close()

    @property
    def tenant(self) -> str:
        """The tenant that calls are about."""
        return self.local.tenant

    @property
    def database(self) -> str:
        """The database that calls are about."""
        return self.local.database

    async def create_collection(self, *args: Any, **kwargs: Any) -> AsyncCollection:
        """See LocalClient.create_collection."""
        return await self._collection(self.local.create_collection, *args, **kwargs)

    async def get_collection(self, *args: Any, **kwargs: Any) -> AsyncCollection:
        """See LocalClient.get_collection."""
        return await self._collection(self.local.get_collection, *args, **kwargs)

    async def get_collection_by_id(self, *args: Any, **kwargs: Any) -> AsyncCollection:
        """See LocalClient.get_collection_by_id."""
        return await self._collection(self.local.get_collection_by_id, *args, **kwargs)

    async def get_or_create_collection(self, *args: Any, **kwargs: Any) -> AsyncCollection:
        """See LocalClient.get_or_create_collection."""
        return await self._collection(self.local.get_or_create_collection, *args, **kwargs)

    async def list_collections(
        self, limit: int | None = None, offset: int | None = None
    ) -> Sequence[AsyncCollection]:
        """See LocalClient.list_collections."""
        found = await self._threads.run(self.local.list_collections, limit, offset)
        return [AsyncCollection(each, self._threads) for each in found]

    async def delete_collection(self, name: str) -> None:
        """See LocalClient.delete_collection."""
        await self._threads.run(self.local.delete_collection, name)

    async def count_collections(self) -> int:
        """See LocalClient.count_collections."""
        return await self._threads.run(self.local.count_collections)

    async def set_tenant(self, tenant: str, database: str = DEFAULT_DATABASE) -> None:
        """See LocalClient.set_tenant."""
        await self._threads.run(self.local.set_tenant, tenant, database)

    async def set_database(self, database: str) -> None:
        """See LocalClient.set_database."""
        await self._threads.run(self.local.set_database, database)

    async def heartbeat(self) -> int:
        """See LocalClient.heartbeat."""
        return await self._threads.run(self.local.heartbeat)

    async def reset(self) -> bool:
        """See LocalClient.reset."""
        return await self._threads.run(self.local.reset)

    async def get_version(self) -> str:
        """See LocalClient.get_version."""
        return await self._threads.run(self.local.get_version)

    async def get_max_batch_size(self) -> int:
        """See LocalClient.get_max_batch_size."""
        return await self._threads.run(self.local.get_max_batch_size)

    async def get_user_identity(self) -> UserIdentity:
        """See LocalClient.get_user_identity."""
        return await self._threads.run(self.local.get_user_identity)

    def get_settings(self) -> Settings:
        """See LocalClient.get_settings; not to be awaited, as in chromadb."""
        return self.local.get_settings()

    async def _collection(
        self, call: Callable[..., Collection], *args: Any, **kwargs: Any
    ) -> AsyncCollection:
        return AsyncCollection(await self._threads.run(call, *args, **kwargs), self._threads)

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        return _awaitable(self, self.local, name)


async def AsyncClient(  # noqa: N802  (like chromadb's AsyncHttpClient)
    path: str | Path | None = None,
    settings: Settings | None = None,
    tenant: str = DEFAULT_TENANT,
    database: str = DEFAULT_DATABASE,
    *,
    threads: int = THREADS,
    **options: Any,
) -> AsyncLocalClient:
    """A client of the database in directory `path`, or of one in memory, for asyncio.

        client = await vexfs_chroma.AsyncClient("data")
        collection = await client.get_or_create_collection("notes")
        await collection.add(ids=["a"], documents=["text"])

    Args:
        path: The directory; None: a database in memory, as of EphemeralClient.
        settings: Settings of chromadb, as for PersistentClient.
        tenant: The tenant to use.
        database: The database to use.
        threads: So many calls run at a time, at least 1; others wait.
        options: Those of PersistentClient, or of EphemeralClient.

    Raises:
        InvalidArgumentError: `threads` is no such number; and what those raise.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise InvalidArgumentError(f"threads must be an int of at least 1, got {threads!r}")
    pool = _Threads(threads)
    try:
        if path is None:
            local = await pool.run(EphemeralClient, settings, tenant, database, **options)
        else:
            local = await pool.run(PersistentClient, path, settings, tenant, database, **options)
    except BaseException:
        await pool.close()
        raise
    return AsyncLocalClient(local, pool)


def _awaitable(
    owner: AsyncCollection | AsyncLocalClient, local: object, name: str
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The method `name` of what is wrapped, in a thread."""
    method = None if name.startswith("_") else getattr(local, name, None)
    if not callable(method) or name in _NOT_CALLS:
        raise AttributeError(f"{type(owner).__name__!r} object has no attribute {name!r}")

    async def call(*args: Any, **kwargs: Any) -> Any:
        return await owner._threads.run(method, *args, **kwargs)

    return functools.update_wrapper(call, method)


_NOT_CALLS = frozenset({"from_chroma", "from_system", "clear_system_cache"})

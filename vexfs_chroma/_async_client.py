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
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT
from chromadb.errors import InvalidArgumentError
from typing_extensions import Self

from vexfs_chroma._client import EphemeralClient, PersistentClient
from vexfs_chroma._collection import Collection
from vexfs_chroma._local_client import LocalClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
    from pathlib import Path
    from uuid import UUID

    from chromadb.api.collection_configuration import CollectionConfiguration
    from chromadb.api.types import CollectionMetadata, Schema
    from chromadb.config import Settings

    from vexfs_chroma._api import VexfsAPI

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8
"""Calls that run at a time, unless the client says otherwise."""


class _Threads:
    """Runs calls in threads of its own."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="vexfs-async")

    async def run(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        loop = asyncio.get_running_loop()
        # The task's context: spans have its own as their parent, and it may keep what is written.
        work = functools.partial(contextvars.copy_context().run, call, *args, **kwargs)
        try:
            done = loop.run_in_executor(self._pool, work)
        except RuntimeError:  # there are no threads any more: the client is closed, and says so
            return call(*args, **kwargs)
        return await done

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown)


def _awaited(
    call: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """A method of what is wrapped, run in a thread; with its arguments and documentation."""

    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        found: T = await self._threads.run(getattr(self.local, call.__name__), *args, **kwargs)
        return found

    functools.update_wrapper(method, call)
    return method


def _awaited_batches(
    call: Callable[Concatenate[Any, P], Iterator[T]],
) -> Callable[Concatenate[Any, P], AsyncIterator[T]]:
    """The same of a method that gives one thing after the other; for `async for`."""
    run = _awaited(call)

    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        batches = await run(self, *args, **kwargs)
        nothing = object()
        while (batch := await self._threads.run(next, batches, nothing)) is not nothing:
            yield batch

    functools.update_wrapper(method, call)
    return method


class AsyncCollection:
    """A collection of an AsyncClient: the methods of chromadb's AsyncCollection.

    They take and give what those of Collection do.  A call that is cancelled while it runs goes on
    in its thread: a write may still happen, whole.  The other methods of our collections are there,
    too, each to be awaited; `local` is the collection itself.
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
    def metadata(self) -> CollectionMetadata:
        """Its metadata."""
        return self.local.metadata

    @property
    def configuration(self) -> CollectionConfiguration:
        """Its configuration."""
        return self.local.configuration

    @property
    def configuration_json(self) -> dict[str, Any]:
        """The same, as JSON."""
        return self.local.configuration_json

    @property
    def schema(self) -> Schema | None:
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

    add = _awaited(Collection.add)
    update = _awaited(Collection.update)
    upsert = _awaited(Collection.upsert)
    delete = _awaited(Collection.delete)
    get = _awaited(Collection.get)
    peek = _awaited(Collection.peek)
    query = _awaited(Collection.query)
    search = _awaited(Collection.search)
    count = _awaited(Collection.count)
    modify = _awaited(Collection.modify)
    fork_count = _awaited(Collection.fork_count)
    get_indexing_status = _awaited(Collection.get_indexing_status)
    attach_function = _awaited(Collection.attach_function)
    get_attached_function = _awaited(Collection.get_attached_function)
    detach_function = _awaited(Collection.detach_function)

    # -- beyond chromadb ---------------------------------------------------------------------------

    distinct = _awaited(Collection.distinct)
    expire = _awaited(Collection.expire)
    explain = _awaited(Collection.explain)
    facets = _awaited(Collection.facets)
    iter_batches = _awaited_batches(Collection.iter_batches)
    keys = _awaited(Collection.keys)
    memory = _awaited(Collection.memory)
    min_max = _awaited(Collection.min_max)
    recall_check = _awaited(Collection.recall_check)
    reembed = _awaited(Collection.reembed)
    reindex = _awaited(Collection.reindex)
    stats = _awaited(Collection.stats)
    unload = _awaited(Collection.unload)
    wait_for_index = _awaited(Collection.wait_for_index)

    async def fork(self, new_name: str) -> AsyncCollection:
        """See Collection.fork."""
        return AsyncCollection(await self._threads.run(self.local.fork, new_name), self._threads)


def _awaited_collection(
    call: Callable[Concatenate[Any, P], Collection],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, AsyncCollection]]:
    """The same of a method that gives a collection."""
    run = _awaited(call)

    async def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> AsyncCollection:
        return AsyncCollection(await run(self, *args, **kwargs), self._threads)

    functools.update_wrapper(method, call)
    return method


class AsyncLocalClient:
    """A client of a local database for asyncio; AsyncClient() makes it.

    It has the methods of chromadb's AsyncClientAPI, which take and give what those of LocalClient
    do, with AsyncCollections in the place of collections.  The other methods of LocalClient are
    there, too, each to be awaited; `local` is the client itself.
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

    create_collection = _awaited_collection(LocalClient.create_collection)
    get_collection = _awaited_collection(LocalClient.get_collection)
    get_collection_by_id = _awaited_collection(LocalClient.get_collection_by_id)
    get_or_create_collection = _awaited_collection(LocalClient.get_or_create_collection)
    delete_collection = _awaited(LocalClient.delete_collection)
    count_collections = _awaited(LocalClient.count_collections)
    set_tenant = _awaited(LocalClient.set_tenant)
    set_database = _awaited(LocalClient.set_database)
    heartbeat = _awaited(LocalClient.heartbeat)
    reset = _awaited(LocalClient.reset)
    get_version = _awaited(LocalClient.get_version)
    get_max_batch_size = _awaited(LocalClient.get_max_batch_size)
    get_user_identity = _awaited(LocalClient.get_user_identity)

    # -- beyond chromadb ---------------------------------------------------------------------------

    backup = _awaited(LocalClient.backup)
    memory = _awaited(LocalClient.memory)
    metrics_text = _awaited(LocalClient.metrics_text)
    on_slow_operation = _awaited(LocalClient.on_slow_operation)
    slow_operations = _awaited(LocalClient.slow_operations)
    start_metrics_exporter = _awaited(LocalClient.start_metrics_exporter)
    stats = _awaited(LocalClient.stats)
    unload = _awaited(LocalClient.unload)
    vacuum = _awaited(LocalClient.vacuum)
    wait_idle = _awaited(LocalClient.wait_idle)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """See LocalClient.transaction; here with `async with client.transaction():`.

        Calls that the block did not wait for, and those of tasks that were started in it, belong to
        it, too, and raise InvalidArgumentError where they come after its end.
        """
        api = cast("VexfsAPI", self.local._server)
        with api.keeping() as kept:
            yield
        await self._threads.run(api.commit, kept)

    async def list_collections(
        self, limit: int | None = None, offset: int | None = None
    ) -> Sequence[AsyncCollection]:
        """See LocalClient.list_collections."""
        found = await self._threads.run(self.local.list_collections, limit, offset)
        return [AsyncCollection(each, self._threads) for each in found]

    def get_settings(self) -> Settings:
        """See LocalClient.get_settings; not to be awaited, as in chromadb."""
        return self.local.get_settings()


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

"""Locust users that drive the embedded client: no server, no HTTP, the library in this process.

Every answer is checked, not only timed: right number of rows, right ids, right distances, all the
nearest (brute force on a sample), filters obeyed, own writes visible at once.  A wrong answer is a
failed request, and a run with a failed request exits with an error.

Calls run on gevent's pool of native threads, so the users really are in the engine at the same
time; `--processes N` adds processes on the same directory.  Times are those of the call alone.
See README.md for the knobs.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gevent
import numpy as np
from dataset import COLLECTION, DIMENSION, FAR, GROUPS, PATH, ROWS, Base, clustered
from locust import User, constant, events, task

import vexfs_chroma

K = 10
CHECK_EVERY = int(os.environ.get("VEXFS_LOAD_CHECK_EVERY", "10"))  # brute force every n-th search
RECALL = float(os.environ.get("VEXFS_LOAD_RECALL", "0.99"))  # least mean recall of the sample
P99_MS = float(os.environ.get("VEXFS_LOAD_P99_MS", "0"))  # most p99 of any kind of call; 0: any
OUTPUT = Path(os.environ.get("VEXFS_LOAD_OUTPUT", "build/load"))


class Shared:
    """What the users of this process share: one client, the base rows, and the figures."""

    client: Any = None
    collection: Any = None
    base: Base
    times_ms: ClassVar[dict[str, list[float]]] = defaultdict(list)
    recalls: ClassVar[list[float]] = []


@events.init.add_listener
def open_database(**_: Any) -> None:
    Shared.base = Base()
    Shared.client = vexfs_chroma.PersistentClient(path=PATH)
    Shared.collection = Shared.client.get_collection(COLLECTION, embedding_function=None)


class WrongAnswerError(AssertionError):
    """An answer that is not what it must be."""


def require(condition: Any, complaint: str) -> None:
    if not condition:
        raise WrongAnswerError(complaint)


class EmbeddedUser(User):
    """Times calls, checks answers, reports both to Locust."""

    abstract = True
    wait_time = constant(0)

    def on_start(self) -> None:
        self.collection = Shared.collection
        self.base = Shared.base
        self.mark = uuid.uuid4().hex[:12]
        self.random = np.random.default_rng(int(self.mark, 16))
        self.searches = 0

    def call(self, name: str, method: str, check: Callable[[Any], None], **arguments: Any) -> None:
        """One call of the collection, then the check of what it returned."""

        def timed() -> tuple[Any, float]:
            started = time.perf_counter()
            result = getattr(self.collection, method)(**arguments)
            return result, (time.perf_counter() - started) * 1000

        failure: Exception | None = None
        milliseconds, rows = 0.0, 0
        try:
            result, milliseconds = gevent.get_hub().threadpool.apply(timed)
            rows = len(result["ids"]) if isinstance(result, dict) and "ids" in result else 1
            check(result)
        except Exception as problem:  # noqa: BLE001  any failure is Locust's to count
            failure = problem
        Shared.times_ms[name].append(milliseconds)
        self.environment.events.request.fire(
            request_type=method,
            name=name,
            response_time=milliseconds,
            response_length=rows,
            exception=failure,
            context={},
        )

    def search(self, group: int | None = None, texts: bool = False) -> None:
        query = clustered(1, self.random)[0]
        self.searches += 1
        full = self.searches % CHECK_EVERY == 0
        name = "search" if group is None else "search in a group"
        include = ["distances", "metadatas"] + (["documents"] if texts else [])

        def check(found: Any) -> None:
            rows = self.check_neighbours(found, query, group)
            if texts:
                expected = [f"document {n} of group {n % GROUPS}" for n in rows]
                require(found["documents"][0] == expected, "another row's document")
            if full:
                exact = self.base.nearest(query, K, group)
                within = np.asarray(found["distances"][0]) <= exact[-1] * (1 + 1e-5)
                Shared.recalls.append(float(within.mean()))

        where = None if group is None else {"group": group}
        self.call(
            name,
            "query",
            check,
            query_embeddings=[query],
            n_results=K,
            where=where,
            include=include,
        )

    def check_neighbours(self, found: Any, query: Any, group: int | None) -> list[int]:
        ids, distances = found["ids"][0], np.asarray(found["distances"][0])
        require(len(ids) == len(set(ids)) == K, f"{len(set(ids))} different ids instead of {K}")
        require(all(one.startswith("base") for one in ids), f"a stranger among {ids}")
        rows = [int(one.removeprefix("base")) for one in ids]
        require(max(rows) < ROWS, f"a row that was never stored among {ids}")
        require((np.diff(distances) >= 0).all(), "not nearest first")
        true = self.base.distances(query, np.asarray(rows))
        require(np.allclose(distances, true, rtol=1e-4), "a distance is wrong")
        groups = [about["group"] for about in found["metadatas"][0]]
        require(groups == [n % GROUPS for n in rows], "another row's metadata")
        require(group is None or set(groups) == {group}, "the filter let another group through")
        return rows


class SearchUser(EmbeddedUser):
    """Reads only: plain searches, filtered ones, records by id, counts."""

    weight = 3

    @task(6)
    def plain(self) -> None:
        self.search()

    @task(2)
    def with_documents(self) -> None:
        self.search(texts=True)

    @task(2)
    def filtered(self) -> None:
        self.search(group=int(self.random.integers(GROUPS)))

    @task(1)
    def by_id(self) -> None:
        numbers = sorted(self.random.choice(ROWS, 20, replace=False).tolist())

        def check(found: Any) -> None:
            require(found["ids"] == [f"base{n}" for n in numbers], "wrong ids")
            stored = np.asarray(found["embeddings"], dtype=np.float32)
            require((stored == self.base.vectors[numbers]).all(), "another embedding")

        ids = [f"base{n}" for n in reversed(numbers)]
        self.call("get 20 by id", "get", check, ids=ids, include=["embeddings"])

    @task(1)
    def count(self) -> None:
        self.call("count", "count", lambda n: require(n >= ROWS, f"{n} rows"))


class MixedUser(EmbeddedUser):
    """Searches, and writes rows of its own: what it wrote it must find, what it deleted not."""

    weight = 2

    def on_start(self) -> None:
        super().on_start()
        self.mine: dict[str, Any] = {}  # id -> (vector, text)
        self.written = 0

    def on_stop(self) -> None:
        if self.mine:
            self.collection.delete(ids=list(self.mine))

    @task(7)
    def plain(self) -> None:
        self.search()

    @task(2)
    def upsert(self) -> None:
        size = int(self.random.choice([1, 10, 50]))
        known = list(self.mine)[: size // 2]  # half of them replace rows of ours
        ids = known + [f"{self.mark}-{self.written + n}" for n in range(size - len(known))]
        self.written += size
        vectors = clustered(size, self.random)
        vectors[:, 0] += FAR
        texts = [f"text {self.written} of {one}" for one in ids]
        metadatas = [{"kind": "volatile", "owner": self.mark, "write": self.written}] * size
        self.call(
            f"upsert {size}", "upsert", lambda _: None,
            ids=ids, embeddings=vectors, documents=texts, metadatas=metadatas,
        )  # fmt: skip
        self.mine.update(zip(ids, zip(vectors, texts, strict=True), strict=True))
        self.find_again(ids[-1])

    def find_again(self, one: str) -> None:
        vector, text = self.mine[one]

        def check(found: Any) -> None:
            require(found["ids"][0] == [one], f"found {found['ids'][0]}, just wrote {one}")
            require(found["distances"][0][0] == 0, "its own distance is not 0")
            require(found["documents"][0] == [text], "an older document")

        self.call(
            "search own write", "query", check,
            query_embeddings=[vector], n_results=1, include=["distances", "documents"],
        )  # fmt: skip

    @task(1)
    def delete(self) -> None:
        ids = list(self.mine)[:5]
        if not ids:
            return
        self.call("delete", "delete", lambda _: None, ids=ids)
        for one in ids:
            del self.mine[one]
        self.call("get deleted", "get", lambda f: require(f["ids"] == [], "still there"), ids=ids)

    @task(1)
    def list_own(self) -> None:
        def check(found: Any) -> None:
            stored = dict(zip(found["ids"], found["documents"], strict=True))
            require(
                stored == {one: text for one, (_, text) in self.mine.items()}, "not what I wrote"
            )

        where = {"owner": self.mark}
        self.call("get own by filter", "get", check, where=where, include=["documents"])


@events.quitting.add_listener
def report(environment: Any, **_: Any) -> None:
    """Exact percentiles and recall as JSON; the verdict as exit code."""
    if not Shared.times_ms:
        return  # the master of a distributed run; its workers report
    calls = {
        name: {
            "calls": len(times),
            **{f"p{p}_ms": round(float(np.percentile(times, p)), 4) for p in (50, 95, 99)},
            "max_ms": round(max(times), 4),
        }
        for name, times in sorted(Shared.times_ms.items())
    }
    recall = float(np.mean(Shared.recalls)) if Shared.recalls else None
    failures = environment.stats.total.num_failures
    complaints = [f"{failures} wrong or failed calls"] if failures else []
    if recall is None:
        complaints.append("no search was checked against brute force")
    elif recall < RECALL:
        complaints.append(f"recall {recall:.4f} is below {RECALL}")
    slow = [name for name, one in calls.items() if P99_MS and one["p99_ms"] > P99_MS]
    complaints += [f"p99 of '{name}' is above {P99_MS} ms" for name in slow]
    summary = {
        "rows": ROWS,
        "dimension": DIMENSION,
        "recall": recall,
        "searches_checked": len(Shared.recalls),
        "failures": failures,
        "complaints": complaints,
        "calls": calls,
    }
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / f"summary-{os.getpid()}.json").write_text(json.dumps(summary, indent=2) + "\n")
    for name, one in calls.items():
        percentiles = "".join(f"   p{p} {one[f'p{p}_ms']:>9.3f} ms" for p in (50, 95, 99))
        print(f"{name:<20} {one['calls']:>7} calls{percentiles}")
    print(f"recall {recall} over {len(Shared.recalls)} searches checked by brute force")
    for complaint in complaints:
        print("FAILED:", complaint)
    environment.process_exit_code = 1 if complaints else 0
    Shared.client.close()

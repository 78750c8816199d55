r"""What Locust loads: users of a server (`HttpUser`) and of the embedded client (`EmbeddedUser`).

    locust -f loadtests/locustfile.py --headless --scenario rag --scale 0.05 \
        --target http://127.0.0.1:8000

`vexctl load-test run` starts servers, calls this, and reports; see docs/cli.md.
"""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
import msgspec
from locust import LoadTestShape, User, events, task
from locust.contrib.fasthttp import FastHttpUser
from locust.event import EventHook

from vexfs_chroma._load import _http, _result, _run, _scenarios, _shapes, _targets
from vexfs_chroma._load._actor import Actor, UnavailableError
from vexfs_chroma._load._recorder import Recorder
from vexfs_chroma._load._world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from locust.env import Environment

    from vexfs_chroma._load._actor import Timed
    from vexfs_chroma._load._world import OwnRow

_TOO_BUSY = frozenset({0, 429, 502, 503, 504})
_STOP_S = 60  # for the last operations, and to look for what was written
_SLOTS = 1800  # of the recorder, for a run of any length
_JSON = {"Content-Type": "application/json", "Accept-Encoding": "identity"}


class Shared:
    """What the users of this process share."""

    world: World
    recorder = Recorder()
    path = ""  # of the collection, on a server
    bodies: _http.Bodies
    collection: Any = None  # of the embedded client
    client: Any = None
    interval: float | None = None  # of operations of one user
    numbers = itertools.count()
    users = 1
    seconds = 0.0


# ---- options and set-up --------------------------------------------------------------------------


@events.init_command_line_parser.add_listener
def _options(parser: Any) -> None:
    group = parser.add_argument_group("vexfs_chroma load test")
    group.add_argument("--scenario", choices=list(_scenarios.SCENARIOS), default="rag")
    group.add_argument("--scale", type=float, default=1.0, help="part of the rows")
    group.add_argument("--target", default="", help="inproc, or the URL of a server")
    group.add_argument("--seed", type=int, default=1, help="of queries and operations")
    group.add_argument("--rate", type=float, default=0.0, help="operations/s; 0: the scenario's")
    group.add_argument("--load-shape", choices=list(_shapes.SHAPES), help="else the scenario's")
    group.add_argument("--data", default="build/load/data", help="folder of rows and databases")
    group.add_argument("--results", default="build/load/results", help="folder of result.json")
    group.add_argument("--slo", default="", help="file of service levels")


@events.init.add_listener
def _set_up(environment: Environment, **_: Any) -> None:
    """Rows, truth and target, unless they are there: vexctl has made them before."""
    options: Any = environment.parsed_options
    if options is None or (environment.web_ui is not None and not options.target):
        return
    options.target = options.target or environment.host or _targets.INPROC
    scenario = _scenarios.SCENARIOS[options.scenario].scaled(options.scale)
    data = Path(options.data)
    # Native threads do the long work: without heartbeats, workers count as lost.
    Shared.world = world = _in_thread(lambda: World(data, scenario, options.seed))
    Shared.users = options.num_users or scenario.users
    Shared.seconds = options.run_time or scenario.seconds
    Shared.recorder.width = 1 + int(Shared.seconds / _SLOTS)
    rate = options.rate or scenario.rate
    Shared.interval = Shared.users / rate if rate else None
    environment.stop_timeout = _STOP_S
    is_worker = environment.runner is not None and "Worker" in type(environment.runner).__name__
    if options.target == _targets.INPROC:
        directory = data / "inproc"
        if not is_worker:
            _in_thread(lambda: _targets.fill_directory(directory, world))
        if _has_users(environment):
            _open(directory)
    else:
        environment.host = options.target
        if not is_worker:
            _in_thread(lambda: _targets.fill(options.target, world))
        connection = _http.Connection(options.target)
        Shared.path = _http.collection_path(connection, world.collection_name) or ""
        connection.close()
        Shared.bodies = _http.Bodies(world)


def _has_users(environment: Environment) -> bool:
    return "Master" not in type(environment.runner).__name__


def _open(directory: Path) -> None:
    import vexfs_chroma

    Shared.client = vexfs_chroma.PersistentClient(path=directory)
    Shared.collection = Shared.client.get_collection(
        Shared.world.collection_name, embedding_function=None
    )


def _in_thread(job: Callable[[], Any]) -> Any:
    return gevent.get_hub().threadpool.apply(job)


@events.test_start.add_listener
def _tell(environment: Environment, **_: Any) -> None:
    """To whoever waits for it: from now on there are users."""
    if "Worker" not in type(environment.runner).__name__:
        folder = Path(environment.parsed_options.results)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _run.STARTED).touch()


# ---- users ---------------------------------------------------------------------------------------


class _Acting(User):  # type: ignore[misc]  # Locust has no types
    """A user whose operations an Actor chooses, times and checks."""

    abstract = True

    def on_start(self) -> None:
        """Its number makes its operations the same in every run."""
        runner = self.environment.runner
        worker = max(0, getattr(runner, "worker_index", 0))
        number = next(Shared.numbers) * 1000 + worker
        self.actor = Actor(
            Shared.world,
            self.store(),
            Shared.recorder,
            number,
            interval=Shared.interval,
            report=self.report,
            sleep=gevent.sleep,
        )

    def store(self) -> Any:
        """The collection, for this user."""
        raise NotImplementedError  # each kind of user has its own

    def wait_time(self) -> float:
        """By the timetable of the actor."""
        return self.actor.pause()

    @task
    def step(self) -> None:
        """One operation, with what belongs to it."""
        self.actor.step()

    def on_stop(self) -> None:
        """Looks for everything that was acknowledged."""
        try:
            self.actor.verify()
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing is known of the rows
            Shared.recorder.counters["unfinished"] += 1
            Shared.recorder.examples.setdefault("unfinished", f"{type(error).__name__}: {error}")

    def report(self, kind: str, ms: float, vectors: int, problem: Exception | None) -> None:
        """To Locust's own statistics."""
        self.environment.events.request.fire(
            request_type=Shared.world.scenario.name,
            name=kind,
            response_time=ms,
            response_length=vectors,
            exception=problem,
            context={},
        )


class HttpUser(_Acting, FastHttpUser):  # type: ignore[misc]
    """A user of a server, ours or Chroma's, on a connection of its own."""

    max_retries = 1  # a connection that the server closed meanwhile is no failure
    network_timeout = 30.0
    connection_timeout = 10.0

    def store(self) -> HttpUser:
        """Itself."""
        self.client.request_event = EventHook()  # the actor reports, after its checks
        return self

    def _post(self, call: str, body: bytes) -> Timed:
        response = self.client.post(f"{Shared.path}/{call}", data=body, headers=_JSON)
        ended = time.perf_counter_ns()
        status = response.status_code
        if status in _TOO_BUSY:
            raise UnavailableError(f"status {status}: {getattr(response, 'error', None)}")
        if status >= 300:
            raise _http.HttpError(status, response.text or "")
        return msgspec.json.decode(response.content), ended

    def query(self, numbers: Sequence[int], group: int | None) -> Timed:
        """See Store."""
        return self._post("query", Shared.bodies.query(numbers, group))

    def query_own(self, row: OwnRow) -> Timed:
        """See Store."""
        return self._post("query", Shared.bodies.query_own(row))

    def get(self, ids: Sequence[str]) -> Timed:
        """See Store."""
        return self._post("get", Shared.bodies.get(ids))

    def upsert(self, id: str, row: OwnRow) -> Timed:
        """See Store."""
        return self._post("upsert", Shared.bodies.upsert([id], [row]))

    def delete(self, id: str) -> Timed:
        """See Store."""
        return self._post("delete", Shared.bodies.delete([id]))


class EmbeddedUser(_Acting):
    """A user of the embedded client: calls on native threads, several in the engine at once."""

    def store(self) -> EmbeddedUser:
        """Itself."""
        scenario = Shared.world.scenario
        self._include = ["metadatas", "distances"] + (["documents"] if scenario.documents else [])
        return self

    def _call(self, method: str, **arguments: Any) -> Timed:
        def timed() -> Timed:
            answer = getattr(Shared.collection, method)(**arguments)
            return answer, time.perf_counter_ns()

        found: Timed = _in_thread(timed)
        return found

    def _query(self, vectors: Any, where: Any) -> Timed:
        k = Shared.world.scenario.k
        return self._call(
            "query", query_embeddings=vectors, n_results=k, where=where, include=self._include
        )

    def query(self, numbers: Sequence[int], group: int | None) -> Timed:
        """See Store."""
        where = None if group is None else {"group": group}
        return self._query(Shared.world.queries[list(numbers)], where)

    def query_own(self, row: OwnRow) -> Timed:
        """See Store."""
        return self._query([row.vector], None)

    def get(self, ids: Sequence[str]) -> Timed:
        """See Store."""
        return self._call("get", ids=list(ids), include=["metadatas", "embeddings"])

    def upsert(self, id: str, row: OwnRow) -> Timed:
        """See Store."""
        texts = None if row.text is None else [row.text]
        return self._call(
            "upsert", ids=[id], embeddings=[row.vector], metadatas=[row.metadata], documents=texts
        )

    def delete(self, id: str) -> Timed:
        """See Store."""
        return self._call("delete", ids=[id])


class Shape(LoadTestShape):  # type: ignore[misc]
    """The stages of the scenario, or of -u and -t; notes when each began."""

    use_common_options = True

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[tuple[float, int]] = []
        self._plan: list[_shapes.Stage] | None = None

    def tick(self) -> tuple[int, float, list[type[Any]]] | None:
        """How many users there should be now."""
        options = self.runner.environment.parsed_options
        if self._plan is None:
            shape = options.load_shape or Shared.world.scenario.shape
            self._plan = _shapes.stages(shape, Shared.users, Shared.seconds)
        stage = _shapes.stage_at(self._plan, self.get_run_time())
        if stage is None:
            self.marks.append((time.time(), 0))
            return None
        if not self.marks or self.marks[-1][1] != stage.users:
            self.marks.append((time.time(), stage.users))
        kind = EmbeddedUser if options.target == _targets.INPROC else HttpUser
        return stage.users, max(10, stage.users), [kind]


# ---- figures -------------------------------------------------------------------------------------


@events.report_to_master.add_listener
def _to_master(data: dict[str, Any], **_: Any) -> None:
    data["vexfs"] = json.dumps(Shared.recorder.take())


@events.worker_report.add_listener
def _from_worker(data: dict[str, Any], **_: Any) -> None:
    if "vexfs" in data:
        Shared.recorder.merge(Recorder.from_json(json.loads(data["vexfs"])))


@events.quitting.add_listener
def _judge(environment: Environment, **_: Any) -> None:
    if Shared.client is not None:
        Shared.client.close()
    if "Worker" in type(environment.runner).__name__ or not hasattr(Shared, "world"):
        return
    options: Any = environment.parsed_options
    marks = getattr(environment.shape_class, "marks", [])
    result = _result.make(
        Shared.recorder, marks, Shared.world.scenario, options.target, options.seed, options.scale
    )
    result.judge(Path(options.slo) if options.slo else None)
    folder = Path(options.results)
    folder.mkdir(parents=True, exist_ok=True)
    result.save(folder / "result.json")
    environment.process_exit_code = 0 if result.ok else 1

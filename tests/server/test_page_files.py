"""The page at `/` as files, and the JSON behind its panels: headers, names, rights, limits."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from server_kit import API, DEFAULT, Server, run_server

import vexfs_chroma
from vexfs_chroma._observe import _observer
from vexfs_chroma._observe._history import History
from vexfs_chroma._server import _page, _tuning
from vexfs_chroma._server._auth import hash_token
from vexfs_chroma._server._config import load
from vexfs_chroma._server._errors import HttpError
from vexfs_chroma._server._request import Request
from vexfs_chroma._tuning import measure

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
FOLDER = Path(_page.__file__).parent / "page"


def policy(headers: dict[str, str]) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in headers["content-security-policy"].split(";"))
    return {name: values for name, _, values in parts}


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(_page.FILES))
def test_every_file_is_served_with_its_headers(server: Server, path: str) -> None:
    answer = server.call("GET", path)
    assert answer.status == 200
    assert answer.body == (FOLDER / (path.rpartition("/")[2] or "index.html")).read_bytes()
    assert policy(answer.headers) == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert answer.headers["content-type"].startswith(kinds.get(path.partition(".")[2], "text/html"))
    head = server.call("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.body))
    assert server.call("POST", path, {}).status == 405


def test_browsers_keep_files_while_they_are_the_same(server: Server) -> None:
    tag = server.call("GET", "/ui/app.js").headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = server.call("GET", "/ui/app.js", headers={"if-none-match": known})
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == tag
        assert policy(again.headers) == POLICY
    other = server.call("GET", "/ui/app.js", headers={"if-none-match": '"other"'})
    assert other.status == 200
    assert other.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "/ui/",
        "/ui",
        "/ui/index.html",
        "/index.html",
        "/ui/app.js/",
        "/ui/../_page.py",
        "/ui/%2e%2e/_page.py",
        "/ui/..%2f_page.py",
        "/ui//etc/passwd",
        "/ui/%2fetc%2fpasswd",
        "/ui/app.js%00",
        "/ui/APP.JS",
    ],
)
def test_nothing_else_is_a_file(server: Server, path: str) -> None:
    assert server.call("GET", path).status == 404


def test_every_file_has_a_name_in_the_table() -> None:
    """And the other way round: what is forgotten would be missing in the page, or in the wheel."""
    assert {path.name for path in FOLDER.iterdir()} == set(_page._FILES)


def test_the_page_is_made_of_its_own_files_alone() -> None:
    """Modules import each other; no file names another host, or makes elements of text."""
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8")
        named = re.findall(r"https?://([^\s\"'/]+)", text)
        assert set(named) <= {"www.w3.org"}, path  # the name of SVG, which nobody asks for
        for module in re.findall(r'^import .* from "(.*)";$', text, re.MULTILINE):
            assert (FOLDER / module).is_file(), (path, module)
        words = r"(inner|outer|Adjacent)HTML|document\.write|DOMParser|\beval\(|new Function"
        assert not re.search(words, text), path
        assert not re.search(r"\son\w+=|style=|<style|javascript:", text), path


def test_switched_off(tmp_path: Path) -> None:
    with run_server(tmp_path, config="[server]\npage = false\n") as server:
        for path in _page.FILES:
            assert server.call("GET", path).status == 404
        assert server.call("GET", "/vexfs/history").status == 200


def test_the_switch() -> None:
    assert load(environment={}).server.page
    assert not load(environment={"VEXFS_SERVER_PAGE": "false"}).server.page


# -- JSON of the panels ----------------------------------------------------------------------------


def test_history_of_operations(tmp_path: Path) -> None:
    with run_server(tmp_path) as server:
        made = server.call("POST", DEFAULT + "/collections", {"name": "things"}).json
        path = f"{DEFAULT}/collections/{made['id']}"
        server.call("POST", path + "/add", {"ids": ["a"], "embeddings": [[1, 2]]})
        for _ in range(7):
            server.call("GET", path + "/count")
        found: dict[str, Any] = {}
        end = time.monotonic() + 20
        while time.monotonic() < end:
            found = server.call("GET", "/vexfs/history").json
            done = {one["operation"]: one["count"] for one in found["recent"]["operations"]}
            if done == {"add": 1, "count": 7}:
                break
            time.sleep(0.1)
        else:
            pytest.fail(str(found))
        points = [one["operations"]["count"] for one in found["points"] if one["operations"]]
        assert sum(point["count"] for point in points) == 7
        assert all(0 < point["p50_ms"] <= point["p95_ms"] <= point["p99_ms"] for point in points)
        assert found["pid"] == server.process.pid
        last = found["points"][-1]["at"]
        assert all(
            p["at"] > last
            for p in server.call("GET", f"/vexfs/history?after={last}").json["points"]
        )
        wrong = server.call("GET", "/vexfs/history?after=soon")
        assert (wrong.status, wrong.error) == (400, "InvalidArgumentError")


def test_points_are_what_was_done_between_them() -> None:
    history = History()
    history.sample()
    observer = _observer.observer()
    for ns in (1_000_000, 2_000_000, 400_000_000):
        observer.done("get", ns, None)
    history.sample()
    history.sample()
    first, second, third = history.points()
    assert "get" not in first["operations"]
    got = second["operations"]["get"]
    assert (got["count"], got["errors"]) == (3, 0)
    assert 2 <= got["p50_ms"] <= 2 * 1.25
    assert 400 <= got["p99_ms"] <= 400 * 1.25
    assert "get" not in third["operations"]
    assert history.points(second["at"]) == [third]
    (recent,) = history.recent()["operations"]
    assert recent["count"] == 3


def test_history_of_workers_is_that_of_all(tmp_path: Path) -> None:
    with run_server(tmp_path, "--workers", "2") as server:
        made = server.call("POST", DEFAULT + "/collections", {"name": "things"}).json
        for _ in range(20):  # each on a connection of its own: both workers get some
            server.call("GET", f"{DEFAULT}/collections/{made['id']}/count")
        waiting = {pid["pid"] for pid in server.call("GET", "/vexfs/facts").json["processes"]}
        assert len(waiting) == 2
        end = time.monotonic() + 30
        while waiting and time.monotonic() < end:
            found = server.call("GET", "/vexfs/history").json
            if [one["count"] for one in found["recent"]["operations"]] == [20]:
                waiting.discard(found["pid"])
            time.sleep(0.05)
        assert not waiting


def test_tenants(server: Server) -> None:
    for name in ("acme", "other"):
        server.call("POST", API + "/tenants", {"name": name})
    found = server.call("GET", "/vexfs/tenants").json
    assert {"acme", "other", "default_tenant"} <= set(found["tenants"])
    assert found["total"] == len(found["tenants"])
    page = server.call("GET", "/vexfs/tenants?limit=1&offset=1").json
    assert page == {"total": found["total"], "tenants": found["tenants"][1:2]}
    assert server.call("GET", "/vexfs/tenants?limit=x").status == 400


def test_rights(tmp_path: Path) -> None:
    entries = "".join(
        f'[[auth.tokens]]\nname = "{name}"\nhash = "{hash_token(name)}"\nrole = "read"\n{limit}\n'
        for name, limit in (("all", ""), ("one", 'tenant = "default_tenant"'))
    )
    with run_server(tmp_path, config=entries) as server:
        assert server.call("GET", "/").status == 200  # shows nothing by itself
        assert server.call("GET", "/ui/app.js").status == 200
        for path in ("/vexfs/history", "/vexfs/tenants"):
            assert server.call("GET", path).status == 401
            assert server.call("GET", path, headers={"x-chroma-token": "all"}).status == 200
        one = {"x-chroma-token": "one"}
        assert server.call("GET", "/vexfs/history", headers=one).status == 403
        assert server.call("GET", "/vexfs/tenants", headers=one).json == {
            "total": 1,
            "tenants": ["default_tenant"],
        }


# -- tuning ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graphed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with a small collection that has a graph: its address, and the collection's path."""
    import numpy as np

    folder = tmp_path_factory.mktemp("graphed")
    vectors = np.random.default_rng(5).normal(size=(3000, 16)).astype(np.float32)
    with run_server(folder, variables={"VEXFS_INDEX_ROWS": "200"}) as server:
        made = server.call("POST", DEFAULT + "/collections", {"name": "graphed"}).json
        path = f"{DEFAULT}/collections/{made['id']}"
        body = {"ids": [str(i) for i in range(3000)], "embeddings": vectors.tolist()}
        assert server.call("POST", path + "/add", body).status == 201
        end = time.monotonic() + 30
        while server.call("GET", path + "/indexing_status").json["op_indexing_progress"] < 1:
            assert time.monotonic() < end
            time.sleep(0.05)
        yield server, path


def test_tuning_measures_recall_and_time(graphed: Any) -> None:
    server, path = graphed
    asked = {"queries": 30, "k": 10, "ef": [10, 200, 0], "seed": 3}
    found = server.call("POST", path + "/vexfs/tuning", asked).json
    assert (found["rows"], found["dimension"], found["queries"]) == (3000, 16, 30)
    assert found["complete"] is True
    assert found["exact"]["recall"] == 1
    assert found["exact"]["plans"] == {"asked for": 30}
    assert [one["ef"] for one in found["graph"]] == [10, 200, found["collection_ef"]]
    low, high, own = found["graph"]
    assert low["recall"] <= high["recall"]
    assert high["recall"] > 0.95
    assert own["walked_ef"] >= found["collection_ef"] >= 100
    for one in (low, high, own):
        assert one["plans"] == {"graph": 30}
    assert low["walk_distances"] < own["walk_distances"] < high["walk_distances"]
    for one in (found["exact"], *found["graph"]):
        ms = one["ms"]
        order = [ms[name] for name in ("min", "p5", "p25", "p50", "p75", "p95", "p99", "max")]
        assert order == sorted(order)
        assert order[0] > 0
        assert 0 <= one["worst"] <= one["recall"] <= 1


def test_tuning_is_not_counted_as_operations(graphed: Any) -> None:
    server, path = graphed

    def counted() -> dict[str, int]:
        found = server.call("GET", "/vexfs/facts").json["counters"]
        return {name: n for name, n in found.items() if name.startswith(("op.", "plan.", "query."))}

    before = counted()
    assert server.call("POST", path + "/vexfs/tuning", {"queries": 5}).status == 200
    assert counted() == before


@pytest.mark.parametrize(
    "body",
    [
        {"queries": 0},
        {"queries": 201},
        {"queries": "many"},
        {"k": 0},
        {"k": 1001},
        {"ef": []},
        {"ef": [1] * 13},
        {"ef": [-1]},
        {"ef": [10_001]},
        {"ef": 10},
        {"seed": -1},
        [],
    ],
)
def test_tuning_has_limits(graphed: Any, body: Any) -> None:
    server, path = graphed
    answer = server.call("POST", path + "/vexfs/tuning", body)
    assert (answer.status, answer.error) == (422, "ChromaError"), answer


def test_tuning_of_what_is_empty_or_not_there(server: Server) -> None:
    made = server.call("POST", DEFAULT + "/collections", {"name": "empty"}).json
    found = server.call("POST", f"{DEFAULT}/collections/{made['id']}/vexfs/tuning", {}).json
    assert (found["rows"], found["queries"], found["exact"], found["graph"]) == (0, 0, None, [])
    unknown = f"{DEFAULT}/collections/00000000-0000-0000-0000-000000000000/vexfs/tuning"
    assert server.call("POST", unknown, {}).status == 404


def test_one_measurement_at_a_time() -> None:
    """While one runs, another is refused before anything of it is done."""
    with _tuning._measuring, pytest.raises(HttpError, match="another measurement") as caught:
        _tuning.tuning(None, Request("POST", "", "", {}))  # type: ignore[arg-type]
    assert caught.value.status == 429
    assert dict(caught.value.headers)["retry-after"] == "5"


def test_another_one_comes_when_it_failed(server: Server) -> None:
    unknown = f"{DEFAULT}/collections/00000000-0000-0000-0000-000000000000/vexfs/tuning"
    assert [server.call("POST", unknown, {}).status for _ in range(3)] == [404] * 3


def test_measurements_end_when_their_time_is_over() -> None:
    with vexfs_chroma.EphemeralClient() as client:
        name = "tuned-until-stopped"
        collection = client.create_collection(name)
        collection.add(ids=list("abc"), embeddings=[[1, 0], [0, 1], [1, 1]])
        api: Any = client._server
        asked = iter([False, False, True])
        found = measure(api, collection.id, queries=3, k=1, efs=[0], stopped=lambda: next(asked))
        assert (found.queries, found.complete) == (2, False)
        late = measure(api, collection.id, queries=3, k=1, efs=[0], seconds=-1)
        assert (late.queries, late.complete, late.exact, late.graph) == (0, False, None, [])
        client.delete_collection(name)


def test_recall_is_that_of_recall_check(tmp_path: Path) -> None:
    """The same records, the same truth, the same rule for ties."""
    import numpy as np

    vectors = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
    with vexfs_chroma.PersistentClient(tmp_path) as client:
        collection = client.create_collection("same")
        collection.add(ids=[str(i) for i in range(300)], embeddings=vectors)
        found = measure(client._server, collection.id, queries=40, k=5, efs=[0], seed=9)
        checked = collection.recall_check(n=40, k=5, seed=9)
        assert found.graph[0].recall == checked.recall
        assert found.graph[0].plans == {checked.answered_by: 40}

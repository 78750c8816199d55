"""The page in Chromium: what it shows is what the server tells, and text stays text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from browser_kit import Page
from page_data import BIG, GRAPH_ROWS, HOSTILE, ODD_IDS, ROWS
from server_kit import DEFAULT, Server

Filled = tuple[Server, dict[str, Any]]
PLACE = "default_tenant/default_database"
CELLS = "[...document.querySelectorAll('.results td.id')].map((cell) => cell.innerText)"


def browse(page: Page, filled: Filled, name: str) -> None:
    server, ids = filled
    page.open(f"{server.url}/#/collections/{PLACE}/{ids[name]}")
    page.wait("document.querySelector('.pager [role=status]')?.innerText.includes(' in ')")
    page.wait("document.querySelector('.facts')")  # it comes by requests of its own


def shown_ids(page: Page) -> list[str]:
    found: list[str] = page.js(CELLS)
    return found


def wait_for_ids(page: Page, ids: list[str]) -> None:
    page.wait(f"JSON.stringify({CELLS}) === JSON.stringify({json.dumps(ids)})")


def rows_of(page: Page, panel: str) -> list[list[str]]:
    """The cells of a panel's table."""
    found: list[list[str]] = page.js(
        f"[...document.querySelectorAll('section[aria-label=\"{panel}\"] tbody tr')]"
        ".map((row) => [...row.children].map((cell) => cell.innerText))"
    )
    return found


def search(page: Page, way: str, text: str) -> None:
    """Search, and wait for the answer."""
    page.js("document.querySelector('.pager [role=status]').innerText = ''")
    page.choose(".search select", way)
    page.type("#find-text", text)
    if way == "ids":  # Enter ends a line
        page.click("button[type=submit]", "Search")
    else:
        page.press("Enter")
    page.wait(
        "document.querySelector('.pager [role=status]').innerText.includes(' in ')"
        " || document.querySelector('.notice.error')"
    )


# -- the dashboard ---------------------------------------------------------------------------------


def test_dashboard_shows_what_its_json_tells(page: Page, filled: Filled) -> None:
    server, ids = filled
    body = {"query_embeddings": [[0.5] * 16], "n_results": 3}
    for _ in range(5):
        assert (
            server.call("POST", f"{DEFAULT}/collections/{ids['graphed']}/query", body).status == 200
        )
    page.open(server.url + "/")
    page.wait("document.querySelectorAll('.panel table tbody tr').length > 5")
    page.wait("document.querySelector('#state').innerText === 'live'")
    facts = server.call("GET", "/vexfs/facts").json
    cells = rows_of(page, "Collections and their index")
    told = sorted(facts["database"]["collections"], key=lambda one: -one["rows"])
    assert [int(row[1].replace(",", "")) for row in cells] == [one["rows"] for one in told]
    assert {(row[0].split("\n")[0], row[3]) for row in cells} == {
        (one["name"], one["space"]) for one in told
    }
    tiles = page.js("[...document.querySelectorAll('.tile-value')].map((e) => e.innerText)")
    assert tiles[2] == f"{facts['database']['rows']:,}"
    slow = server.call("GET", "/vexfs/slow-log").json
    text = page.text('section[aria-label="Slow operations"]')
    assert "query" in text
    assert any(record["plan"]["why"] in text for record in slow if record.get("plan"))
    processes = page.text('section[aria-label="Processes"]')
    assert str(server.process.pid) in processes
    assert facts["simd"] in processes


def test_charts_follow_the_load(page: Page, filled: Filled) -> None:
    server, ids = filled
    page.open(server.url + "/#/dashboard")
    for _ in range(20):
        server.call("GET", f"{DEFAULT}/collections/{ids['notes']}/count")
    panel = "document.querySelector('section[aria-label=Throughput]')"
    page.wait(f"{panel}.querySelector('.legend').innerText.includes('count')")
    assert "count" in page.js(f"{panel}.querySelector('canvas').ariaLabel")
    # Something is painted in the colour of the line.
    painted = page.js(
        f"(() => {{ const c = {panel}.querySelector('canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "const seen = new Set(); for (let i = 0; i < d.length; i += 4)"
        " if (d[i + 3] > 200) seen.add([d[i], d[i + 1], d[i + 2]].join()); return [...seen]; })()"
    )
    assert "122,63,196" in painted  # --c4
    page.js(f"{panel}.querySelector('canvas').focus()")
    page.press("ArrowLeft")
    assert "count" in page.text("section[aria-label=Throughput] .tip")


def test_polling_stops_while_nobody_looks(page: Page, filled: Filled) -> None:
    server, _ = filled
    page.open(server.url + "/")
    page.wait("document.querySelector('#state').innerText === 'live'")
    page.js(
        "Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
        "document.dispatchEvent(new Event('visibilitychange')); 0"
    )
    page.js("new Promise((done) => setTimeout(done, 500))")  # what was under way ends
    before = len(page.requests)
    page.js("new Promise((done) => setTimeout(done, 2200))")  # there is a look every 2000 ms
    assert len(page.requests) == before
    page.js(
        "Object.defineProperty(document, 'hidden', { value: false, configurable: true });"
        "document.dispatchEvent(new Event('visibilitychange')); 0"
    )
    page.js("new Promise((done) => setTimeout(done, 500))")
    assert len(page.requests) > before


# -- the browser -----------------------------------------------------------------------------------


def test_pages_of_records(page: Page, filled: Filled) -> None:
    browse(page, filled, "notes")
    assert shown_ids(page) == [f"note-{i:02}" for i in range(25)]
    assert f"1 to 25 of {ROWS}" in page.text(".pager")
    page.click(".pager button", "Next →")
    page.wait(f"{CELLS}[0] === 'note-25'")
    page.click(".pager button", "Next →")
    page.wait(f"{CELLS}[0] === 'note-50'")
    assert shown_ids(page) == [f"note-{i}" for i in range(50, 60)]
    assert page.js("document.querySelectorAll('.pager button')[1].disabled")
    page.click(".pager button", "← Previous")
    page.wait(f"{CELLS}[0] === 'note-25'")


def test_integers_are_exact(page: Page, filled: Filled) -> None:
    browse(page, filled, "notes")
    assert str(BIG) in page.text(".results")


def test_searches(page: Page, filled: Filled) -> None:
    server, ids = filled
    browse(page, filled, "notes")
    search(page, "contains", "dragons")
    assert shown_ids(page) == ["note-07", "note-27", "note-47"]
    search(page, "words", "dragons travel")
    found = shown_ids(page)
    assert set(found[:1]) <= {"note-27"}  # the only one that has both words
    search(page, "ids", "note-03\nnote-44\n")
    assert shown_ids(page) == ["note-03", "note-44"]
    search(page, "similar", "note-05")
    path = f"{DEFAULT}/collections/{ids['notes']}"
    own = server.call("POST", path + "/get", {"ids": ["note-05"], "include": ["embeddings"]}).json
    body = {"query_embeddings": own["embeddings"], "n_results": 25, "include": []}
    assert shown_ids(page) == server.call("POST", path + "/query", body).json["ids"][0]
    search(page, "similar", "nobody")
    assert page.text(".notice.error") == "There is no record with the id nobody."
    page.click("button", "Clear")
    page.wait(f"{CELLS}.length === 25 && {CELLS}[0] === 'note-00'")
    page.click(".actions button", "More like this")
    page.wait("document.querySelector('#find-text').value === 'note-00'")


def test_ids_are_exact(page: Page, filled: Filled) -> None:
    """Commas, blanks and line breaks are parts of ids; of several ids each has a line."""
    browse(page, filled, "odd")
    cells = "[...document.querySelectorAll('.results td.id')].map((cell) => cell.textContent)"
    for text, found in (
        ("a, b", ["a, b"]),
        (" a", [" a"]),
        ("a", ["a"]),
        ("b\na, b\nb\n\nnobody", ["a, b", "b"]),
        ("a ", []),
        ("two\nlines", ["two"]),
        ("\n", ODD_IDS),
    ):
        search(page, "ids", text)
        assert page.js(cells) == found, text
    assert "One id in each line" in page.text("#find-hint")
    page.js(
        "[...document.querySelectorAll('.actions button')].find((button) =>"
        " button.ariaLabel === 'Records like two\\nlines').click()"
    )
    page.wait(f"{cells}[0] === 'two\\nlines'")  # nearest to itself
    assert page.js("document.querySelector('#find-text').value") == "two\nlines"
    search(page, "similar", " a")
    assert page.js(cells)[0] == " a"


def test_filters(page: Page, filled: Filled) -> None:
    browse(page, filled, "notes")
    page.click(".filters summary")
    page.type(".filter-row input[aria-label=Key]", "topic")
    page.type(".filter-row input[aria-label=Value]", "home")
    page.click("button", "Add a condition")
    page.type(".filter-row:nth-child(2) input[aria-label=Key]", "stars")
    page.choose(".filter-row:nth-child(2) select", "$gte")
    page.type(".filter-row:nth-child(2) input[aria-label=Value]", "3")
    where = json.loads(page.js("document.querySelector('.filters textarea').value"))
    assert where == {"$and": [{"topic": {"$eq": "home"}}, {"stars": {"$gte": 3}}]}
    page.press("Enter")
    wanted = [f"note-{i:02}" for i in range(ROWS) if i % 3 == 1 and i % 5 >= 3]
    wait_for_ids(page, wanted)
    page.type(".filters textarea", '{"stars": {"$in": [0]}}')
    page.click("button.primary", "Search")
    wanted = [f"note-{i:02}" for i in range(0, ROWS, 5)]
    wait_for_ids(page, wanted)
    assert "used as it is" in page.text(".filters")
    assert f"1 to 12 of 12, among {ROWS} records" in page.text(".pager")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"stars": ', "The filter is not JSON"),
        ('{"stars": {"$near": 3}}', "$near is no operator"),
        ("[1]", "Invalid where clause"),
    ],
)
def test_wrong_filters_are_told(page: Page, filled: Filled, text: str, told: str) -> None:
    browse(page, filled, "notes")
    page.click(".filters summary")
    page.type(".filters textarea", text)
    page.click("button.primary", "Search")
    page.wait("document.querySelector('.notice.error')?.innerText")
    assert told in page.text(".notice.error")
    page.click("button", "Clear")
    page.wait("!document.querySelector('.notice.error')")


def test_orders(page: Page, filled: Filled) -> None:
    browse(page, filled, "notes")
    page.wait("document.querySelectorAll('.search select')[1].options.length > 2")
    orders = "[...document.querySelectorAll('.search select')[1].options].map((e) => e.value)"
    assert {"-#insertion", "+stars", "-stars", "+topic"} <= set(page.js(orders))
    page.choose(".field:nth-child(3) select", "-#insertion")
    wait_for_ids(page, [f"note-{i}" for i in range(59, 34, -1)])
    page.choose(".field:nth-child(3) select", "-stars")
    page.wait(f"{CELLS}[0] === 'note-04'")
    stars = sorted(range(ROWS), key=lambda i: -(i % 5))[:25]
    assert shown_ids(page) == [f"note-{i:02}" for i in stars]
    page.click(".pager button", "Next →")
    stars = sorted(range(ROWS), key=lambda i: -(i % 5))
    wait_for_ids(page, [f"note-{i:02}" for i in stars[25:50]])
    page.click(".pager button", "Next →")
    wait_for_ids(page, [f"note-{i:02}" for i in stars[50:]])
    assert page.js("document.querySelectorAll('.pager button')[1].disabled")
    page.click(".pager button", "← Previous")
    wait_for_ids(page, [f"note-{i:02}" for i in stars[25:50]])


def test_details_of_a_record(page: Page, filled: Filled) -> None:
    browse(page, filled, "notes")
    page.click(".actions button", "Details")
    page.wait("document.querySelector('dialog')?.innerText.includes('Euclidean norm')")
    text = page.text("dialog")
    assert "8 numbers" in text
    assert "note number 0 about travel" in text
    page.press("Escape")
    page.wait("!document.querySelector('dialog')")


def test_other_tenants_and_empty_collections(page: Page, filled: Filled) -> None:
    server, ids = filled
    page.open(server.url + "/#/collections")
    page.wait("document.querySelectorAll('.choice').length === 5")
    page.choose(".place select", "acme")
    page.wait("document.querySelectorAll('.choice').length === 1")
    page.click(".choice")
    page.wait("document.querySelector('.results .empty')?.innerText === 'No records.'")
    assert page.js("location.hash") == f"#/collections/acme/orders/{ids['theirs']}"
    page.open(f"{server.url}/#/collections/{PLACE}/00000000-0000-0000-0000-000000000000")
    page.wait("document.body.innerText.includes('There is no such collection')")


def test_text_stays_text(page: Page, filled: Filled) -> None:
    server, _ = filled
    browse(page, filled, "hostile")
    text = page.text(".results")
    for one in HOSTILE[:6]:
        assert text.count(one) >= 3, one  # id, document, metadata
    assert HOSTILE[2] in page.text(".facts")
    for number in range(len(HOSTILE)):
        page.js(f"document.querySelectorAll('.actions button')[{2 * number}].click()")
        page.wait("document.querySelector('dialog')?.innerText.includes('Euclidean norm')")
        page.press("Escape")
        page.wait("!document.querySelector('dialog')")
    search(page, "ids", HOSTILE[4])
    search(page, "contains", HOSTILE[0])
    search(page, "similar", HOSTILE[4])
    page.open(f"{server.url}/#/collections/{'<img src=x onerror=window.pwned=7>'}/%ff/x")
    page.open(f"{server.url}/#/tuning")
    page.open(f"{server.url}/#/dashboard")
    page.wait("document.querySelector('#state').innerText === 'live'")
    assert page.js("window.pwned === undefined")
    made = "document.querySelectorAll('main :is(script, iframe, svg, img)').length"
    assert page.js(made) == 0


# -- tuning ----------------------------------------------------------------------------------------


def test_tuning_shows_recall(page: Page, filled: Filled) -> None:
    server, ids = filled
    page.open(f"{server.url}/#/tuning/{PLACE}/{ids['graphed']}")
    page.wait("document.querySelector('.chosen-name').innerText === 'graphed'")
    page.type("input[type=number]", "20")
    page.click("button.primary", "Measure")
    page.wait("document.querySelector('section[aria-label=\"All figures\"] tbody')")
    rows = rows_of(page, "All figures")
    assert rows[0][:4] == ["exact", "1", "1", "20 of 20"]
    efs = (10, 20, 40, 80, 160, 320, 640)
    assert [row[0].split(" (")[0] for row in rows[1:]] == [f"ef {ef}" for ef in efs]
    recalls = [float(row[1]) for row in rows[1:]]
    assert max(recalls) >= 0.95
    assert any(row[-1] == "graph" for row in rows)
    summary = page.text("[aria-label=Summary]")
    assert f"20 queries for the 10 nearest among {GRAPH_ROWS:,} records" in summary
    chart = "document.querySelector('section[aria-label=\"Recall by ef\"] canvas')"
    assert page.js(f"{chart}.ariaLabel").startswith("Recall by ef. Latest: recall")
    sent = [r for r in page.requests if r["url"].endswith("/vexfs/tuning")]
    assert json.loads(sent[0]["postData"])["queries"] == 20


def test_tuning_of_what_has_no_graph(page: Page, filled: Filled) -> None:
    server, ids = filled
    page.open(f"{server.url}/#/tuning/{PLACE}/{ids['notes']}")
    page.click("button.primary", "Measure")
    summary = "document.querySelector('[aria-label=Summary]')?.innerText"
    page.wait(f"{summary}.includes('not answered by a graph')")
    page.open(f"{server.url}/#/tuning/{PLACE}/{ids['empty']}")
    page.wait("document.querySelector('.chosen-name').innerText === 'empty'")
    page.click("button.primary", "Measure")
    page.wait("document.querySelector('.notice')?.innerText.includes('no records')")

"""The page of a server that asks who one is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browser_kit import Page
from page_data import fill_server
from server_kit import DEFAULT, Server, run_server

from vexfs_chroma._server._auth import hash_password, hash_token

TOKENS = {"root": ("admin", "*"), "reader": ("read", "*"), "limited": ("read", "default_tenant")}
PASSWORD = "s3cret:é"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, Any]]]:
    config = "".join(
        f'[[auth.tokens]]\nname = "{name}"\nhash = "{hash_token(token(name))}"\nrole = "{role}"\n'
        f'tenant = "{tenant}"\n'
        for name, (role, tenant) in TOKENS.items()
    )
    config += f'[[auth.users]]\nname = "ann"\nrole = "read"\nhash = "{hash_password(PASSWORD)}"\n'
    with run_server(tmp_path_factory.mktemp("guarded"), config=config) as server:
        server.headers = {"x-chroma-token": token("root")}
        yield server, fill_server(server)


def token(name: str) -> str:
    return f"the-token-of-{name}"


def sign_in(page: Page, server: Server, name: str) -> None:
    page.open(server.url + "/")
    page.wait("document.querySelector('.sign-in')")
    page.type(".sign-in input", name)
    page.press("Enter")


def test_a_token_opens_it(page: Page, guarded: tuple[Server, Any]) -> None:
    server, _ = guarded
    page.open(server.url + "/#/collections")
    page.wait("document.querySelector('.sign-in')")
    assert not page.js("document.body.innerText.includes('notes')")
    sign_in(page, server, "guessed")
    page.wait("document.querySelector('.notice.error')")
    assert page.text(".notice.error") == "the token is not valid"
    sign_in(page, server, token("reader"))
    page.wait("document.querySelector('#state').innerText === 'live'")
    page.wait("document.querySelector('#who').innerText === 'reader'")
    for request in page.requests:
        assert "the-token" not in request["url"]
    sent = [one for one in page.requests if "/vexfs/" in one["url"]]
    assert all(one["headers"]["X-Chroma-Token"] == token("reader") for one in sent)
    assert sent
    assert page.js("document.cookie + JSON.stringify(localStorage)") == "{}"
    page.open(server.url + "/#/collections")  # the tab still knows it
    page.wait("document.querySelectorAll('.choice').length === 5")
    page.js("window.before = true; location.reload()")
    page.wait("!window.before && document.querySelectorAll('.choice').length === 5")
    page.click("#sign-out")
    page.wait("document.querySelector('.sign-in')")
    assert page.js("sessionStorage.length") == 0


def test_a_name_and_a_password(page: Page, guarded: tuple[Server, Any]) -> None:
    server, _ = guarded
    page.open(server.url + "/")
    page.click(".sign-in summary")
    page.type(".sign-in details input", "ann")
    page.type(".sign-in details input[type=password]", PASSWORD)
    page.press("Enter")
    page.wait("document.querySelector('#who').innerText === 'ann'")


def test_json_of_a_panel_is_shown_with_the_token(page: Page, guarded: tuple[Server, Any]) -> None:
    server, _ = guarded
    sign_in(page, server, token("reader"))
    page.wait("document.querySelector('.json')")
    page.click(".json")
    page.wait("document.querySelector('dialog pre')?.innerText.includes('step_seconds')")


def test_what_is_limited_to_a_tenant_browses_it(page: Page, guarded: tuple[Server, Any]) -> None:
    server, ids = guarded
    sign_in(page, server, token("limited"))
    page.wait("document.querySelector('.notice.error')?.innerText.includes('limited to a tenant')")
    place = f"default_tenant/default_database/{ids['notes']}"
    page.open(f"{server.url}/#/collections/{place}")
    page.wait("document.querySelectorAll('.results tbody tr').length === 25")
    tenants = "[...document.querySelector('.place select').options].map((e) => e.value)"
    assert page.js(tenants) == ["default_tenant"]
    page.open(f"{server.url}/#/tuning/{place}")
    page.click("button.primary", "Measure")
    page.wait("document.querySelector('[aria-label=Summary]')")
    assert server.call("GET", f"{DEFAULT}/collections/{ids['notes']}/count").json == 60

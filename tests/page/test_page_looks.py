"""How the page looks: on phones and large windows, light and dark, for everybody."""

from __future__ import annotations

from typing import Any

import pytest
from browser_kit import Browser, Page
from server_kit import Server

Filled = tuple[Server, dict[str, Any]]
PLACE = "default_tenant/default_database"
VIEWS = [
    "dashboard",
    "collections/{place}/{notes}",
    "collections/{place}/{hostile}",
    "tuning/{place}/{graphed}",
]


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_wider_than_the_window(browser: Browser, filled: Filled, view: str) -> None:
    server, ids = filled
    with browser.page(320, 844) as page:
        page.open(f"{server.url}/#/{view.format(place=PLACE, **ids)}")
        page.wait("document.querySelector('.panel table, .chosen-name')")
        for width in (320, 390, 768, 1440):
            page.resize(width, 844)
            page.js("new Promise(requestAnimationFrame)")
            assert page.js("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
        assert page.errors == []


CONTRAST = """
(() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const hidden = ':disabled, .visually-hidden, noscript, .skip';
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!text || !e.checkVisibility() || e.closest(hidden)) continue;
    let back = e;
    const behind = () => getComputedStyle(back).backgroundColor;
    while (channels(behind())[3] === 0) back = back.parentElement;
    const [a, b] = [getComputedStyle(e).color, behind()].map((one) => light(channels(one)) + 0.05);
    const ratio = Math.max(a, b) / Math.min(a, b);
    if (ratio < 4.5) found.push([e.innerText.slice(0, 40), ratio]);
  }
  return found;
})()
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_everybody_can_read_and_use_it(
    browser: Browser, filled: Filled, view: str, dark: bool
) -> None:
    """Contrast of 4.5 at least (WCAG 2.2, 1.4.3), and every control has a name."""
    server, ids = filled
    with browser.page(dark=dark) as page:
        page.open(f"{server.url}/#/{view.format(place=PLACE, **ids)}")
        page.wait("document.querySelector('.panel table, .chosen-name')")
        assert page.js(CONTRAST) == []
        tree = page.send("Accessibility.getFullAXTree")["nodes"]
        roles = {"button", "textbox", "searchbox", "combobox", "spinbutton", "link", "image"}
        for node in tree:
            if node.get("role", {}).get("value") in roles and not node.get("ignored"):
                assert node.get("name", {}).get("value"), node
        assert page.errors == []


def test_keyboard_alone(page: Page, filled: Filled) -> None:
    """Tab reaches every control in the order in which they are shown, and Enter uses them."""
    server, _ = filled
    page.open(server.url + "/#/collections")
    page.wait("document.querySelectorAll('.choice').length === 5")
    seen = []
    for _ in range(12):
        page.press("Tab")
        focused = "document.activeElement"
        seen.append(page.js(f"{focused}.innerText?.split('\\n')[0] || {focused}.ariaLabel"))
    assert seen[:4] == ["Skip to the content", "Dashboard", "Collections", "Tuning"]
    assert "Filter collections by name" in seen
    choices = "[...document.querySelectorAll('.choice')]"
    page.js(f"{choices}.find((e) => e.innerText.startsWith('notes')).focus()")
    page.press("Enter")
    page.wait("document.querySelectorAll('.results td.id').length === 25")

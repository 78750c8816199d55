"""A headless Chromium, told what to do by the DevTools protocol over two pipes.

Chromium reads commands from its descriptor 3 and writes answers and events to 4, JSON with a NUL
after each: no port, no driver, no library.  A `Page` is a tab with a profile of its own, which
collects whatever went wrong in it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT_SECONDS = 60.0


def program() -> str | None:
    """A Chromium of this machine."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """The process, and the two pipes."""

    def __init__(self, profile: Path) -> None:
        found = program()
        assert found is not None
        command_read, self._write = os.pipe()
        self._read, answer_write = os.pipe()

        def place_pipes() -> None:  # in the child: the descriptors that Chromium expects
            a, b = os.dup(command_read), os.dup(answer_write)
            os.dup2(a, 3)
            os.dup2(b, 4)

        with (profile / "chromium.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    found,
                    "--headless=new",
                    "--remote-debugging-pipe",
                    f"--user-data-dir={profile / 'profile'}",
                    "--no-sandbox",  # tests may run as root, on pages of their own alone
                    "--no-first-run",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--disable-background-networking",
                    "--disable-component-update",
                    "--disable-sync",
                    "--hide-scrollbars",
                    "--force-color-profile=srgb",
                    "about:blank",
                ],
                preexec_fn=place_pipes,
                close_fds=False,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # A sanitizer that these tests run under is not for it.
                env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"},
            )
        os.close(command_read)
        os.close(answer_write)
        self._last = 0
        self._buffer = b""
        self._answers: dict[int, Any] = {}
        self.pages: dict[str, Page] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._read, selectors.EVENT_READ)

    def send(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """A command, and its answer."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        number, end = self._last, time.monotonic() + WAIT_SECONDS
        while number not in self._answers:
            self.listen(end - time.monotonic())
            assert time.monotonic() < end, f"{method}: no answer"
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def listen(self, seconds: float) -> None:
        """Take what comes, for so long at most; returns after something came."""
        if not self._selector.select(max(0.0, seconds)):
            return
        data = os.read(self._read, 1 << 20)
        assert data, "Chromium ended"
        *messages, self._buffer = (self._buffer + data).split(b"\0")
        for text in messages:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            elif message.get("sessionId") in self.pages:
                self.pages[message["sessionId"]].happened(message["method"], message["params"])

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError, AssertionError):
            self.send("Browser.close")
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)  # the session of its own, started above
            self.process.wait()
        self._selector.close()
        os.close(self._read)
        os.close(self._write)

    @contextlib.contextmanager
    def page(self, width: int = 1440, height: int = 900, *, dark: bool = False) -> Iterator[Page]:
        """A tab of that size, in a profile of its own."""
        context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", url="about:blank", browserContextId=context)
        session = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, session["sessionId"])
        self.pages[page.session] = page
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.send(f"{domain}.enable")
        page.resize(width, height)
        page.emulate(dark=dark)
        try:
            yield page
        finally:
            del self.pages[page.session]
            self.send("Target.disposeBrowserContext", browserContextId=context)


class Page:
    """A tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self.session = browser, session
        self.errors: list[str] = []
        """Exceptions, messages of the console, violations of the policy."""
        self.requests: list[dict[str, Any]] = []
        """Each: url, method, headers, and the body if there is one."""
        self.console: list[str] = []

    def send(self, method: str, **parameters: Any) -> Any:
        """A command to this tab."""
        return self._browser.send(method, self.session, **parameters)

    def happened(self, event: str, about: dict[str, Any]) -> None:
        """Take an event."""
        if event == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            thrown = details.get("exception", {}).get("description")
            self.errors.append(f"{details['text']} {thrown}")
        elif event == "Runtime.consoleAPICalled":
            text = " ".join(str(one.get("value", one.get("description"))) for one in about["args"])
            self.errors.append(f"console.{about['type']}: {text}")
        elif event == "Log.entryAdded":
            entry = about["entry"]
            # A status that a request was answered with is no error of the page.
            if not (entry["source"] == "network" and "status of 4" in entry["text"]):
                self.errors.append(f"{entry['source']} {entry['level']}: {entry['text']}")
        elif event == "Network.requestWillBeSent":
            request = about["request"]
            self.requests.append(request)

    def resize(self, width: int, height: int) -> None:
        """The size of the tab; narrow ones are phones."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def emulate(self, *, dark: bool) -> None:
        """The colours that its user prefers."""
        value = "dark" if dark else "light"
        self.send(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": value},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ],
        )

    def open(self, url: str) -> None:
        """Go there."""
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def js(self, expression: str) -> Any:
        """The value of an expression, which may be a promise."""
        found = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = WAIT_SECONDS) -> None:
        """Wait until the expression is true."""
        end = time.monotonic() + seconds
        while True:
            try:
                value = self.js(f"(() => {{ try {{ return !!({expression}) }} catch {{}} }})()")
            except AssertionError:  # the tab went elsewhere meanwhile
                value = False
            if value:
                return
            shown = self.text()[:2000] if time.monotonic() >= end else ""
            assert time.monotonic() < end, f"not true: {expression}\n{self.errors}\n{shown}"
            self._browser.listen(0.05)

    def text(self, selector: str = "body") -> str:
        """The text that is shown in the first such element."""
        found: str = self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return found

    def click(self, selector: str, text: str | None = None) -> None:
        """Click the middle of the first such element that has the text, as a mouse does."""
        find = (
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            f".find((e) => [null, e.innerText.trim()].includes({json.dumps(text)}))"
        )
        self.wait(f"{find} !== undefined && !{find}.disabled")
        where = (
            f"(() => {{ const e = {find}; e?.scrollIntoView({{ block: 'center' }});"
            "const b = e?.getBoundingClientRect();"
            "return b && [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        box, before = self.js(where), None
        while box is None or box != before:  # what comes above it while the page loads moves it
            time.sleep(0.1)
            box, before = self.js(where), box
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box[0],
                y=box[1],
                button="none" if kind == "mouseMoved" else "left",
                clickCount=0 if kind == "mouseMoved" else 1,
            )

    def type(self, selector: str, text: str) -> None:
        """Put the text into an input, in the place of what is there, as a keyboard does."""
        self.wait(f"document.querySelector({json.dumps(selector)}) !== null")
        self.js(f"document.querySelector({json.dumps(selector)}).focus()")
        self.js(f"document.querySelector({json.dumps(selector)}).select()")
        self.send("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press a key."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}
        about = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a select."""
        self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            f"e.value = {json.dumps(value)}; e.dispatchEvent(new Event('change')); }})()"
        )

    def screenshot(self, file: Path, *, full: bool = False) -> None:
        """A picture of what is shown, or of all of the page."""
        taken = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        file.write_bytes(base64.b64decode(taken["data"]))

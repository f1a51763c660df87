"""A real browser for tests of the page: Chromium without a window, told what to do through a pipe.

Its own protocol (https://chromedevtools.github.io/devtools-protocol/), JSON messages that end with a zero byte, over
file descriptors 3 and 4: no port is opened and no driver is needed.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    *("--remote-debugging-pipe", "--window-size=1300,900", "about:blank"),
)
SECONDS = 60.0
"""For an answer; the machine may be busy."""


def program() -> str | None:
    """Return the browser that is installed, None without any."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def browsing(program: str, home: Path) -> Iterator[Browser]:
    """Start a browser with a profile of its own in `home`, and end it."""
    read_here, write_there = os.pipe()
    read_there, write_here = os.pipe()
    inside = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read_there, write_there)]
    wired = f'exec "$@" 3<&{inside[0]} 4>&{inside[1]}'
    process = subprocess.Popen(
        ["bash", "-c", wired, "bash", program, *SWITCHES[:-1], f"--user-data-dir={home}", SWITCHES[-1]],
        pass_fds=inside,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in (*inside, read_there, write_there):
        os.close(end)
    try:
        yield Browser(read_here, write_here)
    finally:
        os.close(write_here)  # it leaves when its pipe closes
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(read_here)


@dataclass
class Browser:
    """A browser that runs."""

    read_end: int
    write_end: int
    events: list[dict[str, Any]] = field(default_factory=list)
    buffer: bytes = b""
    number: int = 0

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        os.write(self.write_end, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while (answer := self._next(deadline)).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]

    def wait(self, method: str, session: str) -> dict[str, Any]:
        """Return the parameters of the first event of that name, once it has come."""
        deadline = time.monotonic() + SECONDS
        while True:
            for event in self.events:
                if event.get("method") == method and event.get("sessionId") == session:
                    return event["params"]
            self.events.append(self._next(deadline))

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.read_end], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"the browser says nothing for {SECONDS:.0f} s"
            more = os.read(self.read_end, 1 << 16)
            assert more, "the browser has ended"
            self.buffer += more
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def open(self, url: str) -> Page:
        """Open a page; return it when it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        self.call("Page.navigate", session, url=url)
        self.wait("Page.loadEventFired", session)
        return Page(self, session)


@dataclass
class Page:
    """A page that is loaded."""

    browser: Browser
    session: str

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        told = self.browser.call("Runtime.evaluate", self.session, expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def click(self, element: str) -> None:
        """Click in the middle of what a JavaScript expression names, as a mouse does."""
        middle = self.evaluate(
            f"(() => {{ const e = {element}; e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.browser.call(
                *("Input.dispatchMouseEvent", self.session),
                **{"type": kind, "x": middle[0], "y": middle[1], "button": "left", "clickCount": 1},
            )

    def type(self, element: str, text: str) -> None:
        """Replace what stands in a field by `text`, as a keyboard does."""
        self.click(element)
        self.evaluate(f"{element}.select()")
        self.browser.call("Input.insertText", self.session, text=text)

    def print_media(self, on: bool) -> None:
        """Show the page as it is printed, or as on a screen."""
        self.browser.call("Emulation.setEmulatedMedia", self.session, media="print" if on else "")

    def complaints(self) -> list[Any]:
        """Return errors and warnings of the console, and exceptions."""
        return [
            event["params"]
            for event in self._events("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        ]

    def requests(self) -> list[str]:
        """Return every address that the page asked for, what stands in itself left out."""
        asked = [event["params"]["request"]["url"] for event in self._events("Network.requestWillBeSent")]
        return [url for url in asked if not url.startswith("data:")]

    def _events(self, *methods: str) -> Iterator[dict[str, Any]]:
        self.evaluate("1")  # what was said before comes before this answer
        for event in self.browser.events:
            if event.get("sessionId") == self.session and event.get("method") in methods:
                yield event

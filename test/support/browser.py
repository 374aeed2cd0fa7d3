# SPDX-License-Identifier: Apache-2.0
"""A real browser without a window: Chromium, steered over its DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
DEADLINE = 300.0  # seconds after which something that should happen counts as not happening
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
OPTIONS += ("--no-first-run", "--hide-scrollbars", "--remote-debugging-port=0")


class Browser:
    """One tab. complaints: errors and warnings of its console, in order."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._number = connection, 0
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._connection.send(json.dumps(message))
        while True:
            answer = json.loads(self._connection.recv(timeout=DEADLINE))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._hear(answer)

    def show(
        self, width: int, height: int, *, dark: bool = False, scale: float = 1, mobile: bool = False
    ) -> None:
        """Size of the window [px], and whether the user prefers a dark page."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Load a page."""
        self.call("Page.navigate", url=url)
        self.until(lambda: self.value("document.readyState") == "complete", f"{url} to load")

    def value(self, script: str) -> Any:
        """Value of an expression, of a promise once it is there."""
        options = {"returnByValue": True, "awaitPromise": True}
        result = self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def text(self, element: str) -> str:
        """The text of the element of that id."""
        return self.value(f"document.getElementById({element!r})?.textContent ?? ''")

    def until(self, condition: Callable[[], Any], what: str, again: Any = None) -> Any:
        """Wait until a condition holds; returns its value. again: called while it does not."""
        end = time.monotonic() + DEADLINE
        while not (value := condition()):
            assert time.monotonic() < end, f"waited {DEADLINE:g} s in vain for {what}"
            if again is not None:
                again()
            time.sleep(0.05)
        return value

    def press(self, key: str) -> None:
        """Press a key in the focused element."""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, text=key if len(key) == 1 else ""
            )

    def screenshot(self, path: Path | str, whole: bool = False) -> None:
        """Write a PNG. whole: with what lies below the window."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def _hear(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(values["exceptionDetails"]))
        if event.get("method") == "Log.entryAdded" and values["entry"]["level"] != "info":
            self.complaints.append(str(values["entry"]["text"]))
        if event.get("method") == "Runtime.consoleAPICalled" and values["type"] != "log":
            self.complaints.append(str(values["args"]))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Chromium with a profile in a folder of its own."""
    from websockets.sync.client import connect

    log = folder / "chromium.log"
    folder.mkdir(parents=True, exist_ok=True)
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, stdout=file, start_new_session=True)
    try:
        end = time.monotonic() + DEADLINE
        while not (result := re.search(r"listening on ws://([\d.:]+)/", log.read_text())):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        with connect(_tab(result[1]), max_size=None, proxy=None, ping_interval=None) as connection:
            yield Browser(connection)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tab(address: str) -> str:
    """Address of the first tab's DevTools."""
    from urllib.request import ProxyHandler, build_opener

    with build_opener(ProxyHandler({})).open(f"http://{address}/json/list") as answer:
        tabs = json.load(answer)
    return next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")

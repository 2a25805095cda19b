"""A headless Chromium, spoken to in its own protocol (DevTools) over a websocket.

Debian's `chromium` needs no driver and no download of a test tool's own; `websocket-client` comes
with JupyterLab.
"""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
# Without network, and as root, which Chromium refuses to be inside its sandbox.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-port=0", "--remote-allow-origins=*",
)  # fmt: skip


class Tab:
    """One page of the browser."""

    def __init__(self, address: str):
        self.socket = websocket.create_connection(address, timeout=120)
        self.number, self.requested = 0, []
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict:
        """Send a command and return its answer; addresses requested meanwhile are noted."""
        self.number += 1
        command = {"id": self.number, "method": method, "params": parameters}
        self.socket.send(json.dumps(command))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("method") == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
            if message.get("id") == self.number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]

    def open(self, address: str) -> None:
        """Go to an address, by way of nothing, so that the page is loaded anew."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)

    def size(self, width: int, height: int, phone: bool = False) -> None:
        """Give the page so many pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone},
        )

    def value(self, script: str) -> Any:
        """Evaluate a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, script: str, limit: float = 90.0, enough: Callable = bool) -> Any:
        """Evaluate again and again until the value is `enough`, and return it."""
        end = time.monotonic() + limit
        while not enough(value := self.value(script)):
            assert time.monotonic() < end, f"after {limit} s still {value!r}: {script}"
            time.sleep(0.3)
        return value

    def picture(self, file: Path, all_of_it: bool = False) -> None:
        """Save what the page looks like as PNG."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=all_of_it)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(answer["data"]))


@contextmanager
def chromium(folder: Path) -> Iterator[Tab]:
    """A browser that nobody has used, with one tab; `folder` is for what it keeps."""
    command = [PROGRAM, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = _port(folder / "DevToolsActivePort", process)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            pages = [page for page in json.load(answer) if page["type"] == "page"]
        yield Tab(pages[0]["webSocketDebuggerUrl"])
    finally:
        process.terminate()
        process.wait(30)


def _port(file: Path, process: subprocess.Popen) -> int:
    end = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert process.poll() is None and time.monotonic() < end, "Chromium does not start"
        time.sleep(0.1)
    return int(file.read_text().splitlines()[0])

"""Looks at pages in headless Chromium: screenshots of a phone and a wide screen, light and dark, and what no page may have.

python -m analysis.page.browser PAGE.html ... -o FOLDER

It speaks the DevTools protocol over a pipe, so that nothing beside Chromium is needed.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

WIDTHS = (390, 1400)
SCHEMES = ("light", "dark")
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")
PATIENCE_S = 60.0


def find_chromium() -> str | None:
    """The browser's path: $CHROMIUM, or the first of NAMES on the PATH; None where there is none."""
    named = os.environ.get("CHROMIUM")
    if named:
        return shutil.which(named)
    return next((found for found in map(shutil.which, NAMES) if found), None)


@dataclass(slots=True)
class Browser:
    """A page in Chromium, driven by commands and their answers."""

    commands: int  #: file descriptor that is written
    answers: int  #: file descriptor that is read
    session: str = ""
    sent: int = 0
    rest: bytes = b""
    events: list[dict[str, Any]] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come before it are kept."""
        self.sent += 1
        message: dict[str, Any] = {"id": self.sent, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(PATIENCE_S)
            if answer is None:
                raise RuntimeError(f"Chromium did not answer {method} within {PATIENCE_S:g} s")
            if answer.get("id") == self.sent:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error'].get('message')}")
                return dict(answer["result"])
            self.events.append(answer)

    def wait_for(self, method: str) -> None:
        """Wait for an event."""
        while not any(event.get("method") == method for event in self.events):
            event = self._next(PATIENCE_S)
            if event is None:
                raise RuntimeError(f"Chromium sent no {method} within {PATIENCE_S:g} s")
            self.events.append(event)

    def settle(self, seconds: float) -> None:
        """Take what comes for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            event = self._next(left)
            if event is not None:
                self.events.append(event)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"].get("text", "exception"))
        return result["result"].get("value")

    def _next(self, patience_s: float) -> dict[str, Any] | None:
        end = time.monotonic() + patience_s
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.answers], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return None
            read = os.read(self.answers, 1 << 20)
            if not read:
                raise RuntimeError("Chromium ended: is it able to start here?")
            self.rest += read
        message, _, self.rest = self.rest.partition(b"\0")
        return dict(json.loads(message))


#: Chromium reads commands from descriptor 3 and writes answers to 4: put the pipes there, then become Chromium
_START = (
    "import fcntl, os, sys; above = [fcntl.fcntl(int(text), fcntl.F_DUPFD, 10) for text in sys.argv[1:3]]; "
    "os.dup2(above[0], 3); os.dup2(above[1], 4); os.execv(sys.argv[3], sys.argv[3:])"
)


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """A headless browser with one blank page."""
    to_read, commands = os.pipe()
    answers, to_write = os.pipe()
    with tempfile.TemporaryDirectory(prefix="mxsim-page-", ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"]
        options += ["--disable-extensions", "--disable-background-networking", f"--user-data-dir={profile}", "--remote-debugging-pipe"]
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(to_read), str(to_write), path, *options],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        try:
            browser = Browser(commands=commands, answers=answers)
            target = browser.call("Target.createTarget", url="about:blank")["targetId"]
            browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                browser.call(f"{domain}.enable")
            yield browser
        finally:
            browser.session = ""
            with suppress(OSError, RuntimeError):
                browser.call("Browser.close")
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(commands)
            os.close(answers)


#: elements that reach beyond the right edge, unless they scroll in a frame of their own
OVERFLOWING = """[...document.querySelectorAll('body *')].filter(element => {
  if (element.closest('.scroll') && !element.matches('.scroll')) return false;
  if (element.closest('svg') && element.tagName !== 'svg') return false;
  const box = element.getBoundingClientRect();
  return box.width && box.right > document.documentElement.clientWidth + 1;
}).slice(0, 3).map(element => element.tagName.toLowerCase() + (element.id ? '#' + element.id : '') + ' ' + element.className)"""


def inspect(browser: Browser, page: Path, width: int, scheme: str, picture: Path | None = None) -> list[str]:
    """Open the page and say what is wrong with it: overflow, errors, requests. Args: picture: a PNG of the whole page to write."""
    browser.events.clear()
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.call("Page.navigate", url=page.resolve().as_uri())
    browser.wait_for("Page.loadEventFired")
    browser.settle(0.3)
    where = f"{page.name} at {width} px, {scheme}"
    problems = []
    beyond = browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if beyond > 0:
        problems.append(f"{where}: {beyond} px wider than the screen: {', '.join(browser.evaluate(OVERFLOWING)) or 'unknown element'}")
    for event in browser.events:
        method, told = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            problems.append(f"{where}: {details.get('exception', {}).get('description', details.get('text'))}")
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            problems.append(f"{where}: {told['entry']['text']}")
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            problems.append(f"{where}: console: {told['args'][0].get('value') if told['args'] else ''}")
        elif method == "Network.requestWillBeSent" and not told["request"]["url"].startswith(("file:", "data:")):
            problems.append(f"{where}: asks the network for {told['request']['url']}")
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        data = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        picture.write_bytes(base64.b64decode(data))
    return problems


def main(
    pages: Annotated[list[Path], typer.Argument(help="Pages that python -m analysis report wrote.", metavar="PAGE...")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the screenshots go.")],
) -> None:
    """Screenshots at 390 and 1400 px, light and dark; exit 1 where a page overflows, logs an error or asks the network."""
    path = find_chromium()
    if path is None:
        print(f"SKIPPED: no Chromium ({', '.join(NAMES)} on the PATH, or $CHROMIUM): pages not looked at")
        raise typer.Exit
    problems = []
    with chromium(path) as browser:
        for page in pages:
            if not page.is_file():
                print(f"no page {page}")
                raise typer.Exit(2)
            for width in WIDTHS:
                for scheme in SCHEMES:
                    picture = output / f"{page.parent.name}-{page.stem}-{width}-{scheme}.png"
                    problems += inspect(browser, page, width, scheme, picture)
                    print(picture)
    for problem in problems:
        print(f"WRONG: {problem}")
    if problems:
        raise typer.Exit(1)
    print(f"{len(pages)} pages, {len(WIDTHS)} widths, light and dark: no overflow, no error, no request")


if __name__ == "__main__":
    typer.run(main)

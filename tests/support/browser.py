"""A headless Chromium, driven over its debugging pipe: one process, a page per test.

A Chromium of the system is taken if there is one, or the file that CHROME_PATH names; else the build for
Linux x64 that the npm package @sparticuz/chromium carries, unpacked once beside it.
"""

import fcntl
import json
import os
import platform
import select
import shutil
import subprocess
import sys
import tarfile
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "node_modules" / "@sparticuz" / "chromium" / "bin"
SYSTEM_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ANSWER_SECONDS = 60.0
ENTER = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
TAB = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}

_UNPACK = """
const { createReadStream, createWriteStream } = require("fs");
const { createBrotliDecompress } = require("zlib");
const { pipeline } = require("stream/promises");
const [from, to, ...names] = process.argv.slice(1);
const unpack = (name) =>
  pipeline(
    createReadStream(`${from}/${name}.br`),
    createBrotliDecompress(),
    createWriteStream(`${to}/${name}`),
  );
Promise.all(names.map(unpack)).catch((error) => { console.error(error); process.exit(1); });
"""
_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{fonts}</dir><dir>/usr/share/fonts</dir><cachedir>{cache}</cachedir>
  <alias><family>sans-serif</family><prefer><family>Open Sans</family></prefer></alias>
  <alias><family>system-ui</family><prefer><family>Open Sans</family></prefer></alias>
</fontconfig>
"""


class NoBrowser(Exception):
    """There is none here; the message says what to install."""


def find_browser() -> tuple[Path, Mapping[str, str]]:
    """The program and what its environment needs. Raises NoBrowser."""
    if named := os.environ.get("CHROME_PATH"):
        return Path(named), {}
    for name in SYSTEM_NAMES:
        if found := shutil.which(name):
            return Path(found), {}
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise NoBrowser("install Chromium or Chrome, or name it in CHROME_PATH")
    if not (PACKAGE / "chromium.br").exists():
        raise NoBrowser("node_modules has no browser: run make setup")
    return _packaged()


def _packaged() -> tuple[Path, Mapping[str, str]]:
    """The browser of the npm package, unpacked at first use."""
    folder = PACKAGE.parents[2] / ".cache" / "chromium"
    if not (folder / "chromium").exists():
        part = folder.with_name(f"chromium.{os.getpid()}.part")
        part.mkdir(parents=True)
        names = ("chromium", "al2023.tar", "fonts.tar")
        subprocess.run(["node", "-e", _UNPACK, PACKAGE, part, *names], check=True)
        for name in names[1:]:
            with tarfile.open(part / name) as archive:
                archive.extractall(part, filter="data")
            (part / name).unlink()
        (part / "chromium").chmod(0o755)
        fonts = _FONTS.format(fonts=folder / "fonts", cache=folder / "fonts-cache")
        (part / "fonts.conf").write_text(fonts, encoding="utf-8")
        try:
            part.rename(folder)
        except OSError:  # another run was faster
            shutil.rmtree(part)
    return folder / "chromium", {
        "LD_LIBRARY_PATH": str(folder / "lib"),
        "FONTCONFIG_FILE": str(folder / "fonts.conf"),
    }


class Browser:
    """One process. Commands are answered in order; what happens meanwhile is kept as events."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, back: int) -> None:
        self.process = process
        self._to, self._back = to, back
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def send(self, method: str, session: str | None = None, **params: object) -> dict[str, Any]:
        """Send a command, and give its result."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read(monotonic() + ANSWER_SECONDS)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def wait_for(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event of a kind since the last command but those; waits for it."""
        until = monotonic() + ANSWER_SECONDS
        while True:
            for place, event in enumerate(self.events):
                if is_it(event):
                    return self.events.pop(place)
            self.events.append(self._read(until))

    def _read(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._back], [], [], max(0.0, until - monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._back, 1 << 20)
            assert data, f"the browser has ended: {self.process.poll()}"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(text)
        return answer

    @contextmanager
    def page(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator["Page"]:
        """A page of its own, closed at the end."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"])
        try:
            for domain in ("Page", "Runtime", "Network", "Log"):
                page.send(f"{domain}.enable")
            agent = self.send("Browser.getVersion")["userAgent"]
            page.send("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage="en-US")
            page.resize(width, height)
            page.prefer("dark" if dark else "light")
            yield page
        finally:
            self.send("Target.closeTarget", targetId=target)
            self.events.clear()


class Page:
    """One page, as a person would use it."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser = browser
        self.session = session
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def send(self, method: str, **params: object) -> dict[str, Any]:
        result = self.browser.send(method, self.session, **params)
        self._note()
        return result

    def _note(self) -> None:
        """Keep what the page complained of, and what it asked for."""
        for event in self.browser.events:
            params = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown":
                    self.complaints.append(str(params["exceptionDetails"]))
                case "Runtime.consoleAPICalled" if params["type"] in {"error", "warning"}:
                    self.complaints.append(str(params["args"]))
                case "Log.entryAdded" if params["entry"]["level"] in {"error", "warning"}:
                    self.complaints.append(str(params["entry"]))
                case "Network.requestWillBeSent":
                    self.requests.append(params["request"]["url"])
        methods = {"Page.loadEventFired", "Page.downloadWillBegin", "Browser.downloadProgress"}
        self.browser.events = [
            event for event in self.browser.events if event.get("method") in methods
        ]

    def resize(self, width: int, height: int) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, scheme: str) -> None:
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.send("Emulation.setEmulatedMedia", features=features)

    def open(self, path: Path) -> None:
        """Open a file, and wait until its script has shown all."""
        self.browser.events.clear()
        self.send("Page.navigate", url=path.resolve().as_uri())
        self.browser.wait_for(lambda event: event.get("method") == "Page.loadEventFired")
        self.until("document.documentElement.dataset.ready === 'true'")

    def until(self, condition: str) -> None:
        self.run(
            "new Promise((done) => { const look = () => "
            f"({condition}) ? done(true) : setTimeout(look, 10); look(); }})"
        )

    def run(self, script: str) -> Any:
        """The value of an expression, also of a promise."""
        answer = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """Click into the middle of an element, wherever it is."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({ block: 'center', inline: 'center' });"
            "const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box[0],
                y=box[1],
                button="left",
                clickCount=1,
            )

    def hover(self, x: float, y: float) -> None:
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def press(self, key: Mapping[str, object]) -> None:
        self.send("Input.dispatchKeyEvent", type="keyDown", **key)
        self.send("Input.dispatchKeyEvent", type="keyUp", **{**key, "text": ""})

    def choose(self, selector: str, text: str) -> None:
        """Choose the option with that text."""
        self.run(
            f"(() => {{ const s = document.querySelector({json.dumps(selector)});"
            f"s.value = [...s.options].find((o) => o.text === {json.dumps(text)}).value;"
            "s.dispatchEvent(new Event('change', { bubbles: true })); })()"
        )

    def downloaded(self, selector: str) -> bytes:
        """What a click on it saves."""
        with TemporaryDirectory() as folder:
            self.browser.send(
                "Browser.setDownloadBehavior",
                behavior="allow",
                downloadPath=folder,
                eventsEnabled=True,
            )
            self.click(selector)
            self.browser.wait_for(
                lambda event: (
                    event.get("method") == "Browser.downloadProgress"
                    and event["params"]["state"] == "completed"
                )
            )
            (found,) = Path(folder).iterdir()
            return found.read_bytes()

    def picture(self, *, whole: bool = True) -> bytes:
        """A PNG of the page."""
        return b64decode(
            self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        )

    def printed(self) -> bytes:
        """The page as PDF, on A4."""
        return b64decode(
            self.send("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"]
        )


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser, ended with all that it started. Raises NoBrowser."""
    program, needs = find_browser()
    with TemporaryDirectory(ignore_cleanup_errors=True) as home:
        its_end, to = map(_high, os.pipe())
        back, its_other = map(_high, os.pipe())
        flags = (
            *("--headless=shell", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--font-render-hinting=none", "--no-first-run", "--remote-debugging-pipe"),
        )
        # The pipe is file descriptors 3 and 4.
        start = f'exec "$@" 3<&{its_end} 4>&{its_other}'
        process = subprocess.Popen(
            ["bash", "-c", start, "bash", program, *flags, f"--user-data-dir={home}/profile"],
            env={**os.environ, "HOME": home, "LC_ALL": "C", **needs},
            pass_fds=(its_end, its_other),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(its_end)
        os.close(its_other)
        try:
            yield Browser(process, to, back)
        finally:
            process.kill()
            process.wait()
            os.close(to)
            os.close(back)


def _high(descriptor: int) -> int:
    """The same pipe as a number above those that the browser takes."""
    found = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(descriptor)
    return found

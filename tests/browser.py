"""A headless Chromium that tests drive through its DevTools pipe: open, evaluate, wait, type, take pictures."""

import base64
import fcntl
import io
import json
import os
import select
import shutil
import subprocess
import time

import numpy as np
from PIL import Image

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DEADLINE = 30  # seconds for anything


class Browser:
    """One page. `requests`: every address it asked for. `said`: what its console and its errors said."""

    def __init__(self, folder):
        ours, theirs = os.pipe(), os.pipe()
        read, write = (fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (ours[0], theirs[1]))

        def as_three_and_four():
            os.dup2(read, 3)
            os.dup2(write, 4)

        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   "--disable-background-networking", "--disable-component-update", "--disable-extensions",
                   "--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={folder}"]  # fmt: skip
        self._process = subprocess.Popen(
            [PROGRAM, *options, "about:blank"], preexec_fn=as_three_and_four, pass_fds=(3, 4),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        for end in (read, write, ours[0], theirs[1]):
            os.close(end)
        self._to, self._from = ours[1], theirs[0]
        self._held, self._number, self._session, self._loaded = b"", 0, None, False
        self.requests, self.said = [], []
        target = next(one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """One DevTools command; what it answers."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + DEADLINE
        while True:
            answer = self._next(end)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def open(self, address):
        """Go there; returns when the page is loaded, or the browser's own about what is wrong."""
        self._loaded = False
        self.call("Page.navigate", url=address)
        end = time.monotonic() + DEADLINE
        while not self._loaded:
            self._next(end)

    def evaluate(self, expression):
        """The value of a JavaScript expression; promises are waited for."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, condition, seconds=20.0):
        """Wait until a JavaScript expression is true; it may fail as long as the page loads."""
        script = f"""new Promise((resolve) => {{
            const end = performance.now() + {seconds * 1e3};
            const look = () => {{
                let value = false;
                try {{ value = Boolean({condition}); }} catch {{ }}
                if (value || performance.now() > end) resolve(value); else setTimeout(look, 20);
            }};
            look();
        }})"""
        assert self.evaluate(script), f"not within {seconds} s: {condition}; the page said {self.said[-3:]}"

    def size(self, width, height, scale=1.0, mobile=False, dark=True):
        """Window or phone of that size."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, key):
        """A key of one character."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else "")

    def picture(self, whole=False):
        """What is seen, as (height, width, 3) uint8; of the whole page if asked."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))

    def close(self):
        """End the browser."""
        self._process.terminate()
        self._process.wait(DEADLINE)
        os.close(self._to)
        os.close(self._from)

    def _next(self, end):
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._from], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._from, 1 << 20)
            assert data, "the browser is gone"
            self._held += data
        message, _, self._held = self._held.partition(b"\0")
        event = json.loads(message)
        match event.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(event["params"]["request"]["url"])
            case "Runtime.exceptionThrown":
                self.said.append(event["params"]["exceptionDetails"])
            case "Runtime.consoleAPICalled":
                self.said.append([one.get("value") for one in event["params"]["args"]])
        return event

"""An X server without a monitor (Xvfb), its picture as an array, and keys typed into it by xdotool."""

import os
import shutil
import struct
import subprocess
import threading
import time
from contextlib import contextmanager

import numpy as np

MISSING = [name for name in ("Xvfb", "xdotool", "openbox") if shutil.which(name) is None]
DEADLINE = 20.0
WIDTH, HEIGHT = 1280, 800


class Display:
    """name: what DISPLAY must be."""

    def __init__(self, name, folder):
        self.name = name
        self._file = folder / "Xvfb_screen0"

    def picture(self):
        """(800, 1280, 3) uint8 RGB: what is seen now, from the XWD file in which Xvfb keeps it."""
        data = self._file.read_bytes()
        header = struct.unpack(">25I", data[:100])
        begin, line = header[0] + 12 * header[19], header[12]
        pixels = np.frombuffer(data, np.uint8, line * HEIGHT, begin).reshape(HEIGHT, line)
        return pixels[:, : 4 * WIDTH].reshape(HEIGHT, WIDTH, 4)[:, :, 2::-1]

    def press(self, *keys):
        """Type."""
        subprocess.run(["xdotool", "key", *keys], env=self.environment(), check=True, timeout=DEADLINE)

    def environment(self):
        """Of a program that shall open its window here."""
        return {**os.environ, "DISPLAY": self.name, "SDL_VIDEODRIVER": "x11", "SDL_RENDER_DRIVER": "software"}

    def until(self, condition):
        """Wait until what is seen is so; that picture."""
        end = time.monotonic() + DEADLINE
        while not condition(image := self.picture()):
            assert time.monotonic() < end, "it was not seen in time"
            threading.Event().wait(0.02)
        return image


@contextmanager
def display(folder):
    """A display with a window manager."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-fbdir", str(folder)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    with subprocess.Popen([*command, "-nolisten", "tcp"], pass_fds=(write,), **quiet) as server:
        os.close(write)
        with open(read) as file:
            shown = Display(f":{file.readline().strip()}", folder)
        with subprocess.Popen(["openbox"], env=shown.environment(), **quiet) as manager:
            try:
                yield shown
            finally:
                manager.terminate()
                manager.wait(DEADLINE)
                server.terminate()

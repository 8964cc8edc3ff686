"""A window of a drawn run, in a process of its own: `run_window.py FOLDER [SOURCE ...]`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from scene import Scene
from ssdrt.errors import SsdrtError
from ssdrt.live.board import Status
from ssdrt.live.window import show

folder, *sources = sys.argv[1:]
with Scene(*sources) as scene:
    if "gone" in sources:
        scene.status = Status("OFFLINE", "connection refused")
    try:
        show(scene.board, scene.controls, folder)
    except SsdrtError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(scene.controls.settings)

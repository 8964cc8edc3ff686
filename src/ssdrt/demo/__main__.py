"""`python -m ssdrt.demo FOLDER`: writes what the demo runs on, as the files that a user would bring."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from ssdrt.demo import DemoOptions, build_demo_graph, demo_picture


def write_demo(folder: Path) -> None:
    """Write frozen_inference_graph.pb, labels.txt and picture.png to a folder, which is made if need be.

    With scikit-image (the extra `demo`) also its photo of the astronaut Eileen Collins (NASA, public domain).
    """
    from PIL import Image

    options = DemoOptions()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "frozen_inference_graph.pb").write_bytes(build_demo_graph(options))
    (folder / "labels.txt").write_text("\n".join(options.colours) + "\n")
    Image.fromarray(demo_picture()).save(folder / "picture.png")
    found = importlib.util.find_spec("skimage")
    if found is not None and found.origin is not None:
        photo = Path(found.origin).parent / "data" / "astronaut.png"
        (folder / "astronaut.png").write_bytes(photo.read_bytes())


if __name__ == "__main__":
    write_demo(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_out"))

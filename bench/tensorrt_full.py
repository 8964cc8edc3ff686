"""What is said when the GPU's memory is full: a kept plan is loaded beside as much as the card still gives.

python bench/tensorrt_full.py MODELS FOLDER
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path


def run(models: Path, folder: Path) -> None:
    """A line for each of: load and detect, with less and less room."""
    import numpy as np

    from ssdrt.engines.tensorrt.driver import Device
    from ssdrt.engines.tensorrt.plan_file import unpack
    from ssdrt.engines.tensorrt.runtime import load_engine
    from ssdrt.errors import EngineError
    from ssdrt.graph import graph_from_bytes
    from ssdrt.pipeline import graph_parameters
    from ssdrt.recover import recover

    sys.path.insert(0, str(models))
    import unpack as graphs

    path = next(iter(sorted((folder / "plans").glob("*.plan"))), None)
    if path is None:
        return
    data = path.read_bytes()
    digest = unpack(data)[0].digest
    entry = next(one for one in json.loads((models / "graphs.json").read_text()) if one["sha256"] == digest)
    model = recover(graph_from_bytes(graphs.graph_bytes(entry)))
    picture = np.zeros((*model.input_size, 3), np.uint8)
    device = Device()
    blocks: list[int] = []
    for size in (4 << 30, 256 << 20, 2 << 20):
        with contextlib.suppress(EngineError):
            while True:
                blocks.append(device.allocate(size))
    with open(folder / "full.jsonl", "w", encoding="utf-8") as out:
        for room in (0, 20, 60):  # MB, of the last blocks of 2 MB
            for _ in range(min(room // 2, len(blocks))):
                device.free(blocks.pop())
            try:
                engine = load_engine(model, data, 1)
                engine.detect([picture], graph_parameters(model))
                engine.close()
                said = "detected"
            except EngineError as error:
                said = str(error)
            line = {"step": "full", "plan": path.stem, "room": room, "said": said}
            print(json.dumps(line), file=out, flush=True)
            print(json.dumps(line), flush=True)
    for block in blocks:
        device.free(block)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))

"""What int8 costs: AP of the COCO graph on a part of COCO, its convolutions rounded as TensorRT rounds them.

    python bench/int8.py MODELS COCO_VAL RESULT.json      (onnxruntime, pycocotools)

The network with QuantizeLinear and DequantizeLinear, as TensorRT gets it, in ONNX Runtime. The scales come from the
graph's six recorded photos, none of which is in COCO_VAL: by the largest magnitude of each value, or by the one that
one in ten thousand exceeds.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ssdrt.bundle import Bundle, save_bundle
from ssdrt.engines import onnxruntime
from ssdrt.engines.reference import ReferenceEngine, run_layer
from ssdrt.evaluate import read_data_set
from ssdrt.evaluate.row import evaluate
from ssdrt.graph import graph_from_bytes
from ssdrt.model import Conv, DepthwiseConv, Floats, SsdModel
from ssdrt.network.export import build_onnx
from ssdrt.preprocess import to_network
from ssdrt.recover import recover

NAME = "coco_ssd_mobilenet_v1_075_od2020"
WAYS = {"largest magnitude": 1.0, "exceeded by one in 10,000": 0.9999}


def magnitudes(model: SsdModel, pixels: Floats) -> dict[str, Floats]:
    """Of each value that a convolution reads, sorted."""
    found: dict[str, Floats] = {}

    def run(layer: Any, *inputs: Floats) -> Floats:
        if isinstance(layer, (Conv, DepthwiseConv)) and layer.inputs[0] not in found:
            found[layer.inputs[0]] = np.sort(np.abs(inputs[0]), axis=None)
        return run_layer(layer, *inputs)

    for one in pixels:
        earlier, found = found, {}
        ReferenceEngine(model, run).infer(one[None])
        found = {name: np.concatenate((values, earlier.get(name, values[:0]))) for name, values in found.items()}
    return {name: np.sort(values) for name, values in found.items()}


def main(models: Path, coco: Path, result: Path) -> None:
    """A row for float32 and for each way to find scales."""
    from PIL import Image

    sys.path.insert(0, str(models))
    import unpack

    entry = next(one for one in json.loads((models / "graphs.json").read_text()) if one["name"] == NAME)
    model = recover(graph_from_bytes(unpack.graph_bytes(entry)))
    photos = sorted((models / entry["photos"]).glob("*.png"))
    resizer = model.preprocessing.resizer.value
    pixels = np.stack([to_network(np.asarray(Image.open(one).convert("RGB")), resizer) for one in photos])
    sizes = magnitudes(model, pixels)
    networks = {"float32": None}
    networks |= {
        way: {name: float(values[int(share * (len(values) - 1))]) / 127 for name, values in sizes.items()}
        for way, share in WAYS.items()
    }
    data, rows = read_data_set(coco / "instances.json", coco / "images"), {}
    for way, scales in networks.items():
        plan = build_onnx(model, pixels="float32", tail="scores", scales=scales)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.ssdrt"
            save_bundle(Bundle(model, "onnxruntime", "fp32", onnxruntime.fingerprint(), plan, "", b""), path)
            row = evaluate(path, data, "onnxruntime", "fp32")
        numbers = row.judgement.numbers
        rows[way] = {name: round(numbers[name], 4) for name in ("AP", "AP50", "AP75")}
        print(way, rows[way], flush=True)
    content = {
        "command": "python bench/int8.py MODELS COCO_VAL RESULT.json",
        "model": NAME,
        "pictures": len(data.pictures),
        "values with a scale": len(sizes),
        "rows": rows,
    }
    result.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

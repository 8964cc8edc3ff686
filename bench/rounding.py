"""What float16 itself costs: the numpy reference with values rounded, against TensorFlow's recorded detections.

    python bench/rounding.py MODELS RESULT.json

MODELS has graphs.json, goldens and photos. No engine is in it: weights, or what layers give, or both are rounded to
float16, products and sums stay float32, and in turn some layers are spared. Limits as for fp16 in tensorrt_job.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tensorrt_job import FLOOR, matches

GRAPHS = (
    "coco_ssd_mobilenet_v1_075_od2020",
    "pets37_ssd_mobilenet_v1_075_od2019",
    "one_ssdlite_mobilenet_v2_od2020",
    "ssd_mobilenet_v1_90_od2020",
    "ssd_mobilenet_v2_90_od2019",
    "ssd_inception_v2_90_od2019",
)


def rounding(names: set[str], weights: bool = True, values: bool = True) -> Callable[..., Any]:
    """`reference.run_layer` that rounds in the layers of these names."""
    from ssdrt.engines.reference import run_layer
    from ssdrt.engines.selfcheck import rounded

    def run(layer: Any, *inputs: Any) -> Any:
        if layer.name not in names:
            return run_layer(layer, *inputs)
        if weights and hasattr(layer, "weights"):
            layer = replace(layer, weights=rounded(layer.weights, "fp16"))
        found = run_layer(layer, *inputs)
        return rounded(found, "fp16") if values else found

    return run


def heads(model: Any) -> set[str]:
    """The predictors' layers, back to their convolutions."""
    by_name, found = {layer.name: layer for layer in model.layers}, set()
    for name in {name for head in model.heads for name in (head.boxes, head.scores)}:
        found.add(name)
        while not hasattr(by_name[name], "weights"):
            name = by_name[name].inputs[0]
            found.add(name)
    return found


def variants(model: Any) -> dict[str, Callable[..., Any]]:
    """What is rounded, by description."""
    from ssdrt.model import DepthwiseConv

    every = {layer.name for layer in model.layers}
    products = [layer.name for layer in model.layers if hasattr(layer, "weights")]
    narrow = {layer.name for layer in model.layers if isinstance(layer, DepthwiseConv)}
    half = set(products[: len(products) // 2])
    spared = {
        "predictors spared": heads(model),
        "first convolution spared": set(products[:1]),
        "depthwise spared": narrow,
        "predictors, first and depthwise spared": heads(model) | set(products[:1]) | narrow,
        "first half of the convolutions spared": half,
    }
    return {
        "everything": rounding(every),
        "weights alone": rounding(every, values=False),
        "values alone": rounding(every, weights=False),
        **{text: rounding(every - names) for text, names in spared.items()},
        "first convolution alone": rounding(set(products[:1])),
        "predictors alone": rounding(heads(model)),
    }


def run(models: Path, result: Path) -> None:
    """A table of matched detections."""
    from PIL import Image

    from ssdrt.engines.reference import ReferenceEngine
    from ssdrt.graph import graph_from_bytes
    from ssdrt.model import LabelMap
    from ssdrt.pipeline import detect_pictures, graph_parameters
    from ssdrt.recover import recover

    sys.path.insert(0, str(models))
    import unpack

    entries = {one["name"]: one for one in json.loads((models / "graphs.json").read_text())}
    content: dict[str, Any] = {"command": "python bench/rounding.py MODELS RESULT.json", "graphs": {}}
    for name in GRAPHS:
        entry = entries[name]
        model = recover(graph_from_bytes(unpack.graph_bytes(entry)))
        golden = np.load(models / entry["golden"])
        names = sorted({key.split("/")[0] for key in golden.files if "/" in key})
        pictures = [np.asarray(Image.open(models / entry["photos"] / f"{one}.png").convert("RGB")) for one in names]
        parameters = replace(graph_parameters(model), score_threshold=FLOOR - 0.02, max_total=1000)
        table: dict[str, Any] = {"weights": entry["weights"]}
        for text, how in variants(model).items():
            found = detect_pictures(model, ReferenceEngine(model, how), pictures, parameters, LabelMap({}))
            rows = [
                row
                for photo, one in zip(names, found, strict=True)
                for row in matches(golden, photo, one, "fp16", entry["weights"] == "seeded")
            ]
            table[text] = f"{sum(row[0] for row in rows)} of {len(rows)}"
            if text == "everything" and entry["weights"] == "real":
                table["missing"] = [row[3] for row in rows if not row[0]]
            print(name, text, table[text], flush=True)
        content["graphs"][name] = table
        result.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))

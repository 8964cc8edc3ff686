"""Writes demo_detections.json, what TensorFlow finds with the demo graph's variants on the demo picture.

pip install tensorflow-cpu==2.15.1
PYTHONPATH=src:tests python tests/data/record_demo.py
"""

import json
from pathlib import Path

import tensorflow as tf

from build import VARIANTS, demo_bytes
from ssdrt.demo import demo_picture

OUTPUTS = ("detection_boxes:0", "detection_scores:0", "detection_classes:0", "num_detections:0")
LEAST = 0.002  # below it, many cells of the grey background score nearly the same


def detect(graph_bytes: bytes) -> list[list[float]]:
    """Rows ymin, xmin, ymax, xmax (0..1), score, class id."""
    definition = tf.compat.v1.GraphDef.FromString(graph_bytes)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(definition, name="")
        boxes, scores, classes, count = session.run(OUTPUTS, {"image_tensor:0": demo_picture()[None]})
    rows = zip(boxes[0], scores[0], classes[0], strict=True)
    kept = [row for row in list(rows)[: int(count[0])] if row[1] >= LEAST]
    return [[*(round(float(v), 6) for v in box), round(float(score), 6), int(found)] for box, score, found in kept]


if __name__ == "__main__":
    found = {name: detect(demo_bytes(options)) for name, options in VARIANTS.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(rows)}" for name, rows in found.items())
    Path(__file__).with_name("demo_detections.json").write_text(f"{{\n{lines}\n}}\n")

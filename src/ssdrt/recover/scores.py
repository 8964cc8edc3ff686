"""Score converter and number of classes: the graph's own conversion of random logits, told apart by what comes out."""

from __future__ import annotations

import itertools

import numpy as np

from ssdrt.errors import ModelError
from ssdrt.graph import Node, Ref
from ssdrt.graph.fold import Folder
from ssdrt.model import Fact, Floats, ScoreConverter
from ssdrt.postprocess import convert_scores
from ssdrt.recover.heads import Tail
from ssdrt.recover.outline import Outline

SAMPLES = 4096
"""Anchors whose scores are compared."""

_FUNCTIONS = {"sigmoid": "Sigmoid", "softmax": "Softmax", "identity": ""}


def recover_scores(parts: Outline, tail: Tail) -> tuple[ScoreConverter, Fact[int]]:
    """The converter and the number of classes without background.

    Raises
    ------
    ModelError: scores that are no sigmoid, softmax or identity of the logits.
    """
    generator = np.random.default_rng(1)
    logits = 2 * generator.standard_normal((tail.rows, tail.columns), np.float32)
    folder = tail.run(np.zeros((tail.rows, 4), np.float32), logits)
    way = _way(parts, tail)
    node, scores = _converted(way, folder, tail)
    scale = _logit_scale(way, folder)
    some = slice(None, None, max(1, tail.rows // SAMPLES))
    backgrounds = ("none",) if scores.shape[1] == tail.columns else ("sliced_before", "sliced_after")
    for function, background in itertools.product(_FUNCTIONS, backgrounds):
        # sigmoid and identity do not care when the background is cut off: the graph's order of nodes says it
        converted = convert_scores(logits[some], function, scale.value, background)
        if np.allclose(converted, scores[some], rtol=1e-4, atol=1e-6):
            maker = next((n for n in way if n.op == _FUNCTIONS[function]), node)
            cut = _background_slice(way, folder, tail)
            if function != "softmax" and background != "none":
                before = cut is not None and parts.graph.order[cut.name] < parts.graph.order[maker.name]
                background = "sliced_before" if before and maker is not node else "sliced_after"
            converter = ScoreConverter(
                Fact(function, maker.name, "compared with the graph's own conversion of random logits"),  # type: ignore[arg-type]
                scale,
                Fact(background, cut.name if cut is not None else "", "column 0"),  # type: ignore[arg-type]
            )
            return converter, Fact(scores.shape[1], node.name, f"columns of the scores, {tail.columns} with background")
    raise ModelError("the scores are neither sigmoid, softmax nor identity of the class logits", node=node.name)


def _way(parts: Outline, tail: Tail) -> list[Node]:
    """The nodes between the class heads and the scores that the NMS gets, in order."""
    graph = parts.graph
    below = graph.descendants(ref.node for ref in tail.score_heads)
    above = graph.ancestors(graph.data_inputs(n)[1].node for n in parts.nms)
    return graph.sorted(below & above)


def _converted(way: list[Node], folder: Folder, tail: Tail) -> tuple[Node, Floats]:
    """The last node that still holds a score of every class of every anchor, and its value (anchors, classes)."""
    for columns in filter(None, (tail.columns - 1, tail.columns)):
        for node in reversed(way):
            value = folder.value(Ref(node.name))
            if value is None or value.dtype != np.float32 or value.size != tail.rows * columns:
                continue
            if columns in (1, value.shape[-1]):
                return node, value.reshape(tail.rows, columns)
    raise ModelError("the scores cannot be computed from the class logits", node=tail.score_heads[0].node)


def _logit_scale(way: list[Node], folder: Folder) -> Fact[float]:
    for node in way:
        if node.op in ("RealDiv", "Div", "Mul") and len(node.data) == 2:
            for ref in node.data:
                value = folder.value(ref)
                if value is not None and value.ndim == 0 and value.dtype == np.float32:
                    if not np.isfinite(value) or value == 0:
                        raise ModelError(f"a logit scale of {value}", node=node.name)
                    scale = float(value) if node.op != "Mul" else 1 / float(value)
                    return Fact(scale, node.name, "the logits are divided by it")
    return Fact(1.0, "", "the logits are not scaled")


def _background_slice(way: list[Node], folder: Folder, tail: Tail) -> Node | None:
    """The first node that cuts a column off."""
    for node in way:
        shape = folder.shape(Ref(node.name))
        if node.op in ("Slice", "StridedSlice") and shape and shape[-1] == tail.columns - 1:
            return node
    return None

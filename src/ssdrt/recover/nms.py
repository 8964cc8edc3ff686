"""Non-maximum suppression: thresholds, caps, window and order, wherever the vintage keeps them.

June 2017 holds the IoU threshold in an attribute and filters scores before the op; from 2019 both are inputs of it.
Until mid-2018 boxes are clipped before the op, later after it. All of it is read from what stands above and below the
NMS ops on the way from the decoded boxes to the outputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import cached_property
from typing import Literal

import numpy as np

from ssdrt.errors import ModelError
from ssdrt.graph import Node, Ref
from ssdrt.graph.fold import Folder
from ssdrt.graph.ops import OPS
from ssdrt.model import Fact, Nms
from ssdrt.recover.outline import NMS_OPS, Outline

_INPUTS = {
    "NonMaxSuppression": {"cap": 2, "iou": -1, "score": -1, "sigma": -1},
    "NonMaxSuppressionV2": {"cap": 2, "iou": 3, "score": -1, "sigma": -1},
    "NonMaxSuppressionV5": {"cap": 2, "iou": 3, "score": 4, "sigma": 5},
    "CombinedNonMaxSuppression": {"cap": 2, "total": 3, "iou": 4, "score": 5, "sigma": -1},
}
"""Positions among the data inputs, -1 where there is none; V3 and V4 are V5 without its last."""

MAX_CHAIN = 256
"""Nodes that one value came through, as far as anybody looks."""

_ADDS = ("Add", "AddV2")
_SORTS = ("TopKV2", "TopK")


def recover_nms(parts: Outline, num_classes: int) -> tuple[Nms, Fact[int]]:
    """The NMS, and the label offset (what is added to a class index to get its id).

    Raises
    ------
    ModelError: a threshold or cap that is not found, or differs from class to class.
    """
    reading = _Reading(parts)
    first = parts.nms[0]
    combined = first.op == "CombinedNonMaxSuppression"
    agnostic = num_classes > 1 and len(parts.nms) == 1 and not combined
    if not (agnostic or combined) and len(parts.nms) != num_classes:
        raise ModelError(f"{len(parts.nms)} NMS ops for {num_classes} classes", node=first.name)
    clip, clip_node = reading.clip()
    per_class = reading.same([reading.cap(n) for n in parts.nms], "max_output_size")
    to_image, window = reading.window(clip_node)
    frame = reading.change_of_frame(window)
    nms = Nms(
        score_threshold=reading.same([reading.score_threshold(n) for n in parts.nms], "score threshold"),
        iou_threshold=reading.same([reading.iou_threshold(n) for n in parts.nms], "IoU threshold"),
        max_per_class=per_class,
        max_total=reading.total(per_class, 1 if agnostic else num_classes),
        class_agnostic=Fact(agnostic, first.name, f"{len(parts.nms)} NMS ops for {num_classes} classes"),
        soft_nms_sigma=reading.same([reading.sigma(n) for n in parts.nms], "soft-NMS sigma"),
        clip=Fact(clip, clip_node.name if clip_node is not None else "", "Minimum and Maximum on the boxes"),
        clip_to_image=Fact(to_image, window.node if window is not None else "", "window"),
        change_coordinate_frame=Fact(frame is not None, frame.name if frame is not None else ""),
        drop_zero_area=reading.zero_area(clip),
    )
    return nms, reading.label_offset()


class _Reading:
    """The two sides of the NMS ops, and the constants among them."""

    def __init__(self, parts: Outline) -> None:
        self.parts, self.graph = parts, parts.graph
        self.folder = Folder(parts.graph)
        heads = (r.node for r in (*parts.box_heads, *parts.score_heads))
        above = parts.graph.ancestors(n.name for n in parts.nms) & parts.graph.descendants(heads)
        self.above: list[Node] = parts.graph.sorted(above)
        strange = next((n for n in self.above if n.op not in (*OPS, *NMS_OPS, "Where")), None)
        if strange is not None:
            raise ModelError(f"op {strange.op} between the heads and the NMS is not understood", node=strange.name)
        self.below: list[Node] = parts.graph.sorted(
            parts.graph.descendants(n.name for n in parts.nms) - {n.name for n in parts.nms}
        )
        self.before = parts.graph.ancestors(n.name for n in parts.nms)
        self.tail = {n.name for n in (*self.above, *self.below)}

    @staticmethod
    def same(facts: list[Fact], what: str) -> Fact:  # type: ignore[type-arg]
        """The one value that all classes share."""
        values = {f.value for f in facts}
        if len(values) > 1:
            raise ModelError(f"the {what} differs between classes: {sorted(values)[:4]}", node=facts[1].node)
        return facts[0]

    def scalar(self, ref: Ref) -> float | None:
        """A constant number, or None."""
        value = self.folder.value(ref)
        if value is None or value.size != 1 or value.dtype.kind not in "fiu" or np.isnan(value).any():
            return None
        return float(value.item())

    def constant_operand(self, node: Node) -> float | None:
        """The constant one of a node's operands."""
        found = [c for ref in self.graph.data_inputs(node) if (c := self.scalar(ref)) is not None]
        return found[0] if len(found) == 1 else None

    def chain(self, ref: Ref | None) -> Iterable[Node]:
        """A value's maker, that one's first input's maker, and so on: what the value itself came through."""
        for _ in range(MAX_CHAIN):
            if ref is None:
                return
            node = self.graph.nodes[ref.node]
            yield node
            inputs = self.graph.data_inputs(node)
            if not inputs:
                return
            ref = inputs[0] if node.op != "Concat" or len(inputs) < 2 else inputs[1]

    # --- above ----------------------------------------------------------------------------------------------------

    def _input(self, node: Node, what: str) -> Ref | None:
        """The input of an NMS op that holds a value, if its version has one."""
        at = _INPUTS.get(node.op, _INPUTS["NonMaxSuppressionV5"])[what]
        inputs = self.graph.data_inputs(node)
        return inputs[at] if 0 <= at < len(inputs) else None

    def cap(self, node: Node, what: str = "cap") -> Fact[int]:
        """A largest number of boxes: a constant, or the constant side of a Minimum with the number of boxes."""
        for maker in self.chain(self._input(node, what)):
            value = self.scalar(Ref(maker.name))
            value = self.constant_operand(maker) if value is None and maker.op == "Minimum" else value
            if value is not None and 0 <= value < 1 << 31:
                return Fact(int(value), maker.name, "max_output_size of the NMS op")
        raise ModelError("the largest number of boxes is not found", node=node.name)

    def iou_threshold(self, node: Node) -> Fact[float]:
        """An attribute of the oldest op, an input of the others."""
        ref = self._input(node, "iou")
        if ref is None:
            return Fact(_short(node.number("iou_threshold", 0.5)), node.name, "attribute iou_threshold")
        value = self.scalar(ref)
        if value is None:
            raise ModelError("the IoU threshold is no constant", node=node.name)
        return Fact(_short(value), ref.node, "input of the NMS op")

    def score_threshold(self, node: Node) -> Fact[float]:
        """An input of the newer ops unless it lets everything pass; else the Greater that filters scores above them."""
        ref = self._input(node, "score")
        value = self.scalar(ref) if ref is not None else None
        if ref is not None and value is None:
            raise ModelError("the score threshold is no constant", node=node.name)
        if ref is not None and value is not None and np.isfinite(value):
            return Fact(_short(value), ref.node, "input of the NMS op")
        above = self._filters.get(self.graph.data_inputs(node)[1].node)
        if above is None:
            return Fact(float("-inf"), node.name, "no filter of scores")
        return Fact(
            _short(self.scalar(above.data[1]) or 0.0), above.data[1].node, "scores are filtered before the NMS op"
        )

    @cached_property
    def _filters(self) -> dict[str, Node]:
        """The first Greater above each node, of those above the NMS, that compares scores with a constant."""
        found: dict[str, Node] = {}
        for node in self.above:
            first = [found[ref.node] for ref in self.graph.data_inputs(node) if ref.node in found]
            if node.op == "Greater" and self.scalar(node.data[1]) is not None and not self._from_boxes(node.data[0]):
                first.append(node)
            if first:
                found[node.name] = min(first, key=lambda n: self.graph.order[n.name])
        return found

    def _from_boxes(self, ref: Ref) -> bool:
        """Whether a value is made of boxes (an area, a product of sides), not of scores."""
        between = itertools.takewhile(lambda n: n.name in self.tail, self.chain(ref))
        return any(n.op in ("Mul", "Pack") and self.scalar(n.data[1]) is None for n in between if len(n.data) > 1)

    def sigma(self, node: Node) -> Fact[float]:
        """An input of NonMaxSuppressionV5; the other ops know none."""
        ref = self._input(node, "sigma")
        if ref is None:
            return Fact(0.0, node.name, f"{node.op} has no soft NMS")
        value = self.scalar(ref)
        if value is None:
            raise ModelError("the soft-NMS sigma is no constant", node=node.name)
        return Fact(_short(value), ref.node, "input of the NMS op")

    # --- the window -----------------------------------------------------------------------------------------------

    def clip(self) -> tuple[Literal["before", "after", "never"], Node | None]:
        """Where coordinates are cut with both Minimum and Maximum."""
        sides: tuple[tuple[Literal["before", "after"], list[Node]], ...] = (
            ("before", self.above),
            ("after", self.below),
        )
        for where, side in sides:
            cuts = [n for n in side if n.op in ("Minimum", "Maximum") and n.text("T", "float32") == "float32"]
            if len({n.op for n in cuts}) == 2:
                return where, next(n for n in cuts if n.op == "Minimum")
        return "never", None

    def window(self, cut: Node | None) -> tuple[bool, Ref | None]:
        """(whether the window depends on the picture, where it comes from)."""
        if cut is None:
            return False, None
        for ref in self.graph.data_inputs(cut):
            if ref.node in self.tail:
                continue
            if self.scalar(ref) is not None:
                return False, ref
            origin = self._window_origin(ref)
            return not self._is_whole(origin), origin
        return False, None

    def _window_origin(self, ref: Ref) -> Ref:
        """Above the Unpack or Split into four sides, and above the loop."""
        for node in self.chain(ref):
            if node.op == "Split":
                return self.graph.data_inputs(node)[1]
            if node.op not in ("Unpack", "Squeeze", "StridedSlice", "Reshape", "Identity", "Enter"):
                return Ref(node.name)
            ref = self.graph.data_inputs(node)[0]
        return ref

    def _is_whole(self, ref: Ref) -> bool:
        value = self.folder.value(ref)
        return value is not None and np.array_equal(np.ravel(value)[:4], [0, 0, 1, 1])

    def change_of_frame(self, window: Ref | None) -> Node | None:
        """A Sub, below the NMS, of boxes minus something made of the window alone."""
        if window is None:
            return None
        of_window = self.graph.descendants([window.node])
        names = {n.name for n in self.below}
        for node in self.below:
            if node.op == "Sub" and len(node.data) == 2:
                a, b = node.data
                if a.node in names and b.node not in names and b.node in of_window:
                    return node
        return None

    def zero_area(self, clip: str) -> Fact[bool]:
        """Boxes without area drop out where an area is compared with zero or taken as a condition."""
        side = self.above if clip == "before" else self.below
        for node in side:
            if node.op == "Cast" and node.text("SrcT") == "float32" and node.text("DstT") == "bool":
                return Fact(True, node.name, "area as a condition")
            if node.op == "Greater" and self.scalar(node.data[1]) == 0 and self._from_boxes(node.data[0]):
                return Fact(True, node.name, "area > 0")
        return Fact(False, "", "no area is compared with zero")

    # --- below ----------------------------------------------------------------------------------------------------

    def total(self, per_class: Fact[int], classes: int) -> Fact[int]:
        """An input of the op that does all classes at once; else the smallest Minimum of counts below the NMS."""
        combined = [n for n in self.parts.nms if n.op == "CombinedNonMaxSuppression"]
        if combined:
            return self.cap(combined[0], "total")
        counts = {m.name: m for n in self.below for m in (n, *self._sources(n)) if m.op == "Minimum"}
        found = []
        for node in counts.values():
            if node.text("T")[:3] != "int" or node.name in self.before:
                continue
            value = self.scalar(Ref(node.name))
            value = self.constant_operand(node) if value is None else value
            found += [(int(value), node.name)] if value is not None and 0 <= value < 1 << 31 else []
        if not found:
            return Fact(per_class.value * classes, per_class.node, "no cap over all classes")
        return Fact(*min(found), "a count's Minimum below the NMS")

    def _sources(self, node: Node) -> list[Node]:
        return [self.graph.nodes[ref.node] for ref in self.graph.data_inputs(node)]

    def label_offset(self) -> Fact[int]:
        """What is added after the last sort: class indices become ids there."""
        sorts = [n.name for n in self.below if n.op in _SORTS]
        last = self.graph.descendants(sorts[-1:]) if sorts else {n.name for n in self.below}
        last -= self.graph.ancestors(sorts)  # what is sorted again is no id yet
        for node in reversed(self.below):
            if node.op in _ADDS and node.name in last:
                value = self.constant_operand(node)
                if value is not None and value.is_integer():
                    return Fact(int(value), node.name, "added to the class index")
        return Fact(0, "", "nothing is added to the class index")


def _short(value: float) -> float:
    """A float32 constant as the decimal its author wrote: 0.6, not 0.6000000238."""
    return float(str(np.float32(value)))

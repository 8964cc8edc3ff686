"""Constant folding: the value, or at least the shape, of whatever follows from constants and from what is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.graph.nodes import Graph, Node, Ref
from ssdrt.graph.ops import ELEMENTWISE, MAX_ELEMENTS, MAX_PARTS, OPS, SHAPE_OPS, SHAPED_BY, VIEWS, Result, TooLarge

MAX_HELD = 160_000_000
"""Bytes that one Folder computes and keeps: three times the class scores of 130,000 anchors and 91 classes. What would
go beyond is unknown."""


@dataclass(frozen=True, eq=False)
class _Known:
    """An output: its array; when `concrete` is false only the array's shape and dtype mean anything, and it is
    uniform."""

    array: NDArray[Any]
    concrete: bool


_DEAD = _Known(np.empty(0), False)
"""The output of a branch not taken (TensorFlow's own word)."""


class Folder:
    """Evaluates nodes of one graph on demand, each once, without recursion.

    Parameters
    ----------
    values: outputs that are given, with their arrays.
    shapes: outputs of which the shape is given; they count as float32. Where both are given the value counts.
    """

    def __init__(
        self,
        graph: Graph,
        values: Mapping[Ref, NDArray[Any]] | None = None,
        shapes: Mapping[Ref, tuple[int, ...]] | None = None,
    ) -> None:
        self.graph = graph
        self._given: dict[Ref, _Known] = {}
        for ref, shape in (shapes or {}).items():
            self.give_shape(ref, shape)
        self._given |= {ref: _Known(np.asarray(value), True) for ref, value in (values or {}).items()}
        self._done: dict[str, tuple[_Known | None, ...]] = {}
        self._left = MAX_HELD

    def give_shape(self, ref: Ref, shape: tuple[int, ...]) -> None:
        """Make the shape of an output known; nothing that follows from it may have been asked for yet."""
        self._given[ref] = _Known(np.broadcast_to(np.float32(0), shape), False)

    def value(self, ref: Ref) -> NDArray[Any] | None:
        """The array of an output, or None when it does not follow from what is known."""
        known = self._known(ref)
        return known.array if known is not None and known.concrete else None

    def shape(self, ref: Ref) -> tuple[int, ...] | None:
        """The shape of an output, or None when it does not follow from what is known."""
        known = self._known(ref)
        return None if known is None or known is _DEAD else known.array.shape

    def _known(self, ref: Ref) -> _Known | None:
        with np.errstate(all="ignore"):
            for node in self._pending(ref):
                self._done[node.name] = self._evaluate(node)
        return self._look(ref)

    def _look(self, ref: Ref) -> _Known | None:
        if ref in self._given:
            return self._given[ref]
        outputs = self._done.get(ref.node, ())
        return outputs[ref.output] if ref.output < len(outputs) else None

    def _pending(self, ref: Ref) -> Iterable[Node]:
        """The nodes to evaluate before `ref` is known, in order."""
        seen: set[str] = set()
        todo = [ref]
        while todo:
            ref = todo.pop()
            if ref in self._given or ref.node in self._done or ref.node in seen:
                continue
            seen.add(ref.node)
            node = self.graph.nodes[ref.node]
            if node.op in OPS or node.op in ("Switch", "Merge"):
                todo += self.graph.data_inputs(node)
        return self.graph.sorted(seen)

    def _evaluate(self, node: Node) -> tuple[_Known | None, ...]:
        if node.op not in OPS and node.op not in ("Switch", "Merge"):
            return ()
        inputs = [self._look(ref) for ref in self.graph.data_inputs(node)]
        if node.op == "Merge":
            alive = [known for known in inputs if known is not _DEAD]
            return (alive[0],) if len(alive) == 1 else ()
        if _DEAD in inputs:
            return (_DEAD,) * 4
        if node.op == "Switch":
            return _switch(inputs)
        known = [k for k in inputs if k is not None]
        if len(known) < len(inputs):
            return ()
        outputs = _compute(node, known)
        if node.op != "Const":  # the file's size bounds those
            self._left -= sum(_new_bytes(made.array, known) for made in outputs)
        return outputs if self._left >= 0 else ()


def _switch(inputs: list[_Known | None]) -> tuple[_Known | None, ...]:
    """(false branch, true branch); of a predicate that is no known bool, as of a loop's end, both are alive."""
    data, predicate = inputs
    if data is None or predicate is None or not predicate.concrete or predicate.array.size != 1:
        return (data, data)
    return (_DEAD, data) if bool(predicate.array) else (data, _DEAD)


def _compute(node: Node, inputs: list[_Known]) -> tuple[_Known, ...]:
    concrete = all(known.concrete for known in inputs) or node.op in SHAPE_OPS
    decisive = [inputs[i] for i in SHAPED_BY.get(node.op, ())]
    if any(known.array.size > MAX_PARTS or not known.concrete for known in decisive):
        return ()
    arrays = [k.array if concrete or k in decisive or not k.concrete else _uniform(k.array) for k in inputs]
    try:
        result = _run(node, arrays)
    except (ValueError, TypeError, IndexError, ZeroDivisionError, OverflowError, MemoryError):
        # A node that cannot be computed is unknown; whoever needs it names it in the error that follows.
        return ()
    concrete = concrete and not node.op.startswith("Resize")
    outputs = [np.asarray(array) for array in (result if isinstance(result, tuple) else (result,))]
    return tuple(_Known(a if concrete or _is_uniform(a) else _uniform(a), concrete) for a in outputs)


def _run(node: Node, arrays: list[NDArray[Any]]) -> Result:
    """The op; of uniform arrays, as all are of which only the shape is known, it computes one element."""
    if node.op in ELEMENTWISE and all(_is_uniform(array) for array in arrays):
        corners = [array[(slice(1),) * array.ndim] for array in arrays]
        result = np.asarray(OPS[node.op](node, corners))
        return np.broadcast_to(result, np.broadcast_shapes(*(array.shape for array in arrays)))
    if node.op not in (*VIEWS, *SHAPE_OPS) and any(array.size > MAX_ELEMENTS for array in arrays):
        raise TooLarge(f"an array of {max(array.size for array in arrays)} elements")
    return OPS[node.op](node, arrays)


def _uniform(array: NDArray[Any]) -> NDArray[Any]:
    """Zeros of the same shape and dtype, in the memory of one."""
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)


def _is_uniform(array: NDArray[Any]) -> bool:
    return array.size <= 1 or not any(array.strides)


def _new_bytes(array: NDArray[Any], inputs: list[_Known]) -> int:
    """Bytes of an array that is neither uniform nor a view of an input."""
    if _is_uniform(array) or any(np.may_share_memory(array, known.array) for known in inputs):
        return 0
    return array.nbytes

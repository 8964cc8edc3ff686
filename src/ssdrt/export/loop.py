"""`tf.map_fn` as TensorFlow 1 writes it: Enter, Merge, Switch, NextIteration and Exit around TensorArrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ssdrt.export.builder import GraphBuilder
from ssdrt.graph.writer import Shape

Body = Callable[..., Sequence[str]]
Dims = tuple[int | None, ...]


def map_pictures(
    g: GraphBuilder, elements: Sequence[str], results: Sequence[tuple[str, Dims]], body: Body
) -> list[str]:
    """Write a loop over the first axis of all `elements`.

    Parameters
    ----------
    results: dtype and shape of each value that `body` returns when it is given the elements of one picture.

    Returns
    -------
    The values of `body`, stacked.
    """
    with g.scope("map"):
        count = g.size(elements[0], 0)
        sources = [g.op("TensorArrayV3", count, dtype=g.dtype(value)) for value in elements]
        flows = [_scatter(g, array, value) for array, value in zip(sources, elements, strict=True)]
        targets = [g.op("TensorArrayV3", count, dtype=dtype) for dtype, _ in results]
        counters = [g.constant(0), g.constant(0, "while/iteration_counter")]
        with g.scope("while") as prefix:

            def enter(value: str, name: str = "", invariant: bool = True) -> str:
                frame = f"{prefix}while_context".encode()
                return g.op("Enter", value, name=name, frame_name=frame, is_constant=invariant, parallel_iterations=32)

            def step(index: str, written: list[str]) -> list[str]:
                read = [
                    g.op("TensorArrayReadV3", enter(array), index, enter(flow), dtype=g.dtype(value))
                    for array, flow, value in zip(sources, flows, elements, strict=True)
                ]
                made = zip(targets, body(*read), written, strict=True)
                return [g.op("TensorArrayWriteV3", enter(array), index, value, flow) for array, value, flow in made]

            carried = [*counters, *(f"{array}:1" for array in targets)]
            entered = [enter(value, invariant=False) for value in carried]
            exits = _cycle(g, prefix, entered, enter(count, "Less/Enter"), step)
        ready = zip(targets, exits, results, strict=True)
        return [_stack(g, count, array, flow, dtype, shape) for array, flow, (dtype, shape) in ready]


def _cycle(
    g: GraphBuilder, prefix: str, entered: list[str], limit: str, step: Callable[[str, list[str]], list[str]]
) -> list[str]:
    """Carry two counters and the flows of the written arrays round the loop; the flows as they leave it."""
    back = [f"{prefix}NextIteration" + (f"_{i}" if i else "") for i in range(len(entered))]
    merged = [g.op("Merge", *pair, N=2) for pair in zip(entered, back, strict=True)]
    more = g.op("LogicalAnd", g.op("Less", merged[0], limit), g.op("Less", merged[1], limit))
    condition = g.op("LoopCond", more)
    switched = [g.op("Switch", value, condition, _class=(f"loc:@{value}".encode(),)) for value in merged]
    counter, index, *flows = [g.op("Identity", f"{value}:1") for value in switched]
    g.loop_step = counter
    following = [g.op("AddV2", counter, 1), g.op("AddV2", index, 1), *step(index, flows)]
    g.loop_step = ""
    for value in following:
        g.op("NextIteration", value)
    return [g.op("Exit", value) for value in switched[2:]]


def _scatter(g: GraphBuilder, array: str, value: str) -> str:
    with g.scope("TensorArrayUnstack"):
        indices = g.op("Range", 0, g.size(value, 0), 1)
        return g.op("TensorArrayScatterV3", array, indices, value, f"{array}:1")


def _stack(g: GraphBuilder, count: str, array: str, flow: str, dtype: str, shape: Dims) -> str:
    with g.scope("TensorArrayStack"):
        indices = g.op("Range", 0, count, 1)
        return g.op("TensorArrayGatherV3", array, indices, flow, dtype=dtype, element_shape=Shape(shape))

"""`Graph` and `Node`: a frozen graph in memory, checked once, and the view of it that has no loops.

TensorFlow 1 writes `tf.map_fn` over the pictures of a batch as a cycle of Enter, Merge, Switch, NextIteration and
Exit around TensorArrays. Nothing in an SSD is carried from one picture to the next, so for one picture the loop is its
body: reading the TensorArray is taking element 0 of what was scattered into it, gathering it is adding the axis back.
`data_inputs` and `ORDER` see the graph so, and everything after this file deals with an acyclic graph.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

from ssdrt.errors import GraphError
from ssdrt.graph.spec import wrong_inputs
from ssdrt.graph.tensor import Tensor

Attribute: TypeAlias = "bytes | int | float | bool | str | Tensor | tuple[Any, ...] | None"


class Ref(NamedTuple):
    """One output of a node."""

    node: str
    output: int = 0


@dataclass(frozen=True, eq=False)
class Node:
    """One node. inputs: as written ("name", "name:1", "^control"). offset: its first byte in the file."""

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    attributes: dict[str, Attribute] = field(default_factory=dict)
    offset: int = 0

    @cached_property
    def data(self) -> tuple[Ref, ...]:
        """The inputs that carry data, in order."""
        return tuple(_ref(self, text) for text in self.inputs if not text.startswith("^"))

    def integer(self, key: str, default: int = 0) -> int:
        """An int attribute; `default` when it is absent or of another kind."""
        value = self.attributes.get(key, default)
        return value if isinstance(value, int) else default

    def number(self, key: str, default: float) -> float:
        """A float attribute; `default` when it is absent or of another kind."""
        value = self.attributes.get(key, default)
        return float(value) if isinstance(value, (int, float)) else default

    def text(self, key: str, default: str = "") -> str:
        """A string or dtype attribute; `default` when it is absent or of another kind."""
        value = self.attributes.get(key)
        return value.decode("latin-1") if isinstance(value, bytes) else value if isinstance(value, str) else default

    def integers(self, key: str) -> tuple[int, ...]:
        """A list(int) attribute; empty when it is absent or of another kind."""
        value = self.attributes.get(key)
        return value if isinstance(value, tuple) and all(isinstance(v, int) for v in value) else ()


def _ref(node: Node, text: str) -> Ref:
    name, colon, index = text.rpartition(":")
    if not colon:
        return Ref(text)
    if not index.isdigit() or len(index) > 6:
        raise GraphError(f"an input {text[:80]!r} that names no output", node=node.name, offset=node.offset)
    return Ref(name, int(index))


class Graph:
    """A checked graph: names unique, every input there, no cycle but a while loop's. `digest`: sha256 of the file."""

    def __init__(self, nodes: Iterable[Node], digest: str = "") -> None:
        """Check the nodes.

        Raises
        ------
        GraphError: a name twice or empty, an input that is missing, more or fewer inputs than the op takes, a cycle.
        """
        self.digest = digest
        self.nodes: dict[str, Node] = {}
        for node in nodes:
            if not node.name or not node.op:
                raise GraphError("a node without a name or an op", offset=node.offset)
            if node.name in self.nodes:
                raise GraphError("two nodes of the same name", node=node.name, offset=node.offset)
            self.nodes[node.name] = node
        for node in self.nodes.values():
            controls = (text[1:] for text in node.inputs if text.startswith("^"))
            for name in (*(ref.node for ref in node.data), *controls):
                if name not in self.nodes:
                    raise GraphError(f"its input {name[:80]!r} is not in the graph", node=node.name, offset=node.offset)
            wrong = wrong_inputs(node.op, len(node.data))
            if wrong:
                raise GraphError(wrong, node=node.name, offset=node.offset)
        self._written = self._stored("TensorArrayWriteV3")
        self._scattered = self._stored("TensorArrayScatterV3")
        self.order = self._topological_order()

    def _stored(self, op: str) -> dict[str, Ref]:
        """TensorArray -> the value that an op (handle, index, value, flow) puts into it."""
        return {self._array(n.data[0]): n.data[2] for n in self.nodes.values() if n.op == op and len(n.data) == 4}

    def _array(self, handle: Ref) -> str:
        """Name of the TensorArrayV3 that a handle comes from, through the Enters of nested loops."""
        node = self.nodes[handle.node]
        for _ in range(8):
            if node.op not in ("Enter", "Identity", "RefEnter") or not node.data:
                break
            node = self.nodes[node.data[0].node]
        return node.name

    def data_inputs(self, node: Node) -> tuple[Ref, ...]:
        """What a node computes from, in the view without loops (see the module's first lines)."""
        if node.op == "TensorArrayReadV3" and node.data:
            source = self._scattered.get(self._array(node.data[0]))
            return () if source is None else (source,)
        if node.op == "TensorArrayGatherV3" and node.data:
            source = self._written.get(self._array(node.data[0]))
            return () if source is None else (source,)
        if node.op == "Merge":
            return tuple(r for r in node.data if self.nodes[r.node].op not in ("NextIteration", "RefNextIteration"))
        return node.data

    def _topological_order(self) -> dict[str, int]:
        """Position of each node in the view without loops (Kahn's algorithm)."""
        waiting = {}
        readers: dict[str, list[str]] = {}
        for node in self.nodes.values():
            sources = {r.node for r in self.data_inputs(node)}
            sources |= {t[1:] for t in node.inputs if t.startswith("^") and not self._closes_loop(t[1:])}
            waiting[node.name] = len(sources)
            for source in sources:
                readers.setdefault(source, []).append(node.name)
        ready = deque(name for name, count in waiting.items() if count == 0)
        order: dict[str, int] = {}
        while ready:
            name = ready.popleft()
            order[name] = len(order)
            for reader in readers.get(name, ()):
                waiting[reader] -= 1
                if waiting[reader] == 0:
                    ready.append(reader)
        if len(order) < len(self.nodes):
            stuck = next(self.nodes[n] for n in self.nodes if n not in order)
            raise GraphError("the graph has a cycle that is no while loop", node=stuck.name, offset=stuck.offset)
        return order

    def _closes_loop(self, name: str) -> bool:
        return self.nodes[name].op in ("NextIteration", "RefNextIteration")

    @cached_property
    def readers(self) -> dict[str, list[Node]]:
        """Nodes that compute from each node, in the view without loops."""
        found: dict[str, list[Node]] = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for source in dict.fromkeys(r.node for r in self.data_inputs(node)):
                found[source].append(node)
        return found

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """The nodes that `names` compute from, themselves included."""
        seen = set(names)
        todo = list(seen)
        while todo:
            for ref in self.data_inputs(self.nodes[todo.pop()]):
                if ref.node not in seen:
                    seen.add(ref.node)
                    todo.append(ref.node)
        return seen

    def descendants(self, names: Iterable[str]) -> set[str]:
        """The nodes that compute from `names`, themselves included."""
        seen = set(names)
        todo = list(seen)
        while todo:
            for node in self.readers[todo.pop()]:
                if node.name not in seen:
                    seen.add(node.name)
                    todo.append(node.name)
        return seen

    def sorted(self, names: Iterable[str]) -> list[Node]:
        """The named nodes, each after those it computes from."""
        return [self.nodes[name] for name in sorted(names, key=self.order.__getitem__)]

    def of(self, *ops: str) -> list[Node]:
        """All nodes of these ops, each after those it computes from."""
        return self.sorted(n.name for n in self.nodes.values() if n.op in ops)

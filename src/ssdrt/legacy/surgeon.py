"""graphsurgeon's StaticGraph and DynamicGraph on our own graphs, for users' old preprocessing scripts.

Names and behaviour are graphsurgeon's 0.4, quirks that change results included. What it asserts is an error here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ssdrt.errors import GraphError
from ssdrt.graph import read_bytes
from ssdrt.legacy.nodedef import GraphDef, NodeDef, read_graphdef

_INPUTS = ("Placeholder", "FIFOQueueV2", "FIFOQueue")


def clean(text: str) -> str:
    """The node that an input names: without `^` and `:n`."""
    return text.lstrip("^").split(":")[0]


def _many(value: str | NodeDef | Iterable[str | NodeDef]) -> list[str]:
    """One name or node, or several, as names."""
    several = [value] if isinstance(value, (str, NodeDef)) else list(value)
    return [one.name if isinstance(one, NodeDef) else one for one in several]


class StaticGraph:
    """A graph to look at. `node_map`, `node_outputs`, `graph_outputs` and `graph_inputs` are as of the last change made
    through a method."""

    def __init__(self, graphdef: str | Path | GraphDef | StaticGraph | None = None) -> None:
        self._graph = GraphDef()
        if isinstance(graphdef, (str, Path)):
            self.read(graphdef)
        elif isinstance(graphdef, (GraphDef, StaticGraph)):
            self._graph = graphdef if isinstance(graphdef, GraphDef) else graphdef._graph
        self._analyse()

    def _analyse(self) -> None:
        self.node_map = {node.name: node for node in self}
        self.node_outputs: dict[str, list[NodeDef]] = {}
        for node in self:
            for text in node.input:
                self.node_outputs.setdefault(clean(text), []).append(node)
        self.graph_outputs = [node for node in self if node.name not in self.node_outputs and node.input]
        self.graph_inputs = [node for node in self if node.op in _INPUTS]

    def read(self, path: str | Path) -> None:
        """Take the nodes of a frozen graph's file."""
        self._graph = read_graphdef(read_bytes(path))
        self._analyse()

    def write(self, path: str | Path) -> None:
        """Write the graph as a frozen graph's file."""
        Path(path).write_bytes(self._graph.SerializeToString())

    def as_graph_def(self) -> GraphDef:
        """The graph itself, not a copy."""
        return self._graph

    def __iter__(self) -> Iterator[NodeDef]:
        return iter(self._graph.node)

    def __len__(self) -> int:
        return len(self._graph.node)

    def __getitem__(self, key: str | int) -> NodeDef:
        return self._graph.node[key] if isinstance(key, int) else self.node_map[key]

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    # --- finding ----------------------------------------------------------------------------------------------------

    def find_nodes_by_op(self, op: str | Iterable[str]) -> list[NodeDef]:
        """Nodes of one op or several."""
        ops = _many(op)
        return [node for node in self if node.op in ops]

    def find_nodes_by_name(self, name: str | Iterable[str]) -> list[NodeDef]:
        """Nodes the last component of whose name is matched, whole, by a regular expression."""
        return _named(self, name, whole_path=False)

    def find_nodes_by_path(self, path: str | Iterable[str]) -> list[NodeDef]:
        """Nodes whose name is matched, whole, by a regular expression."""
        return _named(self, path, whole_path=True)

    def find_node_inputs(self, node: NodeDef) -> list[NodeDef]:
        """The nodes that a node reads; KeyError for an input written with `:n` or `^`."""
        return [self.node_map[text] for text in node.input]

    def find_node_inputs_by_name(self, node: NodeDef, name: str | Iterable[str]) -> list[NodeDef]:
        """Those of them whose name's last component is matched."""
        return _named(self.find_node_inputs(node), name, whole_path=False)

    def find_node_inputs_by_op(self, node: NodeDef, op: str | Iterable[str]) -> list[NodeDef]:
        """Those of them that are of an op."""
        ops = _many(op)
        return [one for one in self.find_node_inputs(node) if one.op in ops]

    def find_node_chains_by_op(self, chain: list[str]) -> list[list[NodeDef]]:
        """Chains of nodes, each the consumer of the one before, of these ops."""
        chains = [[node] for node in self.find_nodes_by_op(chain[0])] if chain else []
        for op in chain[1:]:
            chains = [[*c, n] for c in chains for n in self.node_outputs.get(c[-1].name, ()) if n.op == op]
        return chains


def _named(nodes: Iterable[NodeDef], names: str | Iterable[str], whole_path: bool) -> list[NodeDef]:
    patterns = [re.compile(name) for name in _many(names)]
    return [
        node
        for node in nodes
        if any(p.fullmatch(node.name if whole_path else node.name.rsplit("/", 1)[-1]) for p in patterns)
    ]


class DynamicGraph(StaticGraph):
    """A graph to change, in place."""

    def append(self, node: NodeDef) -> None:
        """Add a node; what is known about the graph stays as it was."""
        self._graph.node.append(node)

    def extend(self, nodes: Iterable[NodeDef]) -> None:
        """Add nodes; what is known about the graph stays as it was."""
        self._graph.node.extend(nodes)

    def remove(
        self, nodes: str | NodeDef | Iterable[str | NodeDef], remove_exclusive_dependencies: bool = False
    ) -> None:
        """Drop nodes, and their names from others' inputs (`name:1` stays); with the flag also what fed only them.

        Raises
        ------
        GraphError: no such node.
        """
        gone = set(_many(nodes))
        for name in gone - {node.name for node in self}:
            raise GraphError("there is no such node to remove", node=name)
        todo = list(gone) if remove_exclusive_dependencies else []
        while todo:
            node = self.node_map[todo.pop()]
            for name in map(clean, node.input):
                alone = name in self.node_map and all(one.name in gone for one in self.node_outputs[name])
                if alone and name not in gone:
                    gone.add(name)
                    todo.append(name)
        self._graph.node = [node for node in self if node.name not in gone]
        for node in self:
            node.input[:] = [text for text in node.input if text.removeprefix("^") not in gone]
        self._analyse()

    def forward_inputs(self, nodes: NodeDef | Iterable[NodeDef]) -> None:
        """Remove nodes, their inputs going to their consumers; one with a control input stays."""
        several = [nodes] if isinstance(nodes, NodeDef) else list(nodes)
        passed = {node.name: node for node in several if not any(text.startswith("^") for text in node.input)}

        def resolved(text: str) -> list[str]:
            control = "^" if text.startswith("^") else ""
            pending, found = [text], []
            while pending:
                name = pending.pop(0)
                node = passed.get(name.removeprefix("^"))
                if node is None:
                    found.append(name)
                else:
                    pending[:0] = [control + one for one in node.input]
            return found

        self._graph.node = [node for node in self if node.name not in passed]
        for node in self:
            node.input[:] = [name for text in node.input for name in resolved(text)]
        self._analyse()

    def collapse_namespaces(
        self,
        namespace_map: Mapping[str, NodeDef],
        exclude_nodes: Iterable[str | NodeDef] = (),
        unique_inputs: bool = True,
    ) -> None:
        """Replace all nodes of a namespace by one node; the longest namespace wins, and a node's name is one too.

        The new node reads what its nodes read from outside, in the graph's order. `:n` is not looked through, so an
        input "image_tensor:0" is outside the namespace "image_tensor".
        """
        names = {text for node in self for text in (node.name, *node.input)} - set(_many(exclude_nodes))
        owners = {name: _owner(namespace_map, name) for name in names}
        for node in self:
            mine = owners.get(node.name)
            inputs = [] if mine is None else mine.input
            for text in list(node.input):
                theirs = owners.get(text)
                name = text if theirs is None else theirs.name
                merged = (
                    mine is not None or theirs is not None
                )  # what a surviving node reads twice from others, it keeps
                if (theirs is None or theirs is not mine) and not (unique_inputs and merged and name in inputs):
                    inputs.append(name)
            if mine is None:
                node.input[:] = inputs
        self._graph.node = [node for node in self if owners.get(node.name) is None]
        for plugin in namespace_map.values():
            if not any(plugin is node for node in self):
                self.append(plugin)
        self._analyse()


def _owner(namespace_map: Mapping[str, NodeDef], text: str) -> NodeDef | None:
    """The node of the longest namespace that a name lies in."""
    parts = text.lstrip("^").split("/")
    for length in range(len(parts), 0, -1):
        found = namespace_map.get("/".join(parts[:length]))
        if found is not None:
            return found
    return None

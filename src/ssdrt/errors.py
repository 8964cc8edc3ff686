"""Every failure a user can cause.

SsdrtError
├── GraphError      the file is no readable GraphDef: what, node, byte offset
├── ModelError      the graph is readable but no SSD that we understand: what it seems to be, node
├── BundleError     a `.ssdrt` file is damaged, foreign or of another format version
├── EngineError     an engine cannot be built, loaded or run here
│   ├── MissingExtra   ... because a package is not installed: the command that installs it
│   └── OutOfMemory    ... because there is no room for it: a smaller batch may find some
├── SourceError     a picture, video or list of them cannot be read
├── SinkError       a result cannot be written
├── LabelError      a label map cannot be read
└── ZooError        a zoo name is unknown or its archive cannot be fetched
"""

from __future__ import annotations

import importlib
from types import ModuleType


class SsdrtError(Exception):
    """What was wrong, where, and what to do next, in one sentence or two."""


class GraphError(SsdrtError):
    """The bytes are not a GraphDef that can be used.

    Parameters
    ----------
    message: what is wrong and what to do.
    node: name of the node concerned, if one is.
    offset: byte offset in the file, if known.
    """

    def __init__(self, message: str, *, node: str | None = None, offset: int | None = None) -> None:
        where = [f"node {shorten(node)!r}"] if node is not None else []
        where += [f"byte {offset}"] if offset is not None else []
        super().__init__(f"{message} ({', '.join(where)})" if where else message)
        self.node = node
        self.offset = offset


class ModelError(SsdrtError):
    """The graph was read, but it is no SSD, or a part of it is not understood.

    Parameters
    ----------
    message: what is not understood, the nearest thing that is, and what to do.
    node: name of the node concerned, if one is.
    """

    def __init__(self, message: str, *, node: str | None = None) -> None:
        super().__init__(f"{message} (node {shorten(node)!r})" if node is not None else message)
        self.node = node


class BundleError(SsdrtError):
    """A `.ssdrt` file cannot be used."""


class EngineError(SsdrtError):
    """An engine cannot be built, loaded or run on this machine."""


class MissingExtra(EngineError):
    """A package that belongs to one of the extras is not installed."""


class OutOfMemory(EngineError):
    """The GPU, or the host's page-locked memory, has no room; a smaller request may find some."""


class SourceError(SsdrtError):
    """A picture or video cannot be read."""


class SinkError(SsdrtError):
    """A result cannot be written."""


class LabelError(SsdrtError):
    """A label map cannot be read."""


class ZooError(SsdrtError):
    """A zoo name is unknown, or its archive cannot be fetched, checked or unpacked."""


def shorten(text: str, limit: int = 120) -> str:
    """`text` cut in the middle to at most `limit` characters, so that hostile names cannot flood a terminal."""
    return text if len(text) <= limit else f"{text[: limit // 2]}...{text[-limit // 2 + 3 :]}"


def import_extra(module: str, extra: str, purpose: str) -> ModuleType:
    """Import `module`, or say in one sentence which command installs it.

    Raises
    ------
    MissingExtra: `module` is not installed; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(f"{purpose} needs {module}: pip install 'ssdrt[{extra}]' ({error})") from error

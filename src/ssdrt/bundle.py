"""The `.ssdrt` file: an SsdModel and what an engine built from it; and the cache of such files.

Layout: MAGIC, the SHA-256 of all that follows (32 bytes), the header's length (8 bytes, little-endian), the header
(JSON, filled with blanks so that the payload starts at a multiple of 64), the payload. The header MUST name the format
version; offsets in it count from the payload's first byte. Nothing in the file is executed, and nothing in it is looked
at before the digest agrees.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt import model as nouns
from ssdrt.errors import BundleError
from ssdrt.model import SsdModel

MAGIC = b"SSDRT\r\n\x01"
START = len(MAGIC) + 32 + 8  # of the header
FORMAT = 1
ALIGNMENT = 64  # bytes, of every array

_NOUNS = {c.__name__: c for c in vars(nouns).values() if isinstance(c, type) and dataclasses.is_dataclass(c)}


@dataclass(frozen=True)
class Bundle:
    """A model, ready for one engine.

    engine, precision: what it was built for; fingerprint: the library version and processor that the plan depends on.
    plan: the engine's own bytes. why: a sentence on how the precision was chosen.
    graph: the frozen graph itself where the input size depends on the picture, so that other sizes can follow.
    """

    model: SsdModel
    engine: str
    precision: str
    fingerprint: str
    plan: bytes
    why: str = ""
    graph: bytes = b""


def save_bundle(bundle: Bundle, path: str | Path) -> None:
    """Write a bundle to a temporary file beside `path`, then rename it.

    Raises
    ------
    BundleError: it cannot be written.
    """
    path = Path(path)
    writer = _Writer()
    header = {
        "format": FORMAT,
        "model": writer.tree(bundle.model),
        "engine": bundle.engine,
        "precision": bundle.precision,
        "fingerprint": bundle.fingerprint,
        "why": bundle.why,
        "plan": writer.blob(bundle.plan),
        "graph": writer.blob(bundle.graph),
    }
    text = json.dumps(header).encode()
    text += b" " * (-(START + len(text)) % ALIGNMENT)
    body = (len(text).to_bytes(8, "little"), text, *writer.parts)
    digest = hashlib.sha256()
    for part in body:
        digest.update(part)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".part", delete=False) as file:
            temporary = file.name
            file.writelines((MAGIC, digest.digest(), *body))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise BundleError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if temporary:  # it is there only if something went wrong
            Path(temporary).unlink(missing_ok=True)


def load_bundle(path: str | Path, beside_plan: bool = False) -> Bundle:
    """Read a bundle; its arrays are views of the file's bytes and read-only.

    Parameters
    ----------
    beside_plan: whether it may lack the network, as what lies beside a bare plan does.

    Raises
    ------
    BundleError: it cannot be read, is no bundle, of another format version, without a network, or damaged.
    """
    try:
        if not Path(path).is_file():
            raise BundleError(f"{path} is no file")
        data = Path(path).read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        bundle = _parse(data)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, OverflowError) as error:
        raise BundleError(f"{path} is damaged: {type(error).__name__} {error}; build it again") from error
    if not bundle.model.layers and not beside_plan:
        raise BundleError(f"{path} holds no network, it belongs to the plan beside it: open that, or the model itself")
    return bundle


def _parse(data: bytes) -> Bundle:
    if data[: len(MAGIC)] != MAGIC:
        raise BundleError("this is no .ssdrt file; ssdrt build writes one")
    if hashlib.sha256(memoryview(data)[START - 8 :]).digest() != data[len(MAGIC) : START - 8]:
        raise BundleError("it does not match its checksum: damaged or half-written; build it again")
    end = START + int.from_bytes(data[START - 8 : START], "little")
    header = json.loads(data[START:end])
    if header["format"] != FORMAT:
        raise BundleError(f"its format is {header['format']!r}, this ssdrt reads {FORMAT}; build it again")
    reader = _Reader(memoryview(data)[end:])
    model = reader.tree(header["model"])
    if not isinstance(model, SsdModel):
        raise BundleError("it holds no model; build it again")
    words = [str(header[key]) for key in ("engine", "precision", "fingerprint")]
    plan, graph = bytes(reader.blob(header["plan"])), bytes(reader.blob(header["graph"]))
    return Bundle(model, words[0], words[1], words[2], plan, str(header["why"]), graph)


class _Writer:
    """Plain data to JSON; arrays and bytes go to the payload, each once and aligned."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.seen: dict[int, dict[str, Any]] = {}

    def blob(self, data: bytes) -> list[int]:
        """[offset, length] of bytes in the payload."""
        at = self.size
        self.parts += [data, bytes(-len(data) % ALIGNMENT)]
        self.size += len(data) + -len(data) % ALIGNMENT
        return [at, len(data)]

    def tree(self, value: Any) -> Any:
        """A dataclass of model.py, or what its fields hold, as JSON."""
        if isinstance(value, (np.ndarray, np.generic)):
            if id(value) not in self.seen:
                array = np.ascontiguousarray(value)
                place = self.blob(array.tobytes())
                self.seen[id(value)] = {"array": place, "dtype": array.dtype.str, "shape": list(value.shape)}
            return self.seen[id(value)]
        if dataclasses.is_dataclass(value):
            fields = {f.name: self.tree(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return {"class": type(value).__name__, **fields}
        if isinstance(value, tuple):
            return [self.tree(v) for v in value]
        if isinstance(value, dict):
            return {"map": [[k, v] for k, v in value.items()]}
        return value


class _Reader:
    """JSON back to plain data."""

    def __init__(self, payload: memoryview) -> None:
        self.payload = payload
        self.arrays: dict[tuple[Any, ...], NDArray[Any]] = {}

    def blob(self, place: list[int]) -> memoryview:
        """Bytes of the payload."""
        at, size = place
        if at < 0 or size < 0 or at + size > len(self.payload):
            raise BundleError("an offset points past its end; build it again")
        return self.payload[at : at + size]

    def tree(self, value: Any) -> Any:
        """What `_Writer.tree` wrote; shared arrays stay shared."""
        if isinstance(value, list):
            return tuple(self.tree(v) for v in value)
        if not isinstance(value, dict):
            return value
        if "array" in value:
            return self._array(value)
        if "map" in value:
            return dict(value["map"])
        noun = _NOUNS[value["class"]]
        return noun(**{name: self.tree(v) for name, v in value.items() if name != "class"})

    def _array(self, value: dict[str, Any]) -> NDArray[Any]:
        key = (*value["array"], value["dtype"], *value["shape"])
        if key not in self.arrays:
            dtype, shape = np.dtype(value["dtype"]), tuple(value["shape"])
            if dtype.kind not in "fiub" or math.prod(shape) * dtype.itemsize != value["array"][1]:
                raise BundleError("an array's shape does not fit its bytes; build it again")
            self.arrays[key] = np.frombuffer(self.blob(value["array"]), dtype).reshape(shape)
        return self.arrays[key]


# --- the cache ------------------------------------------------------------------------------------------------------


def home() -> Path:
    """Where ssdrt keeps what it can make or fetch again: SSDRT_HOME, else XDG_CACHE_HOME/ssdrt, else ~/.cache/ssdrt."""
    chosen = os.environ.get("SSDRT_HOME")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ssdrt"


MAX_CACHED = 20
"""Bundles kept in the cache: a graph whose input size depends on the picture makes one a size."""


def prune_cache() -> None:
    """Forget the bundles of the cache that were used longest ago."""
    found = sorted((home() / "bundles").glob("*.ssdrt"), key=_last_used, reverse=True)
    for path in found[MAX_CACHED:]:
        with contextlib.suppress(OSError):  # another process uses it, or has forgotten it already
            path.unlink()


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process has just forgotten it
        return 0.0


def cache_path(digest: str, *choices: object) -> Path:
    """Where the bundle of a graph (its SHA-256) and of everything its plan depends on is cached."""
    key = hashlib.sha256(repr((FORMAT, digest, *choices)).encode()).hexdigest()
    return home() / "bundles" / f"{digest[:12]}-{key[:20]}.ssdrt"

"""`ssdrt doctor`: what can run here, what cannot, and what to type."""

from __future__ import annotations

import os
import platform
import shutil
from argparse import ArgumentParser, Namespace
from importlib import metadata
from pathlib import Path

from ssdrt import __version__
from ssdrt.cli.table import table
from ssdrt.errors import MissingExtra, import_extra

Rows = list[tuple[str, str]]


def add_arguments(parser: ArgumentParser) -> None:
    """Whether to try what is there."""
    parser.add_argument(
        "--self-test",
        action="store_true",
        help="build and run a small model on every engine in every precision, and compare: paste it into an issue",
    )
    parser.epilog = "Nothing is changed, nothing is downloaded."


def run(args: Namespace) -> int:
    """Print one section after the other."""
    for title, rows in (("machine", _machine()), ("engines", _engines()), ("pictures and videos", _codecs()),
                        ("other packages", _packages()), ("files", _files())):  # fmt: skip
        print(f"{title}\n{table(rows, 'll')}\n")
    if args.self_test:
        print(f"self-test\n{table(_self_test(), 'llrrl')}\n")
    return 0


def _machine() -> Rows:
    from ssdrt.cli.machine import abilities, board, gpus, processor

    rows = [
        ("ssdrt", f"{__version__}, Python {platform.python_version()}, {platform.platform()}"),
        ("processor", processor()),
        ("", " ".join(abilities())),
    ]
    rows += [("board", board())] if board() else []
    return rows + [("GPU", name) for name in gpus()]


def _engines() -> Rows:
    """Each engine: its precisions and what its plans are for, or why it cannot run."""
    from ssdrt.engines.base import engine_module, engine_names, not_taken, pick_engine

    rows = []
    for name in engine_names():
        if name == "null":  # for tests
            continue
        module = engine_module(name)
        why = module.unavailable()
        left = not_taken(name)
        chosen = " (what auto takes)" if name == pick_engine("auto") else f" (by name only: {left})" if left else ""
        rows.append((name, f"no: {why}" if why else f"{', '.join(module.precisions())}{chosen}"))
    return rows


def _self_test() -> list[tuple[str, ...]]:
    """Engine, precision, milliseconds a picture, largest difference of a score from the reference, what went wrong."""
    from ssdrt.engines.base import engine_module, engine_names

    rows: list[tuple[str, ...]] = [("engine", "precision", "ms", "difference", "")]
    for name in engine_names():
        module = engine_module(name)
        why = module.unavailable()
        if name != "null" and why is None:
            rows.append((name, "", "", "", module.fingerprint()))
            rows += [_tried(name, precision) for precision in module.precisions()]
    return rows


def _tried(name: str, precision: str) -> tuple[str, ...]:
    import time

    import numpy as np

    from ssdrt.demo import DemoOptions, build_demo_graph, demo_picture
    from ssdrt.engines.base import engine_module
    from ssdrt.engines.reference import ReferenceEngine
    from ssdrt.errors import SsdrtError
    from ssdrt.graph import graph_from_bytes
    from ssdrt.preprocess import to_network
    from ssdrt.recover import recover

    model = recover(graph_from_bytes(build_demo_graph(DemoOptions())))
    pixels = to_network(demo_picture(), model.preprocessing.resizer.value)[None]
    try:
        module = engine_module(name)
        engine = module.load(model, module.build(model, precision), precision, 1)
        scores = engine.infer(pixels)[1]
        start = time.perf_counter()
        for _ in range(5):
            engine.infer(pixels)
        milliseconds = (time.perf_counter() - start) / 5 * 1e3
        engine.close()
    except SsdrtError as error:
        return "", precision, "", "", f"failed: {error}"
    difference = np.abs(scores - ReferenceEngine(model).infer(pixels)[1]).max()
    return "", precision, f"{milliseconds:.2f}", f"{difference:.1e}", ""


def _codecs() -> Rows:
    from PIL import features

    pillow = ", ".join(
        f"{name} {features.version(feature) or ''}".strip()
        for feature, name in (("jpg", "JPEG"), ("zlib", "PNG"), ("libtiff", "TIFF"), ("webp", "WebP"))
        if features.check(feature)
    )
    return [("Pillow", f"{_version('Pillow')} ({_licence('Pillow')}): {pillow}"), *_videos(), *_live()]


def _live() -> Rows:
    """Which sources that never end can be read here."""
    try:
        formats = import_extra("av", "video", "cameras and streams").formats_available
    except MissingExtra:
        formats = set()
    if formats:
        streams = [name for name in ("rtsp", "hls", "mpjpeg") if name in formats]
        devices = sorted(str(place) for place in Path("/dev").glob("video*"))
        screen = "screen" if "x11grab" in formats and os.environ.get("DISPLAY") else "screen: no, DISPLAY is not set"
        cameras = f"cameras: {', '.join(devices) or 'none at /dev/video*'}"
        rows = [("live, PyAV", f"{', '.join(streams)}; {cameras}; {screen}")]
    else:
        rows = [("live, PyAV", "no: cameras and streams need pip install 'ssdrt[video]'; test: works without")]
    launch = shutil.which("gst-launch-1.0")
    return [*rows, ("live, GStreamer", launch or "no: gst: and csi: need gst-launch-1.0 (Debian: gstreamer1.0-tools)")]


def _videos() -> Rows:
    try:
        av = import_extra("av", "video", "reading and writing videos")
    except MissingExtra as error:
        return [("PyAV", f"no: {error}")]
    rows = [("PyAV", f"{_version('av')} ({_licence('av')}), FFmpeg {av.ffmpeg_version_info}")]
    gpl = [name for name in ("libx264", "libx265") if name in av.codecs_available]
    if gpl:
        note = f"its FFmpeg holds {' and '.join(gpl)}, which are under the GPL: mind that when you pass it on"
        rows.append(("", note))
    return rows


def _packages() -> Rows:
    """What the other extras bring."""
    purposes = {
        "rich": "shows progress as a bar: pip install 'ssdrt[progress]'",
        "pooch": "downloads the models of the zoo: pip install 'ssdrt[zoo]'",
        "supervision": "takes what was found (to_supervision): pip install 'ssdrt[supervision]'",
    }
    optional = [(name, _version(name) or f"not installed; {purpose}") for name, purpose in purposes.items()]
    return [("numpy", _version("numpy")), *optional]


def _files() -> Rows:
    from ssdrt.bundle import home

    place = home()
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    nearest = next(folder for folder in (place, *place.parents) if folder.exists())
    state = (
        ""
        if nearest.is_dir() and os.access(nearest, os.W_OK)
        else "; it cannot be written: set SSDRT_HOME to a folder that can"
    )
    return [("cache", f"{place}, {size / 1e6:.1f} MB{state}")]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _licence(package: str) -> str:
    about = metadata.metadata(package)
    stated = (about[key] for key in ("License-Expression", "License") if key in about)
    return next(stated, "licence not stated")

"""`ssdrt build`: a model, ready for this machine, as one file."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssdrt.cli.options import add_engine, add_model, batch_range, device_of, positive
from ssdrt.cli.outputs import keep_inputs
from ssdrt.errors import BundleError, SinkError


def add_arguments(parser: ArgumentParser) -> None:
    """What to build, for which engine, and where to put it."""
    add_model(parser)
    parser.add_argument(
        "-o", "--output", metavar="OUT.ssdrt", help="the file to write (default: MODEL's name, in this folder)"
    )
    parser.add_argument(
        "--labels", metavar="FILE", help="names of the classes to keep in the file: .pbtxt, .txt or .json"
    )
    add_engine(parser)
    group = parser.add_argument_group("for TensorRT (--engine tensorrt)")
    group.add_argument(
        "--batch", type=batch_range, metavar="N or LEAST:BEST:MOST", help="pictures at once (default: 1)"
    )
    group.add_argument("--pixels", choices=("float32", "uint8"), help="uint8 for pictures of the network's own size")
    group.add_argument("--level", type=int, choices=range(6), help="how hard the builder tries (default: TensorRT's 3)")
    group.add_argument("--workspace", type=positive, metavar="MB", help="memory that a layer may use while it runs")
    group.add_argument("--portable", action="store_true", help="for other cards from Ampere on and later versions too")
    group.add_argument("--dla", type=int, metavar="CORE", help="on this DLA core of a Jetson")
    group.add_argument("--scales", metavar="FILE", help="JSON of the scales of layers' values, for --precision int8")
    group.add_argument("--save-plan", metavar="OUT.engine", help="write the bare plan for trtexec, DeepStream, Triton")


def engine_options(args: Namespace) -> dict[str, Any]:
    """What was chosen of the options of an engine's build."""
    from ssdrt.network.int8 import read_scales

    names = ("batch", "pixels", "level", "workspace", "portable", "dla")
    options: dict[str, Any] = {name: getattr(args, name) for name in names if getattr(args, name) not in (None, False)}
    options |= device_of(args)
    options |= {"bare": True} if args.save_plan else {}
    return {**options, "scales": tuple(sorted(read_scales(args.scales).items()))} if args.scales else options


def run(args: Namespace) -> int:
    """Build, save, and say what was chosen and why."""
    from ssdrt.bundle import save_bundle
    from ssdrt.labels import read_labels
    from ssdrt.model import Fact
    from ssdrt.preparation import PLANS, plan_splitter, prepare, save_plan

    labels = read_labels(args.labels) if args.labels else None
    path = Path(args.output or f"{Path(args.model).stem}.ssdrt")
    for output in filter(None, (path, args.save_plan)):
        keep_inputs(args, output)
    if path.suffix != ".ssdrt":  # by which all commands know such a file
        raise SinkError(f"{str(path)!r}: give a name that ends in .ssdrt")
    if Path(args.model).suffix in PLANS:
        raise BundleError(f"{args.model}: a plan is built already; give the model itself")
    if args.save_plan and args.engine != "auto":
        plan_splitter(args.engine)
    begin = time.perf_counter()
    preparation = prepare(args.model, args.engine, args.precision, engine_options(args))
    bundle = preparation.bundle
    if labels is not None:
        bundle = replace(bundle, model=replace(bundle.model, labels=Fact(labels, "", f"read from {args.labels}")))
    if args.save_plan:
        save_plan(bundle, Path(args.save_plan))
    save_bundle(bundle, path)
    if not args.quiet:
        how = "from the cache" if preparation.cached else "built"
        print(f"engine     {bundle.engine}")
        print(f"precision  {bundle.precision} ({bundle.why})")
        print(f"for        {bundle.fingerprint}")
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {how} in {time.perf_counter() - begin:.1f} s")
    return 0

"""`ssdrt build`: a model, ready for this machine, as one file."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

from ssdrt.cli.options import add_engine, add_model


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


def run(args: Namespace) -> int:
    """Build, save, and say what was chosen and why."""
    from ssdrt.bundle import save_bundle
    from ssdrt.labels import read_labels
    from ssdrt.model import Fact
    from ssdrt.preparation import prepare

    labels = read_labels(args.labels) if args.labels else None
    path = Path(args.output or f"{Path(args.model).stem}.ssdrt")
    begin = time.perf_counter()
    preparation = prepare(args.model, args.engine, args.precision)
    bundle = preparation.bundle
    if labels is not None:
        bundle = replace(bundle, model=replace(bundle.model, labels=Fact(labels, "", f"read from {args.labels}")))
    save_bundle(bundle, path)
    if not args.quiet:
        how = "from the cache" if preparation.cached else "built"
        print(f"engine     {bundle.engine}")
        print(f"precision  {bundle.precision} ({bundle.why})")
        print(f"for        {bundle.fingerprint}")
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {how} in {time.perf_counter() - begin:.1f} s")
    return 0

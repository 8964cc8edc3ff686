"""`ssdrt train`: a detector from labelled pictures, as a frozen graph."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ssdrt.cli.options import at_least_zero, positive, seconds, words
from ssdrt.cli.outputs import keep_inputs
from ssdrt.cli.table import table
from ssdrt.errors import SinkError, SourceError, import_extra

if TYPE_CHECKING:
    from ssdrt.model import SsdModel
    from ssdrt.train.job import Job, Outcome


def add_arguments(parser: ArgumentParser) -> None:
    """What to learn from, what to begin with, and how long."""
    parser.epilog = (
        "Data sets, how long, what the pictures mean: docs/train.md. A killed run goes on with the same command."
    )
    parser.add_argument(
        "data", nargs="+", metavar="DATA", help="COCO json, or a folder of VOC's xml or YOLO's txt files; several join"
    )
    parser.add_argument(
        "--images", action="append", required=True, metavar="DIR", help="the folder of DATA's pictures; once for each"
    )
    parser.add_argument(
        "--init", required=True, metavar="MODEL",
        help="a frozen graph or a name (see ssdrt models) to go on from, or mobilenet_v1 or mobilenet_v2, untrained",
    )  # fmt: skip
    parser.add_argument(
        "--depth", type=seconds, metavar="D", help="MobileNet's width; a wider MODEL gives its strongest channels"
    )
    parser.add_argument("--size", type=positive, metavar="N", help="network input, N x N (default: MODEL's, or 300)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.pb", help="the graph to write")
    parser.add_argument("--classes", type=words, default=[], metavar="C,...", help="learn these alone")
    parser.add_argument("--test", action="append", default=[], metavar="DATA", help="held out: measures, never learnt")
    parser.add_argument("--test-images", action="append", default=[], metavar="DIR", help="its pictures; once for each")
    parser.add_argument("--steps", type=positive, default=2000, help="batches to learn from (default: 2000)")
    parser.add_argument("--batch", type=positive, default=32, help="pictures in one (default: 32)")
    parser.add_argument("--rate", type=seconds, default=1e-3, help="highest learning rate (default: 0.001)")
    parser.add_argument(
        "--body", type=at_least_zero, metavar="R",
        help="learning rate of the layers before the heads, of theirs (default: 0.1; 1 for an untrained model)",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=at_least_zero, default=0.0, metavar="W",
        help="weight of staying with MODEL's scores in the classes that it knows by name (default: 0)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: the GPU, if there is one)")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16, which GPUs do much faster")
    parser.add_argument("--half", action="store_true", help="keep the weights as float16: half the file")
    parser.add_argument("--minutes", type=seconds, metavar="M", help="stop then; the same command goes on")
    parser.add_argument("--every", type=positive, default=250, metavar="N", help="steps between checkpoints (250)")


def run(args: Namespace) -> int:
    """Train, and say what was written and how good it is; 0 also when the minutes were over."""
    from ssdrt.progress import progress
    from ssdrt.train.job import run_job

    import_extra("torch", "train", "ssdrt train")  # before anything is read
    job = _job(args)
    units = {"reading": "pictures", "training": "steps"}

    def watch(label: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        return progress(label, total, units[label])

    outcome = run_job(job, watch)
    print(_report(job, outcome))
    return 0


def _job(args: Namespace) -> Job:
    from ssdrt.train.job import Job, Labelled
    from ssdrt.train.settings import Settings

    for folders, data, option in ((args.images, args.data, "--images"), (args.test_images, args.test, "--test-images")):
        if len(folders) != len(data):
            raise SourceError(
                f"{option} is there {len(folders)} times for {len(data)} data sets: give it once for each"
            )
    if args.output.suffix != ".pb":
        raise SinkError(f"{str(args.output)!r}: a frozen graph's name ends in .pb")
    keep_inputs(args, args.output)
    model, normed = _first_model(args)
    body = args.body if args.body is not None else 1.0 if normed else 0.1
    settings = partial(Settings, args.steps, args.batch, args.rate, body, args.keep, args.seed, args.bf16, args.every)
    return Job(
        model,
        normed,
        tuple(map(Labelled, args.data, args.images)),
        tuple(map(Labelled, args.test, args.test_images)),
        tuple(args.classes),
        args.output,
        settings(),
        args.device,
        args.half,
        args.minutes,
    )


def _first_model(args: Namespace) -> tuple[SsdModel, tuple[str, ...]]:
    """The model, and the names of its convolutions that train with a batch norm."""
    from ssdrt.cli.loading import load_model
    from ssdrt.train.architectures import ARCHITECTURES, untrained
    from ssdrt.train.size import with_size
    from ssdrt.train.width import with_depth

    if args.init in ARCHITECTURES:
        return untrained(args.init, args.depth or 1.0, args.size or 300, args.seed)
    model = load_model(args.init)
    model = with_size(model, args.size) if args.size else model
    return (with_depth(model, args.depth) if args.depth else model), ()


def _report(job: Job, outcome: Outcome) -> str:
    parts = []
    if outcome.history["measured"]:
        step, numbers = outcome.history["measured"][-1]
        rows = [
            ("held out", "AP", "AP50"),
            *((name, f"{ap:.3f}", f"{ap50:.3f}") for name, (ap, ap50) in numbers.items()),
        ]
        parts.append(f"after {step} steps\n{table(rows, 'lrr')}")
    parts.append("\n".join(map(str, outcome.files)))
    if not outcome.finished:
        parts.append(
            f"stopped after {len(outcome.history['loss'])} of {job.settings.steps} steps; the same command goes on"
        )
    return "\n".join(parts)

"""Outputs of a run: what `-o` and `--json` name, opened in one place, and nothing written over what is read."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from ssdrt.cli.options import duration
from ssdrt.errors import SinkError, shorten

if TYPE_CHECKING:
    from ssdrt.model import LabelMap
    from ssdrt.sinks.base import Sink

INPUTS = ("model", "labels", "scales", "records", "video", "input", "init", "test", "annotations", "preprocessor")
"""Arguments that name what a command reads, one or several."""


def add_outputs(parser: ArgumentParser, what: str) -> None:
    """Where to put what was found: `what` says which outputs there are."""
    parser.add_argument(
        "-o", "--output", metavar="OUTPUT", action="append", default=[], help=f"{what}; may be given several times"
    )
    parser.add_argument(
        "--segment", type=duration, metavar="TIME", help="begin the next video file after 10m, 1h, 90s of video"
    )


def outputs_of(args: Namespace) -> list[str]:
    """Everything that `-o` and `--json` name."""
    json: str | None = getattr(args, "json", None)
    return [*args.output, *([] if json is None else [f"jsonl:{json}"])]


def open_outputs(
    args: Namespace, labels: LabelMap, stack: ExitStack, together: int = 1, endless: bool = False
) -> list[Sink]:
    """Open all of `outputs_of`; the stack closes them.

    Parameters
    ----------
    together: as for `open_sink`. endless: the run goes on until somebody ends it.

    Raises
    ------
    SinkError: one cannot be opened, is what the run reads, holds one picture of an endless run, or grows in memory
    until an end that there is not.
    """
    from ssdrt.sinks import open_sink, output_path
    from ssdrt.sinks.coco import CocoResults
    from ssdrt.sinks.picture import AnnotatedPicture

    sinks: list[Sink] = []
    for output in outputs_of(args):
        keep_inputs(args, output_path(output))
        sinks.append(open_sink(output, labels, args.segment, together))
        if endless and isinstance(sinks[-1], CocoResults):
            raise SinkError(f"{output!r} is one list, written at the end, which cameras do not have; give a .jsonl")
        if endless and isinstance(sinks[-1], AnnotatedPicture):
            raise SinkError(f"{output!r} is one picture, and cameras give more; give a video or a folder")
        stack.callback(sinks[-1].close)
    return sinks


def keep_inputs(args: Namespace, path: str | os.PathLike[str]) -> None:
    """Refuse an output that is one of the files which the command reads.

    Raises
    ------
    SinkError: it is.
    """
    for name in INPUTS:
        given = getattr(args, name, None)
        for read in [given] if isinstance(given, str) else given or ():
            if _same_file(read, path):
                raise SinkError(f"{shorten(str(path))!r} is the input itself; give another output")


def _same_file(first: str, second: str | os.PathLike[str]) -> bool:
    with suppress(OSError, ValueError, TypeError):
        return os.path.isfile(first) and os.path.samefile(first, second)
    return False

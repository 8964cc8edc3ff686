"""`ssdrt view`: detections that were written down, over their video again, without an engine."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ssdrt.cli.analysis import add_analysis, open_analytics
from ssdrt.cli.options import add_score, positive, threshold_of, words
from ssdrt.cli.outputs import add_outputs, open_outputs
from ssdrt.cli.stopping import ignore_signals
from ssdrt.cli.viewing import add_viewing, play
from ssdrt.errors import SourceError, shorten

if TYPE_CHECKING:
    from ssdrt.detections import Detections
    from ssdrt.live.board import Settings
    from ssdrt.live.replay import Records, Replay
    from ssdrt.sinks.base import Sink
    from ssdrt.sources.base import Frame, Source


def add_arguments(parser: ArgumentParser) -> None:
    """What was found, in which video, and where to put it."""
    parser.add_argument("records", metavar="FILE.jsonl", help="detections, as `ssdrt detect --json` writes them")
    parser.add_argument("video", metavar="VIDEO", help="the video they were found in, or the one recorded with them")
    add_viewing(parser)
    add_outputs(parser, "annotated video; .jsonl, .csv, ... of what is chosen")
    add_score(parser, "all that were written")
    parser.add_argument("--classes", type=words, metavar="CLASS,...", help="show these only: names or ids")
    parser.add_argument("--max-pixels", type=positive, metavar="N", help="decode pictures of up to N pixels")
    add_analysis(parser)


def run(args: Namespace) -> int:
    """Write or show every frame with its detections; 1 if some could not be read."""
    from ssdrt.live.replay import EVERYTHING, Records, Replay
    from ssdrt.model import LabelMap
    from ssdrt.sources import open_source
    from ssdrt.sources.base import MAX_PIXELS

    shown = args.show or args.web is not None
    if not (args.output or shown):
        raise SourceError("there is nothing to do: give -o OUTPUT, --show or --web PORT")
    records = Records(args.records, args.video)
    records.check([*args.blur, *(args.classes or ())])
    replay = Replay(records, open_analytics(args, args.blur))
    source = open_source(args.video, max_pixels=args.max_pixels or MAX_PIXELS)
    options = {
        "score_threshold": threshold_of(args.score, records.names, EVERYTHING),
        "classes": args.classes,
    }
    with ExitStack() as stack:
        sinks = open_outputs(args, LabelMap(records.names), stack)
        if shown:
            failed = _show(args, replay, source, options, records, sinks, stack)
        else:
            stack.callback(ignore_signals)
            failed = _write(replay, source, options, sinks)
    if not (replay.matched or failed or shown):
        raise SourceError(f"no frame of {shorten(args.video)!r} has the time of a line of {shorten(args.records)!r}")
    return 1 if failed else 0


def _write(replay: Replay, source: Source, options: dict[str, Any], sinks: list[Sink]) -> int:
    """All frames to the sinks; how many could not be read."""
    from ssdrt.progress import progress

    failures: list[SourceError] = []
    with progress("viewing", source.length) as advance:
        for item in source.items:
            advance(1)
            try:
                frame = item.read()
            except SourceError as error:
                failures.append(error)
                continue
            shown = replay.join(frame, options)
            for sink in sinks:
                sink.write(*shown)
    for failure in failures:
        print(f"ssdrt: {failure}", file=sys.stderr)
    return len(failures)


def _show(
    args: Namespace, replay: Replay, source: Source, options: dict[str, Any], records: Records, sinks: list[Sink],
    stack: ExitStack,
) -> int:  # fmt: skip
    """Play the video in a window or on a page; how many frames could not be read."""
    from ssdrt.live.board import Settings

    def join(frame: Frame, now: Settings) -> tuple[Frame, Detections]:
        chosen = {**options, "classes": now.classes}
        if now.score_threshold != first.score_threshold:  # one for all, in place of those of single classes
            chosen["score_threshold"] = now.score_threshold
        return replay.join(frame, chosen)

    first = Settings(args.score[0] or 0.0, tuple(args.classes) if args.classes else None)
    return play(args, shorten(args.video), source, join, first, records.names, sinks, stack).failed

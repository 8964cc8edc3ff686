"""`ssdrt view`: detections that were written down, over their video again, without an engine."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ssdrt.cli.analysis import add_analysis, open_analytics
from ssdrt.cli.options import add_score, duration, positive, words
from ssdrt.cli.stopping import end_on_signals, ignore_signals
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
    parser.add_argument("--show", action="store_true", help="play it in a window")
    parser.add_argument(
        "-o", "--output", metavar="OUTPUT", action="append", default=[],
        help="annotated video; .jsonl, .csv, ... of what is chosen; may be given several times",
    )  # fmt: skip
    parser.add_argument("--segment", type=duration, metavar="TIME", help="begin the next video file after 10m, 1h, 90s")
    add_score(parser, "all that were written")
    parser.add_argument("--classes", type=words, metavar="CLASS,...", help="show these only: names or ids")
    parser.add_argument("--max-pixels", type=positive, metavar="N", help="decode pictures of up to N pixels")
    add_analysis(parser)


def run(args: Namespace) -> int:
    """Write or show every frame with its detections; 1 if some could not be read."""
    from ssdrt.live.replay import Records, Replay
    from ssdrt.model import LabelMap
    from ssdrt.sinks import open_sink
    from ssdrt.sources import open_source
    from ssdrt.sources.base import MAX_PIXELS

    if not (args.output or args.show):
        raise SourceError("there is nothing to do: give -o OUTPUT or --show")
    records = Records(args.records, args.video)
    records.check([*args.blur, *(args.classes or ())])
    replay = Replay(records, open_analytics(args, args.blur))
    source = open_source(args.video, max_pixels=args.max_pixels or MAX_PIXELS)
    sinks: list[Sink] = []
    with ExitStack() as stack:
        end_on_signals(stack)
        for output in args.output:
            sinks.append(open_sink(output, LabelMap({}), args.segment))
            stack.callback(sinks[-1].close)
        if args.show:
            failed = _show(args, replay, source, _options(args, records), sinks, stack)
        else:
            stack.callback(ignore_signals)
            failed = _write(args, replay, source, _options(args, records), sinks)
    if not (replay.matched or failed or args.show):
        raise SourceError(f"no frame of {shorten(args.video)!r} has the time of a line of {shorten(args.records)!r}")
    return 1 if failed else 0


def _write(args: Namespace, replay: Replay, source: Source, options: dict[str, Any], sinks: list[Sink]) -> int:
    """All frames to the sinks; how many could not be read."""
    from ssdrt.progress import progress

    failures: list[SourceError] = []
    with progress("viewing", source.length, quiet=args.quiet) as advance:
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
    args: Namespace, replay: Replay, source: Source, options: dict[str, Any], sinks: list[Sink], stack: ExitStack
) -> int:
    """Play the video in a window; how many frames could not be read."""
    from ssdrt.live.board import Board, Controls, Settings
    from ssdrt.live.player import Player
    from ssdrt.live.window import show

    def join(frame: Frame, now: Settings) -> tuple[Frame, Detections]:
        changed = now.score_threshold != settings.score_threshold
        return replay.join(frame, {**options, "score_threshold": now.score_threshold} if changed else options)

    settings = Settings(max(0.0, args.score[0] or 0.0), tuple(args.classes) if args.classes else None)
    board = Board()
    player = Player(
        shorten(args.video), source.items, join, sinks, lambda error: print(f"ssdrt: {error}", file=sys.stderr)
    )
    stack.callback(player.close)
    stack.callback(board.close)
    stack.callback(ignore_signals)
    player.start(board, controls := Controls(settings))
    show(board, controls)
    return player.failed


def _options(args: Namespace, records: Records) -> dict[str, Any]:
    """What `Detector.detect` would be told; without --score all that was written."""
    from ssdrt.live.replay import EVERYTHING

    rest, named = args.score
    least = EVERYTHING if rest is None else rest
    return {
        "score_threshold": {**dict.fromkeys(records.class_ids, least), **named} if named else least,
        "classes": args.classes,
    }

"""`ssdrt view`: detections that were written down, over their video again, without an engine."""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ssdrt.cli.analysis import add_analysis, open_analytics
from ssdrt.cli.options import add_score, duration, positive, words
from ssdrt.errors import SourceError, SsdrtError, shorten

if TYPE_CHECKING:
    from ssdrt.live.replay import Records
    from ssdrt.sinks.base import Sink


def add_arguments(parser: ArgumentParser) -> None:
    """What was found, in which video, and where to put it."""
    parser.add_argument("records", metavar="FILE.jsonl", help="detections, as `ssdrt detect --json` writes them")
    parser.add_argument("video", metavar="VIDEO", help="the video they were found in, or the one recorded with them")
    parser.add_argument(
        "-o", "--output", metavar="OUTPUT", action="append", required=True,
        help="annotated video; .jsonl, .csv, ... of what is chosen; may be given several times",
    )  # fmt: skip
    parser.add_argument("--segment", type=duration, metavar="TIME", help="begin the next video file after 10m, 1h, 90s")
    add_score(parser, "all that were written")
    parser.add_argument("--classes", type=words, metavar="CLASS,...", help="show these only: names or ids")
    parser.add_argument("--max-pixels", type=positive, metavar="N", help="decode pictures of up to N pixels")
    add_analysis(parser)


def run(args: Namespace) -> int:
    """Write every frame with its detections; 1 if some could not be read."""
    from ssdrt.live.replay import Records, Replay
    from ssdrt.model import LabelMap
    from ssdrt.progress import progress
    from ssdrt.sinks import open_sink
    from ssdrt.sources import open_source
    from ssdrt.sources.base import MAX_PIXELS

    records = Records(args.records, args.video)
    records.check([*args.blur, *(args.classes or ())])
    replay = Replay(records, open_analytics(args, args.blur), _options(args, records))
    source = open_source(args.video, max_pixels=args.max_pixels or MAX_PIXELS)
    sinks: list[Sink] = []
    failures: list[SsdrtError] = []
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        for output in args.output:
            sinks.append(open_sink(output, LabelMap({}), args.segment))
            stack.callback(sinks[-1].close)
        stack.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not break off the closing
        advance = stack.enter_context(progress("viewing", source.length, quiet=args.quiet))
        for frame, found in replay.frames(source.items, failures.append):
            for sink in sinks:
                sink.write(frame, found)
            advance(1)
    for failure in failures:
        print(f"ssdrt: {failure}", file=sys.stderr)
    if not replay.matched and not failures:
        raise SourceError(f"no frame of {shorten(args.video)!r} has the time of a line of {shorten(args.records)!r}")
    return 1 if failures else 0


def _options(args: Namespace, records: Records) -> dict[str, Any]:
    """What `Detector.detect` would be told; without --score all that was written."""
    rest, named = args.score
    least = -1.0 if rest is None else rest
    return {
        "score_threshold": {**dict.fromkeys(records.class_ids, least), **named} if named else least,
        "classes": args.classes,
    }

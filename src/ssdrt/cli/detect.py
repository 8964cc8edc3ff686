"""`ssdrt detect`: from pictures to what is in them."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

from ssdrt.cli.analysis import add_analysis, open_analytics
from ssdrt.cli.live import add_live, detect_live, open_files, streams_of
from ssdrt.cli.options import add_engine, add_model, add_score, fraction, positive, threshold_of, words
from ssdrt.cli.outputs import add_outputs, open_outputs, outputs_of
from ssdrt.cli.printer import Printer
from ssdrt.cli.stopping import ignore_signals
from ssdrt.cli.viewing import add_viewing, play_files
from ssdrt.errors import SourceError, shorten

if TYPE_CHECKING:
    from ssdrt.detections import Detections
    from ssdrt.detector import Detector, Outcome
    from ssdrt.sinks.base import Sink
    from ssdrt.sources.base import Frame, Source


def add_arguments(parser: ArgumentParser) -> None:
    """What to detect with, in what, and where to put it."""
    parser.epilog = (
        "Without -o and --json, what was found is printed. The exit code is 1 if a picture could not be read."
    )
    add_model(parser)
    parser.add_argument(
        "input", metavar="INPUT", nargs="+",
        help="photo, folder, glob, video, http(s) address, list of paths (.txt, .csv), - for standard input; camera:0, "
        "rtsp://..., csi:0, gst:PIPELINE, screen:, test: (a synthetic scene)",
    )  # fmt: skip
    add_outputs(
        parser,
        "annotated picture, video or folder of them; .json (COCO results), .jsonl, .csv; yolo:FOLDER, crops:FOLDER",
    )
    parser.add_argument("--json", metavar="FILE", help="JSON lines, one a picture; - is standard output")
    add_score(parser, "0.3")
    parser.add_argument("--classes", type=words, metavar="CLASS,...", help="look for these only: names or ids")
    parser.add_argument(
        "--max-det", type=positive, metavar="N", help="keep the best N of what the graph itself would keep of a picture"
    )
    parser.add_argument(
        "--iou", type=fraction, help="NMS: overlap from which the lesser box goes (default: the graph's)"
    )
    parser.add_argument("--labels", metavar="FILE", help="names of the classes: .pbtxt, .txt or .json")
    parser.add_argument("--max-pixels", type=positive, metavar="N", help="decode pictures of up to N pixels")
    parser.add_argument(
        "--decode", choices=("cpu", "gpu"), default="cpu", help="where JPEG files are decoded; gpu is for --engine cuda"
    )
    add_live(parser)
    add_viewing(parser)
    add_analysis(parser)
    add_engine(parser)


def run(args: Namespace) -> int:
    """Detect in every picture; 1 if some could not be read."""
    from ssdrt.cli.loading import open_detector
    from ssdrt.progress import progress

    streams = streams_of(args)
    if args.decode == "gpu" and (streams or args.show or args.web):
        raise SourceError("--decode gpu is for files of which many are decoded at once; leave it out here")
    if streams:
        return detect_live(args, streams)
    if args.show or args.web:
        return play_files(args)
    source = open_files(args)
    outputs = outputs_of(args)
    on_screen = not outputs or (sys.stdout.isatty() and not {"-", "jsonl:-"}.isdisjoint(outputs))
    with ExitStack() as stack:
        detector = stack.enter_context(open_detector(args))
        options, analytics = detect_options(args, detector), open_analytics(args, detector.class_ids(args.blur))
        sinks: list[Sink] = [] if outputs else [Printer(with_table=source.length == 1)]
        sinks += open_outputs(args, detector.labels, stack)
        stack.callback(ignore_signals)
        begin = time.perf_counter()
        outcomes = stack.enter_context(closing(_outcomes(args, detector, source, analytics.widen(options))))
        advance = stack.enter_context(progress("detecting", source.length, quiet=on_screen))
        done, failed = _write_all(outcomes, partial(analytics, options=options), sinks, advance)
    if not args.quiet:
        print(_speed(done, failed, time.perf_counter() - begin), file=sys.stderr)
    return 1 if failed else 0


def detect_options(args: Namespace, detector: Detector) -> dict[str, Any]:
    """The arguments of `Detector.detect` that were given; the graph's own cap on detections stays one."""
    from ssdrt.detector import SCORE

    model = detector.model
    return {
        "score_threshold": threshold_of(args.score, model.class_ids, SCORE),
        "iou_threshold": args.iou,
        "max_total": args.max_det and min(args.max_det, model.nms.max_total.value),
        "classes": args.classes,
    }


def _outcomes(
    args: Namespace, detector: Detector, source: Source, options: dict[str, Any]
) -> Generator[Outcome, None, None]:
    """The results in order. A single picture gets all cores, and what fails there is the failure of the run."""
    from ssdrt.sources.base import MAX_PIXELS

    if args.decode == "gpu":
        yield from detector.detect_files(source.items, args.max_pixels or MAX_PIXELS, **options)
        return
    if source.length != 1:
        yield from detector.detect_items(source.items, **options)
        return
    from ssdrt.detector import Outcome

    for item in source.items:
        frame = item.read()
        yield Outcome(item, frame, detector.detect(frame.image, **options))


def _write_all(
    outcomes: Iterable[Outcome],
    analyse: Callable[[Frame, Detections], tuple[Frame, Detections]],
    sinks: list[Sink],
    advance: Callable[[int], None],
) -> tuple[int, int]:
    """Hand what was found to the sinks; returns how many pictures there were, and how many of them failed."""
    done = failed = 0
    for outcome in outcomes:
        done += 1
        if outcome.found is not None:
            frame, found = analyse(outcome.frame, outcome.found)
            for sink in sinks:
                sink.write(frame, found)
        else:
            failed += 1
            where = "" if isinstance(outcome.error, SourceError) else f"{shorten(outcome.item.source)!r}: "
            print(f"ssdrt: {where}{outcome.error}", file=sys.stderr)
        advance(1)
    return done, failed


def _speed(done: int, failed: int, seconds: float) -> str:
    """`12 pictures, 1 failed, in 0.52 s: 23.1 pictures/s`."""
    pictures = f"{done} picture{'' if done == 1 else 's'}" + (f", {failed} failed," if failed else "")
    return f"{pictures} in {seconds:.2f} s" + (f": {done / seconds:.1f} pictures/s" if done > 1 else "")

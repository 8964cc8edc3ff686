"""`ssdrt detect` with cameras and streams: what is typed becomes sources, viewers and sinks of the live loop."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ssdrt.cli.analysis import open_analytics
from ssdrt.cli.options import positive
from ssdrt.cli.outputs import open_outputs, outputs_of
from ssdrt.cli.printer import Printer
from ssdrt.cli.stopping import ignore_signals
from ssdrt.cli.viewing import names_of, viewers_of, watch
from ssdrt.errors import SourceError, SsdrtError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ssdrt.detections import Detections
    from ssdrt.detector import Detector
    from ssdrt.live.board import Board, Settings
    from ssdrt.live.loop import Detect, LiveRun
    from ssdrt.sinks.base import Sink
    from ssdrt.sources.base import Frame, Source
    from ssdrt.sources.status import Status
    from ssdrt.sources.stream import Stream


def add_live(parser: ArgumentParser) -> None:
    """How cameras and videos are read; the names are tensorrt_demos', whose command lines run here too."""
    for name in ("--width", "--height"):
        parser.add_argument(name, type=positive, metavar="PIXELS", help=f"{name[2:]} to ask of a camera")
    parser.add_argument("--do_resize", action="store_true", help="scale pictures and videos to --width and --height")
    parser.add_argument("--rtsp_latency", type=positive, metavar="MS", help="wait for late packets over UDP")
    parser.add_argument("--video_looping", action="store_true", help="begin a video again when it ends")


def size_of(args: Namespace) -> tuple[int, int] | None:
    """`--width` and `--height`, 640 and 480 for the one that is not given; None without any."""
    return (args.width or 640, args.height or 480) if args.width or args.height else None


def streams_of(args: Namespace) -> list[Stream]:
    """The streams among the inputs, under names of their own.

    Raises
    ------
    SourceError: streams and files in one run.
    """
    from ssdrt.sources.stream import parse_stream

    latency = args.rtsp_latency and args.rtsp_latency / 1000
    found = [parse_stream(text, size_of(args), latency) for text in args.input]
    streams = [stream for stream in found if stream is not None]
    if streams and len(streams) < len(args.input):
        raise SourceError("cameras and streams go on for ever, files do not: give them to two runs")
    names = [stream.name for stream in streams]
    return [
        replace(stream, name=f"{stream.name} #{names[:index].count(stream.name) + 1}")
        if stream.name in names[:index]
        else stream
        for index, stream in enumerate(streams)
    ]


def open_files(args: Namespace) -> Source:
    """The files among the inputs, again and again and scaled if that is asked for."""
    from ssdrt.sources import open_source
    from ssdrt.sources.base import MAX_PIXELS
    from ssdrt.sources.repeated import repeated
    from ssdrt.sources.scaled import scaled

    pixels = args.max_pixels or MAX_PIXELS
    source = open_source(*args.input, max_pixels=pixels)
    if args.video_looping:
        source = repeated(source, lambda: open_source(*args.input, max_pixels=pixels))
    return scaled(source, size_of(args) or (640, 480), pixels) if args.do_resize else source


def detect_live(args: Namespace, streams: list[Stream]) -> int:
    """Detect in streams until they end, a viewer ends the run, or Ctrl-C; 1 if an output could not be written."""
    from ssdrt.cli.loading import open_detector
    from ssdrt.live.board import Controls
    from ssdrt.live.loop import run_live
    from ssdrt.live.memory import share_arena
    from ssdrt.sources.base import MAX_PIXELS

    told: list[BaseException] = []

    def say(text: str) -> None:
        with suppress(OSError):  # nobody reads standard error any more: no reason to end
            print(f"ssdrt: {text}", file=sys.stderr)

    def on_status(source: str, status: Status) -> None:
        if not args.quiet:
            say(f"{source}: {status.state}{': ' * bool(status.reason)}{status.reason}")

    def on_failure(_: Sink, error: BaseException) -> None:
        if isinstance(error, SsdrtError) and not isinstance(error.__cause__, BrokenPipeError):
            told.append(error)
            say(str(error))

    def on_end(run: LiveRun) -> None:
        if not args.quiet:
            seconds = time.perf_counter() - begin
            dropped = sum(status.dropped for status in run.statuses.values())
            with suppress(OSError):
                together = f", {run.detected / run.calls:.1f} at once" if len(streams) > 1 and run.calls else ""
                print(f"{run.detected} frames in {seconds:.2f} s{together}, {dropped} dropped as newer ones were there",
                      file=sys.stderr)  # fmt: skip
        for output, writer in zip(outputs_of(args), run.writers, strict=False):
            if writer.dropped:
                say(f"{writer.dropped} frames are not in {output!r}: it was too slow")

    def wait(board: Board) -> None:
        try:
            watch(args, board, controls)
        finally:
            ignore_signals()

    share_arena()
    with ExitStack() as stack:
        detector = stack.enter_context(open_detector(args))
        detect, settings = detection(args, detector)
        controls, viewers = Controls(settings), viewers_of(args, names_of(detector))
        with ExitStack() as opened:
            sinks = open_outputs(
                args, detector.labels, opened, len(streams), any(stream.ends is False for stream in streams)
            )
            opened.pop_all()  # from here on the run closes them
        if not (sinks or viewers or args.show):
            sinks = [Printer(with_table=False)]
        begin = time.perf_counter()
        try:
            run_live(
                streams, detect, controls, viewers=viewers, sinks=sinks, on_status=on_status, on_failure=on_failure,
                on_end=on_end, wait=wait, max_pixels=args.max_pixels or MAX_PIXELS,
            )  # fmt: skip
        except SsdrtError as error:
            if error not in told:
                raise
    return 1 if told else 0


def detection(args: Namespace, detector: Detector) -> tuple[Detect, Settings]:
    """What the loop does with a frame, and the settings that it begins with."""
    from ssdrt.cli.detect import detect_options
    from ssdrt.detector import SCORE
    from ssdrt.live.board import Settings

    given = detect_options(args, detector)
    analytics = open_analytics(args, detector.class_ids(args.blur))
    first = Settings(SCORE if args.score[0] is None else args.score[0], tuple(args.classes) if args.classes else None)

    def detect(frames: Sequence[Frame], settings: Settings) -> list[tuple[Frame, Detections]]:
        options = {**given, "classes": settings.classes}
        if settings.score_threshold != first.score_threshold:  # one for all, in place of those of single classes
            options["score_threshold"] = settings.score_threshold
        found = detector.detect_batch([frame.image for frame in frames], **analytics.widen(options))
        return [analytics(frame, one, options) for frame, one in zip(frames, found, strict=True)]

    return detect, first

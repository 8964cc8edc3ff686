"""`--show` and `--web`: a window and a page for a run, of cameras or of files."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ssdrt.cli.outputs import open_outputs
from ssdrt.cli.stopping import ignore_signals
from ssdrt.errors import shorten

if TYPE_CHECKING:
    from ssdrt.detector import Detector
    from ssdrt.live.board import Board, Controls, Settings
    from ssdrt.live.loop import DetectOne, Viewer
    from ssdrt.live.player import Player
    from ssdrt.sinks.base import Sink
    from ssdrt.sources.base import Source


def add_viewing(parser: ArgumentParser) -> None:
    """Where to see the run while it goes on."""
    parser.add_argument("--show", action="store_true", help="in a window: F full screen, Esc quit, + - threshold, ...")
    parser.add_argument(
        "--web", type=_address, metavar="[HOST:]PORT",
        help="as a page for browsers, on 127.0.0.1 by default; on another HOST it asks for the token in its address",
    )  # fmt: skip


def viewers_of(args: Namespace, names: Mapping[int, str]) -> list[Callable[[Board, Controls], Viewer]]:
    """What shows the run while it goes on: each starts a viewer of a board.

    Parameters
    ----------
    names: class id -> name, of all classes that can be chosen.
    """
    if args.web is None:
        return []
    from ssdrt.serve.server import LivePage

    page = LivePage(names, *args.web)
    print(f"ssdrt: live at {page.address}", file=sys.stderr)
    return [page.start]


def names_of(detector: Detector) -> dict[int, str]:
    """The name of every class that the model has."""
    return {number: detector.labels.name(number) for number in detector.model.class_ids}


def watch(args: Namespace, board: Board, controls: Controls) -> None:
    """Be at the window until it is closed, or just wait for the end of the run."""
    from ssdrt.live.loop import wait_until_closed

    if args.show:
        from ssdrt.live.window import show

        show(board, controls)
    else:
        wait_until_closed(board)


def play(
    args: Namespace, name: str, source: Source, detect: DetectOne, settings: Settings, names: Mapping[int, str],
    sinks: Sequence[Sink], stack: ExitStack,
) -> Player:  # fmt: skip
    """Show frames as fast as a video says, until it ends or the viewer goes.

    Parameters
    ----------
    name: under which they are shown. names: as for `viewers_of`.
    stack: what is to be closed is put on it.
    """
    from ssdrt.live.board import Board, Controls
    from ssdrt.live.player import Player

    board, controls = Board(), Controls(settings)
    player = Player(name, source.items, detect, sinks, lambda error: print(f"ssdrt: {error}", file=sys.stderr))
    stack.callback(player.close)
    for viewer in viewers_of(args, names):
        stack.callback(viewer(board, controls).close)
    stack.callback(board.close)
    stack.callback(ignore_signals)
    player.start(board, controls)
    watch(args, board, controls)
    return player


def play_files(args: Namespace) -> int:
    """Show what is detected in files; 1 if a frame could not be read."""
    from ssdrt.cli.live import detection, open_files
    from ssdrt.cli.loading import open_detector

    source = open_files(args)
    name = shorten(args.input[0]) + (f" and {len(args.input) - 1} more" if len(args.input) > 1 else "")
    with ExitStack() as stack:
        detector = stack.enter_context(open_detector(args))
        detect, settings = detection(args, detector)
        sinks, begin = open_outputs(args, detector.labels, stack), time.perf_counter()
        player = play(
            args, name, source, lambda frame, now: detect([frame], now)[0], settings, names_of(detector), sinks, stack
        )
    if not args.quiet:
        plural = "" if player.detected == 1 else "s"
        print(f"{player.detected} picture{plural} in {time.perf_counter() - begin:.2f} s", file=sys.stderr)
    return 1 if player.failed else 0


def _address(text: str) -> tuple[str, int]:
    from ssdrt.serve.server import read_address

    try:
        return read_address(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None

"""Options of tracking, counting and privacy, and the `Analytics` they ask for."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ssdrt.cli.options import words
from ssdrt.errors import LabelError

if TYPE_CHECKING:
    from ssdrt.track.analytics import Analytics
    from ssdrt.track.regions import Region


def add_analysis(parser: ArgumentParser) -> None:
    """What is done with detections before they are shown or written."""
    parser.add_argument("--track", action="store_true", help="number the objects of a video: the same in every frame")
    parser.add_argument(
        "--zone", type=zone, action="append", default=[], metavar="NAME=X,Y,X,Y,X,Y,...",
        help="count what stands in a polygon, in pixels or parts of the picture (0 to 1); may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--line", type=line, action="append", default=[], metavar="NAME=X,Y,X,Y",
        help="count the tracks that cross a line, each way; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--blur", type=words, default=[], metavar="CLASS,...", help="cover these in all that is shown and written"
    )


def open_analytics(args: Namespace, blur: Sequence[str | int]) -> Analytics:
    """The `Analytics` for the options; `blur`: the classes to cover, which the caller has checked.

    Raises
    ------
    LabelError: two zones, or two lines, of one name.
    """
    from ssdrt.track.analytics import Analytics

    for regions in (args.zone, args.line):
        names = [region.name for region in regions]
        if len(set(names)) < len(names):
            raise LabelError(f"two zones or lines have one name: {', '.join(names)}; give each its own")
    return Analytics(track=args.track, zones=args.zone, lines=args.line, blur=[str(name) for name in blur])


def zone(text: str) -> Region:
    """A polygon with a name."""
    return _region(text, 3, None)


def line(text: str) -> Region:
    """Two points with a name."""
    return _region(text, 2, 2)


def _region(text: str, least: int, most: int | None) -> Region:
    from ssdrt.track.regions import read_region  # brings numpy, which --help does without

    try:
        return read_region(text, least, most)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error

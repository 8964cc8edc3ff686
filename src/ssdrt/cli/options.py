"""Options that several commands share."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable

Scores = tuple[float | None, dict[str, float]]
"""The threshold of all classes, and those of single ones."""


def add_model(parser: ArgumentParser) -> None:
    """The first argument of most commands."""
    parser.add_argument(
        "model", metavar="MODEL", help="a frozen graph (.pb, .pbtxt), a built .ssdrt file or a name (see ssdrt models)"
    )


def add_engine(parser: ArgumentParser) -> None:
    """What runs the model."""
    parser.add_argument(
        "--engine", default="auto", help="openvino, onnxruntime, reference, ... (default: the fastest that runs here)"
    )
    parser.add_argument(
        "--precision", default="auto", help="fp32, bf16, ... (default: the fastest that finds what fp32 finds)"
    )
    add_device(parser)


def add_device(parser: ArgumentParser) -> None:
    """Which GPU."""
    parser.add_argument(
        "--device", type=index, metavar="N", help="the GPU, for engines cuda and tensorrt: 0, 1, ... (default: 0)"
    )


def device_of(args: Namespace) -> dict[str, int]:
    """What `--device` means for `Detector.open`: an option of the engine."""
    return {} if args.device is None else {"device": args.device}


def add_score(parser: ArgumentParser, default: str) -> None:
    """The threshold, of all classes or of single ones."""
    parser.add_argument(
        "--score", type=scores, default=(None, {}), metavar="SCORE",
        help=f"least score (default: {default}); for single classes person=0.5,dog=0.4 or person=0.5,0.2 (0.2 for the "
        "others)",
    )  # fmt: skip


def threshold_of(given: Scores, ids: Iterable[int], default: float) -> float | dict[str | int, float]:
    """What `--score` means for `Detector.detect`: one number, or one for each of the classes `ids`."""
    rest, named = given
    score = default if rest is None else rest
    return dict[str | int, float](dict.fromkeys(ids, score), **named) if named else score


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def index(text: str) -> int:
    """A whole number from 0."""
    if not text.isascii() or not text.isdigit():
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def batch_range(text: str) -> tuple[int, int, int]:
    """4, or 1:4:8: the least, the best and the most pictures at once."""
    sizes = [positive(part) for part in text.split(":")]
    if len(sizes) not in (1, 3) or sizes != sorted(sizes):
        raise ArgumentTypeError(f"{text!r} is neither a number nor LEAST:BEST:MOST in this order, as in 1:4:8")
    return sizes[0], sizes[len(sizes) // 2], sizes[-1]


def seconds(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def duration(text: str) -> float:
    """Seconds above 0, from `90`, `90s`, `10m` or `1h`."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    try:
        return seconds(text[:-1] if unit else text) * (unit or 1)
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{text!r} is no time such as 90s, 10m or 1h") from None


def at_least_zero(text: str) -> float:
    """A finite number from 0."""
    return 0.0 if text in ("0", "0.0") else seconds(text)


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # NaN neither
        raise ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def words(text: str) -> list[str]:
    """The words between commas."""
    found = [word.strip() for word in text.split(",")]
    if not all(found):
        raise ArgumentTypeError(f"{text!r} has an empty word between its commas")
    return found


def scores(text: str) -> Scores:
    """`0.3`, `person=0.5,dog=0.4` or `person=0.5,0.2`."""
    rest, named = None, {}
    for word in words(text):
        name, equals, value = word.rpartition("=")
        if equals:
            named[name] = fraction(value)
        elif rest is None:
            rest = fraction(value)
        else:
            raise ArgumentTypeError(f"{text!r} has two numbers without a class")
    return rest, named

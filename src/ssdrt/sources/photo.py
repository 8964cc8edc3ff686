"""Photos: an encoded picture to RGB pixels, as a viewer shows it."""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ssdrt.errors import SourceError, shorten
from ssdrt.sources.base import MAX_PIXELS, Pixels, check_size, open_file, reason

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")  # what Pillow loads late stands last
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".webp")
)

DAMAGE = (OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError,
          RuntimeError, MemoryError, Warning, struct.error, zlib.error)  # fmt: skip
"""What Pillow raises on damaged files. Warning: when the caller's filters turn warnings into errors."""

EXIF_ORIENTATION = 0x0112
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""EXIF orientation -> Pillow's transposition that makes the picture upright."""


def read_photo(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Pixels:
    """Read a picture file: JPEG, PNG, GIF, BMP, PPM, TIFF or WebP; of several pages or frames the first.

    EXIF orientation is applied, grey becomes three equal channels, 16 bits keep their upper 8, CMYK is converted, and
    what an alpha channel makes transparent shows white.

    Returns
    -------
    (height, width, 3) uint8 RGB, possibly read-only.

    Raises
    ------
    SourceError: no regular file, no picture, damaged, or more than `max_pixels` pixels by its header.
    """
    with open_file(path) as file:
        return decode_photo(file, os.fspath(path), max_pixels)


def decode_photo(file: BinaryIO, name: str, max_pixels: int = MAX_PIXELS) -> Pixels:
    """`read_photo` of an open file; `name` is for the error."""
    from PIL import Image, UnidentifiedImageError

    if max_pixels > MAX_PIXELS:  # where Pillow itself refuses, for the whole process
        Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with Image.open(file, formats=FORMATS) as picture:
            check_size(picture.width, picture.height, max_pixels, name)
            picture.load()
            return _to_rgb(_upright(picture), name)
    except UnidentifiedImageError as error:
        raise SourceError(f"{shorten(name)!r} is not a picture that is read: {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise SourceError(f"{shorten(name)!r} is refused: {error}") from error
    except DAMAGE as error:
        raise SourceError(f"{shorten(name)!r} is damaged: {reason(error)}") from error


def _upright(picture: Image) -> Image:
    from PIL import Image

    try:
        turn = TURNS.get(picture.getexif().get(EXIF_ORIENTATION, 1))
    except DAMAGE:  # damaged EXIF data must not cost the picture
        return picture
    return picture if turn is None else picture.transpose(Image.Transpose[turn])


def _to_rgb(picture: Image, name: str) -> Pixels:
    if picture.mode == "RGB":
        return np.asarray(picture)
    if picture.mode == "F":
        raise SourceError(f"{shorten(name)!r} has floating-point pixels of unknown range; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):  # 16 bits: "I;16" and its byte orders, "I" from PGM and older Pillows
        grey = (np.asarray(picture).clip(0, 0xFFFF) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA"):
        return _on_white(picture.convert("RGBA"))
    return np.asarray(picture.convert("RGB"))


def _on_white(picture: Image) -> Pixels:
    from PIL import Image

    white = Image.new("RGB", picture.size, "white")
    white.paste(picture, mask=picture.getchannel("A"))
    return np.asarray(white)

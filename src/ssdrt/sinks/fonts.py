"""Fonts: letters of any script that the system has, beside Pillow's built-in ones."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

FONTS = ("NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf", "NotoSansCJK-Regular.ttc",
         "msyh.ttc", "malgun.ttf", "wqy-microhei.ttc", "DroidSansFallbackFull.ttf", "NotoSansArabic-Regular.ttf",
         "NotoSansDevanagari-Regular.ttf", "Nirmala.ttf", "FreeSans.ttf", "unifont.ttf")  # fmt: skip
"""Looked for among the system's fonts when a label has characters that Pillow's built-in font (ASCII) lacks."""

NOT_A_CHARACTER = "\U0010ffff"


@lru_cache(maxsize=1024)
def font_for(label: str, size: int) -> FreeTypeFont:
    """Pillow's built-in font, or that one of the system's `FONTS` that has the most characters of `label`.

    Parameters
    ----------
    size: in pixels.
    """
    built_in, *others = _fonts(size)
    if label.isascii():
        return built_in
    return min((built_in, *others), key=lambda font: _missing(font, label))


@lru_cache(maxsize=16)
def _fonts(size: int) -> tuple[FreeTypeFont, ...]:
    """The built-in font, and those of `FONTS` that this system has."""
    from PIL import ImageFont

    found = [cast("FreeTypeFont", ImageFont.load_default(size))]
    for name in FONTS:
        with suppress(OSError):  # not on this system
            found.append(ImageFont.truetype(name, size))
    return tuple(found)


def _missing(font: FreeTypeFont, text: str) -> int:
    """How many characters of `text` the font shows as its "no such character" box."""
    box = bytes(font.getmask(NOT_A_CHARACTER))
    return sum(bytes(font.getmask(character)) == box for character in text)

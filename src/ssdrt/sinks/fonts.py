"""Fonts: letters of any script that the system has, beside Pillow's built-in ones."""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

FONTS = ("NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf", "NotoSansCJK-Regular.ttc",
         "msyh.ttc", "malgun.ttf", "wqy-microhei.ttc", "DroidSansFallbackFull.ttf", "NotoSansArabic-Regular.ttf",
         "NotoSansHebrew-Regular.ttf", "NotoSansThai-Regular.ttf", "NotoSansDevanagari-Regular.ttf",
         "NotoSansBengali-Regular.ttf", "NotoSansTamil-Regular.ttf", "Nirmala.ttf", "FreeSans.ttf", "unifont.ttf",
         )  # fmt: skip
"""Looked for among the system's fonts when a text has characters that Pillow's built-in font (ASCII) lacks."""

NOT_A_CHARACTER = "\U0010ffff"
PROBE = 32  # pixels, at which it is looked whether a font has a letter


@lru_cache(maxsize=1024)
def font_for(text: str, size: int) -> FreeTypeFont:
    """Pillow's built-in font, or that one of the system's `FONTS` that has the most characters of `text`.

    Parameters
    ----------
    size: in pixels.
    """
    return _font(_best(text), size)


@lru_cache(maxsize=1024)
def runs_of(text: str, size: int) -> tuple[tuple[str, FreeTypeFont], ...]:
    """A text cut where its font changes, each part with its font.

    A word is in one font if there is one that has all of its letters; else each letter is in the first that has it.
    """
    runs = list[tuple[str, str]]()
    for word in re.findall(r"\s+|\S+", text):
        best = _best(word)
        for letters in word if _missing(best, word) else [word]:
            joins = runs and unicodedata.category(letters[0])[0] == "M"  # an accent stands on the letter before
            name = runs[-1][1] if joins else _best(letters)
            if len(runs) > 1 and runs[-2][1] == name and runs[-1][0].isspace():  # words of one script stay together
                letters = runs.pop()[0] + letters
            if runs and runs[-1][1] == name:
                letters = runs.pop()[0] + letters
            runs.append((letters, name))
    return tuple((letters, _font(name, size)) for letters, name in runs)


def text_length(text: str, size: int) -> float:
    """How many pixels wide a line of text is."""
    return sum(font.getlength(part) for part, font in runs_of(text, size))


def draw_text(draw: ImageDraw, left: float, middle: float, text: str, size: int, fill: Any) -> None:
    """Draw a line of text; `middle` is half-way between the heights of its first font."""
    runs = runs_of(text, size)
    if len(runs) == 1:
        draw.text((left, middle), text, fill=fill, font=runs[0][1], anchor="lm")
        return
    ascent, descent = _font("", size).getmetrics()
    for part, font in runs:
        draw.text((left, middle + (ascent - descent) / 2), part, fill=fill, font=font, anchor="ls")
        left += font.getlength(part)


def _best(text: str) -> str:
    """The first of the fonts with the fewest characters of `text` missing; "" is the built-in one."""
    if text.isascii():
        return ""
    return min(("", *_installed()), key=lambda name: _missing(name, text))


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    """Those of `FONTS` that this system has."""
    found = []
    for name in FONTS:
        with suppress(OSError):  # not on this system
            _font(name, PROBE)
            found.append(name)
    return tuple(found)


@lru_cache(maxsize=256)
def _font(name: str, size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(name, size) if name else cast("FreeTypeFont", ImageFont.load_default(size))


def _missing(name: str, text: str) -> int:
    """How many characters of `text` the font shows as its "no such character" box."""
    return sum(not _has(name, character) for character in text)


@lru_cache(maxsize=4096)
def _has(name: str, character: str) -> bool:
    font = _font(name, PROBE)
    return bytes(font.getmask(character)) != bytes(font.getmask(NOT_A_CHARACTER))

"""A window to draw in, through SDL: pictures and labels are textures, scaled and blended by the graphics card."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import SinkError, import_extra
from ssdrt.sinks.draw import Colour, Rect
from ssdrt.sinks.fonts import font_for
from ssdrt.sources.base import Pixels

WHITE = (235, 239, 243)
MOST_STAMPS = 512  # textures that are kept
SHARE_OF_DISPLAY = 0.85  # that a new window may take


class Screen:
    """One window; all of it from one thread, on macOS the main one."""

    def __init__(self, title: str) -> None:
        """Open the window.

        Raises
        ------
        SinkError: there is no display.
        MissingExtra: PySDL2 is not installed.
        """
        with warnings.catch_warnings():  # it tells whose SDL it took
            warnings.simplefilter("ignore", UserWarning)
            self._sdl: Any = import_extra("sdl2", "window", "a window")
        sdl = self._sdl
        sdl.SDL_SetHint(sdl.SDL_HINT_NO_SIGNAL_HANDLERS, b"1")
        if sys.platform == "linux":  # else SDL at last opens a window that nobody can see
            wayland = b"wayland," * bool(os.environ.get("WAYLAND_DISPLAY"))
            sdl.SDL_SetHint(b"SDL_VIDEODRIVER", b"x11," + wayland + b"KMSDRM")
        if sdl.SDL_InitSubSystem(sdl.SDL_INIT_VIDEO) != 0:
            reason = sdl.SDL_GetError().decode("utf-8", "replace")
            raise SinkError(
                f"there is no display for a window here ({reason}); --web 8080 shows the same in a browser, "
                "-o records it"
            )
        sdl.SDL_SetHint(sdl.SDL_HINT_RENDER_SCALE_QUALITY, b"linear")
        sdl.SDL_EnableScreenSaver()
        flags = sdl.SDL_WINDOW_RESIZABLE | sdl.SDL_WINDOW_ALLOW_HIGHDPI
        centred = sdl.SDL_WINDOWPOS_CENTERED
        self._window = sdl.SDL_CreateWindow(title.encode(), centred, centred, 960, 540, flags)
        self._renderer = sdl.SDL_CreateRenderer(self._window, -1, 0)
        if not self._renderer:
            reason = sdl.SDL_GetError().decode("utf-8", "replace")
            self.close()
            raise SinkError(f"a window cannot be drawn in here ({reason}); --web 8080 shows the same in a browser")
        sdl.SDL_SetRenderDrawBlendMode(self._renderer, sdl.SDL_BLENDMODE_BLEND)
        self._pictures: dict[object, tuple[Any, tuple[int, ...], Pixels]] = {}
        self._stamps: dict[int, tuple[Any, NDArray[np.uint8]]] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what can be drawn in, in pixels."""
        width, height = ctypes.c_int(), ctypes.c_int()
        self._sdl.SDL_GetRendererOutputSize(self._renderer, ctypes.byref(width), ctypes.byref(height))
        return max(1, width.value), max(1, height.value)

    def fit(self, width: int, height: int) -> None:
        """Give the window the shape of a picture, about as large as the display allows."""
        bounds = self._sdl.SDL_Rect()
        self._sdl.SDL_GetDisplayUsableBounds(self._sdl.SDL_GetWindowDisplayIndex(self._window), bounds)
        scale = SHARE_OF_DISPLAY * min(bounds.w / width, bounds.h / height)
        self._sdl.SDL_SetWindowSize(self._window, round(width * scale), round(height * scale))
        self._sdl.SDL_SetWindowPosition(self._window, *[self._sdl.SDL_WINDOWPOS_CENTERED] * 2)

    def events(self) -> Iterator[str]:
        """What happened since the last call: "quit", "changed" for a new size, or the name of a key in lower case."""
        event = self._sdl.SDL_Event()
        while self._sdl.SDL_PollEvent(ctypes.byref(event)):
            if event.type == self._sdl.SDL_QUIT:
                yield "quit"
            elif event.type == self._sdl.SDL_WINDOWEVENT:
                yield "changed"
            elif event.type == self._sdl.SDL_KEYDOWN:
                yield self._sdl.SDL_GetKeyName(event.key.keysym.sym).decode().lower()

    def toggle_full_screen(self) -> None:
        """To the whole display, and back."""
        full = self._sdl.SDL_WINDOW_FULLSCREEN_DESKTOP
        now = self._sdl.SDL_GetWindowFlags(self._window) & full
        self._sdl.SDL_SetWindowFullscreen(self._window, 0 if now else full)

    def clear(self) -> None:
        """Begin anew with black."""
        if len(self._stamps) > MOST_STAMPS:
            for texture, _ in self._stamps.values():
                self._sdl.SDL_DestroyTexture(texture)
            self._stamps.clear()
        self._sdl.SDL_SetRenderDrawColor(self._renderer, 0, 0, 0, 255)
        self._sdl.SDL_RenderClear(self._renderer)

    def picture(self, key: object, image: Pixels, rect: Rect) -> None:
        """Draw a picture scaled to a rectangle; the card gets it once, as long as it is the newest of its key.

        Parameters
        ----------
        image: (height, width, 3) uint8 RGB.
        """
        texture, shape, last = self._pictures.get(key, (None, (), None))
        if shape != image.shape:
            if texture is not None:
                self._sdl.SDL_DestroyTexture(texture)
            sdl, (height, width) = self._sdl, image.shape[:2]
            how = sdl.SDL_PIXELFORMAT_RGB24, sdl.SDL_TEXTUREACCESS_STREAMING
            texture = sdl.SDL_CreateTexture(self._renderer, *how, width, height)
        if last is not image:
            pixels = np.ascontiguousarray(image)
            self._sdl.SDL_UpdateTexture(texture, None, pixels.ctypes.data, pixels.strides[0])
            self._pictures[key] = texture, image.shape, image
        self._sdl.SDL_RenderCopy(self._renderer, texture, None, self._rect(rect))

    def fill(self, rect: Rect, colour: Colour, alpha: int = 255) -> None:
        """A rectangle of one colour."""
        self._sdl.SDL_SetRenderDrawColor(self._renderer, *colour, alpha)
        self._sdl.SDL_RenderFillRect(self._renderer, self._rect(rect))

    def frame(self, rect: Rect, colour: Colour, line: int) -> None:
        """The sides of a rectangle, inside it."""
        x0, y0, x1, y1 = rect
        if min(x1 - x0, y1 - y0) <= 2 * line:
            self.fill(rect, colour)
            return
        self.fill((x0, y0, x1, y0 + line), colour)
        self.fill((x0, y1 - line, x1, y1), colour)
        self.fill((x0, y0 + line, x0 + line, y1 - line), colour)
        self.fill((x1 - line, y0 + line, x1, y1 - line), colour)

    def stamp(self, left: int, top: int, image: NDArray[np.uint8]) -> None:
        """A small picture, pixel for pixel; the same array is handed to the card once.

        Parameters
        ----------
        image: (height, width, 3) uint8 RGB, or (height, width, 4) RGBA.
        """
        height, width, channels = image.shape
        if id(image) not in self._stamps:
            sdl, pixels = self._sdl, np.ascontiguousarray(image)
            kind = sdl.SDL_PIXELFORMAT_RGB24 if channels == 3 else sdl.SDL_PIXELFORMAT_RGBA32
            texture = sdl.SDL_CreateTexture(self._renderer, kind, sdl.SDL_TEXTUREACCESS_STATIC, width, height)
            sdl.SDL_UpdateTexture(texture, None, pixels.ctypes.data, pixels.strides[0])
            sdl.SDL_SetTextureBlendMode(texture, sdl.SDL_BLENDMODE_BLEND)
            self._stamps[id(image)] = texture, image  # kept, so that the id stays its own
        where = self._rect((left, top, left + width, top + height))
        self._sdl.SDL_RenderCopy(self._renderer, self._stamps[id(image)][0], None, where)

    def present(self) -> None:
        """Show what was drawn."""
        self._sdl.SDL_RenderPresent(self._renderer)

    def close(self) -> None:
        """Close the window; its textures go with it."""
        if getattr(self, "_renderer", None):
            self._sdl.SDL_DestroyRenderer(self._renderer)
        self._sdl.SDL_DestroyWindow(self._window)
        self._sdl.SDL_QuitSubSystem(self._sdl.SDL_INIT_VIDEO)

    def _rect(self, rect: Rect) -> Any:
        x0, y0, x1, y1 = rect
        return self._sdl.SDL_Rect(x0, y0, x1 - x0, y1 - y0)


@lru_cache(maxsize=128)
def text_image(text: str, size: int, colour: Colour = WHITE, ground: int = 215) -> NDArray[np.uint8]:
    """(height, width, 4) uint8 RGBA: lines of text on a dark plate with round corners.

    Parameters
    ----------
    size: of the letters, in pixels. ground: how dense the plate is, 0..255.
    """
    from PIL import Image, ImageDraw

    font, margin = font_for(text, size), round(size * 0.55)
    measure = ImageDraw.Draw(Image.new("L", (1, 1)))
    box = measure.multiline_textbbox((0, 0), text, font, spacing=size * 0.3)
    width, height = round(box[2]) + 2 * margin, round(box[3] + size * 0.1) + 2 * round(margin * 0.7)
    plate = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(plate)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), size * 0.4, (10, 13, 16, ground))
    letters = Image.new("L", plate.size)
    place = (margin, round(margin * 0.6))
    ImageDraw.Draw(letters).multiline_text(place, text, 255, font, spacing=size * 0.3)
    over = Image.new("RGBA", plate.size, (*colour, 0))
    over.putalpha(letters)
    return np.asarray(Image.alpha_composite(plate, over))

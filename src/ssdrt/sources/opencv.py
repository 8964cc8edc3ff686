"""Video files through OpenCV, where it is installed and PyAV is not: every frame in order, upright, with its time.

It does less: what cannot be decoded is left out without a word, colours are converted without regard to what the file
says of them, and times count from the first frame, whatever the container calls it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import numpy as np

from ssdrt.errors import SourceError, import_extra, shorten
from ssdrt.sources.base import Item, Pixels, check_regular, check_size


def is_needed() -> bool:
    """Whether there is OpenCV, but no PyAV."""
    return importlib.util.find_spec("av") is None and importlib.util.find_spec("cv2") is not None


def count_frames(path: str) -> int | None:
    """How many frames the container says it has, or its duration and rate suggest; None when it does not tell.

    Raises
    ------
    SourceError: as `read_video`.
    """
    with _open(path) as (cv2, capture):
        count = round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return count if count > 0 else None


def read_video(path: str, max_pixels: int) -> Iterator[Item]:
    """Yield every frame of the first video stream, as `video.read_video`.

    Raises
    ------
    SourceError: no regular file, no video that can be read, no frame in it, or one of more than `max_pixels` pixels.
    """
    logging.getLogger("ssdrt").warning(
        "PyAV is not installed, so OpenCV reads %r: damaged frames are not counted; pip install 'ssdrt[video]'", path
    )
    with _open(path) as (cv2, capture):
        check_size(
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), max_pixels, path
        )
        index = 0
        while True:
            there, image_bgr = capture.read()
            if not there:
                break
            yield Item(path, index, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, partial(_to_rgb, image_bgr))
            index += 1
    if not index:
        raise SourceError(f"{shorten(path)!r} holds no video frame")


def _to_rgb(image_bgr: Pixels) -> Pixels:
    return np.ascontiguousarray(image_bgr[:, :, ::-1])


@contextmanager
def _open(path: str) -> Iterator[tuple[Any, Any]]:
    cv2 = import_extra("cv2", "video", "reading a video")
    check_regular(path)
    capture = cast("Any", cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG))
    try:
        if not capture.isOpened():
            raise SourceError(f"{shorten(path)!r} cannot be read as a video")
        yield cv2, capture
    finally:
        capture.release()

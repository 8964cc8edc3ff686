"""Annotated video, through PyAV: the frames of one source, their detections drawn in, at its time stamps; no sound."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ssdrt.detections import Detections
from ssdrt.errors import SinkError, import_extra, shorten
from ssdrt.sinks.base import keep_input
from ssdrt.sinks.draw import annotate
from ssdrt.sources.base import Frame

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Suffix -> FFmpeg's name of the container; those that keep a time stamp for every frame."""

CODECS = {
    "libx264": {"crf": "20", "preset": "veryfast"},
    "mpeg4": {"flags": "+qscale", "global_quality": "354"},  # 3 * FF_QP2LAMBDA: about the quality of the above
}
"""Encoder -> its options; the first that PyAV was built with is taken."""

TIME_BASE = Fraction(
    1, 60_000
)  # seconds; exact for 24, 25, 30, 30/1.001, 60 Hz and 1 ms, and mpeg4 allows 65535 at most
BT709 = 1  # AVCOL_SPC_BT709


class AnnotatedVideo:
    """Writes to PATH.part, and gives the video its name when it is closed, however far it got by then.

    Frames of another size than the first, or of odd width or height, which the codecs do not have, are scaled.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._part = Path(f"{path}.part")
        self._av = import_extra("av", "video", "writing a video")
        self._failures = (self._av.FFmpegError, OSError, ValueError)
        self._source: str | None = None
        self._last = -1
        self._container: OutputContainer
        self._stream: VideoStream

    def write(self, frame: Frame, found: Detections) -> None:
        """Encode one frame.

        Raises
        ------
        SinkError: a photo, a frame of a second video, or it cannot be written; then nothing of the output stays.
        """
        if frame.time is None or self._source not in (None, frame.source):
            raise SinkError(f"{shorten(str(self._path))!r} holds one video; for photos or more videos give a folder")
        try:
            if self._source is None:
                keep_input(frame, self._path)
                self._start(frame)
            self._encode(frame, found, frame.time)
        except self._failures as error:
            self._give_up(error)

    def close(self) -> None:
        """Finish the video; without a single frame there is none."""
        if self._source is None:
            return
        self._source = None
        if self._last < 0:  # interrupted before the first frame was encoded
            self._discard()
            return
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._part.replace(self._path)
        except self._failures as error:
            self._give_up(error)

    def _start(self, frame: Frame) -> None:
        codec = next(name for name in CODECS if name in self._av.codecs_available)
        self._container = self._av.open(str(self._part), "w", format=FORMATS[self._path.suffix.lower()])
        self._source = frame.source
        self._stream = cast("VideoStream", self._container.add_stream(codec, options=CODECS[codec]))
        height, width = frame.image.shape[:2]
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.codec_context.time_base = TIME_BASE
        self._stream.codec_context.colorspace = BT709

    def _encode(self, frame: Frame, found: Detections, time: float) -> None:
        picture = self._av.VideoFrame.from_ndarray(annotate(frame.image, found), format="rgb24").reformat(
            self._stream.width, self._stream.height, "yuv420p", dst_colorspace="ITU709"
        )
        self._last = max(round(time / TIME_BASE), self._last + 1)  # muxers refuse time that stands still
        picture.pts, picture.time_base = self._last, TIME_BASE
        self._container.mux(self._stream.encode(picture))

    def _discard(self) -> None:
        with suppress(*self._failures):
            self._container.close()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)

    def _give_up(self, error: Exception) -> None:
        self._source = None
        self._discard()
        message = getattr(error, "strerror", None) or error
        raise SinkError(f"{shorten(str(self._path))!r} cannot be written: {message}") from error

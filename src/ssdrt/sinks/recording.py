"""One video file being written, through PyAV: whole, or playable as far as it got, or not there at all.

An mp4 or mov is written as fragments of a second, each of which is complete on disk when it is written; finishing turns
it into an ordinary file (FFmpeg's hybrid_fragmented). A mkv is a row of such pieces by nature.
"""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from ssdrt.errors import SinkError, import_extra, shorten
from ssdrt.sources.base import Pixels

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Suffix -> FFmpeg's name of the container; those that keep a time stamp for every frame."""

PIECE = 1_000_000  # microseconds of video at most that a killed process takes with it, beside those in the encoder
FRAGMENTS = {"movflags": "delay_moov+default_base_moof", "frag_duration": f"{PIECE}"}
CONTAINER_OPTIONS = {"mp4": FRAGMENTS, "mov": FRAGMENTS, "matroska": {"cluster_time_limit": f"{PIECE // 1000}"}}
HYBRID = {"movflags": "hybrid_fragmented+delay_moov"}
HYBRID_SINCE = (62, 12)
"""libavformat of FFmpeg 8.1. Before, hybrid_fragmented writes broken files with delay_moov, and without it loses where
the first frame begins; there an mp4 stays in fragments, which most players take."""

CODECS = {
    "libx264": {"crf": "20", "preset": "veryfast", "bf": "0"},
    "mpeg4": {"flags": "+qscale", "global_quality": "354"},  # 3 * FF_QP2LAMBDA: about the quality of the above
}
"""Encoder -> its options; the first that PyAV was built with is taken. No B frames: with them, and some counts of
frames, FFmpeg 8.1 writes files whose last frame readers leave out; without, files are a fifth larger."""

TIME_BASE = Fraction(
    1, 60_000
)  # seconds; exact for 24, 25, 30, 30/1.001, 60 Hz and 1 ms, and mpeg4 allows 65535 at most
BT709 = 1  # AVCOL_SPC_BT709


class Recording:
    """Frames become PATH.part, which gets its own name when it is finished.

    PATH.part appears with its first second of video, and plays from then on, whatever becomes of this process. If the
    disk is full, what is there gets the name. Frames of another size than the first, or of odd width or height, which
    the codecs do not have, are scaled.
    """

    def __init__(self, path: Path) -> None:
        self._av = import_extra("av", "video", "writing a video")
        self._failures = (self._av.FFmpegError, OSError, ValueError)
        self._path = path
        self._file = _PartFile(path.with_name(f"{path.name}.part"))
        self._last = -1
        self._container: OutputContainer | None = None
        self._stream: VideoStream

    def add(self, image: Pixels, seconds: float) -> None:
        """Encode a frame, (height, width, 3) uint8 RGB, with its time stamp, which must be above the last one's.

        Raises
        ------
        SinkError: it cannot be written; what was before has been finished.
        """
        try:
            if self._container is None:
                self._container = self._open(*image.shape[:2])
            picture = self._av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                self._stream.width, self._stream.height, "yuv420p", dst_colorspace="ITU709"
            )
            self._last = max(round(seconds / TIME_BASE), self._last + 1)  # muxers refuse time that stands still
            picture.pts, picture.time_base = self._last, TIME_BASE
            self._container.mux(self._stream.encode(picture))
            self._file.commit()
        except self._failures as error:
            self._give_up(error)

    def finish(self) -> None:
        """Make it a whole file; without a frame there is none.

        Raises
        ------
        SinkError: it cannot be written to its end; what was before has been finished.
        """
        if self._container is None:
            return
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._container = None
            self._file.commit(whole=True)
            self._file.path.replace(self._path)
        except self._failures as error:
            self._give_up(error)

    def _open(self, height: int, width: int) -> OutputContainer:
        codec = next(name for name in CODECS if name in self._av.codecs_available)
        name = FORMATS[self._path.suffix.lower()]
        options = {**CONTAINER_OPTIONS[name], "fflags": "flush_packets"}
        if "movflags" in options and self._av.library_versions["libavformat"] >= HYBRID_SINCE:
            options |= HYBRID
        container = cast("OutputContainer", self._av.open(self._file, "w", format=name, options=options))
        self._stream = cast("VideoStream", container.add_stream(codec, options=CODECS[codec]))
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.thread_type = "FRAME"  # PyAV's default, slices, takes a tenth longer
        self._stream.codec_context.time_base = TIME_BASE
        self._stream.codec_context.colorspace = BT709
        return container

    def _give_up(self, error: Exception) -> None:
        """Save what is there and say what happened."""
        kept = self._file.abandon()
        with suppress(*self._failures):
            if self._container is not None:
                self._container.close()  # only memory: the file takes nothing more
        self._container = None
        with suppress(OSError):
            if kept:
                self._file.path.replace(self._path)
        message = getattr(error, "strerror", None) or error
        kept_text = "; what was written before is kept" if kept else ""
        raise SinkError(f"{shorten(str(self._path))!r} cannot be written: {message}{kept_text}") from error


class _PartFile:
    """What the container writes into: in memory until it can be played, then on disk.

    FFmpeg calls `write`, `seek` and `tell`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: bytearray | None = bytearray()
        self._file: BinaryIO | None = None
        self._at = self._size = self._header = self._good = 0
        self._abandoned = False

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        if self._held is not None:
            self._held[self._at : self._at + len(view)] = view
        elif self._file is not None and not self._abandoned:
            self._write_to_disk(view)
        self._at += len(view)
        self._size = max(self._size, self._at)
        return len(view)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        if self._file is not None:
            self._file.seek(self._at)
        return self._at

    def tell(self) -> int:
        return self._at

    def commit(self, whole: bool = False) -> None:
        """What was written so far can be played as it is; the first that is written is a header alone."""
        self._header = self._header or self._size
        if self._held is not None and (whole or self._size > self._header):
            self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115
            held, self._held = self._held, None
            self._write_to_disk(memoryview(held))
        if self._held is None:
            self._good = self._size
        if whole and self._file is not None:
            self._file.close()

    def abandon(self) -> bool:
        """Go back to the last commit and take nothing more; whether anything is left."""
        self._abandoned = True
        if self._file is None:
            return False
        with suppress(OSError, ValueError):  # ValueError: closed already
            self._file.truncate(self._good)
        self._file.close()
        if not self._good:
            with suppress(OSError):
                self.path.unlink()
        self._file = None
        return self._good > 0

    def _write_to_disk(self, view: memoryview) -> None:
        assert self._file is not None
        while view:
            view = view[self._file.write(view) :]

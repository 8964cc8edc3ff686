"""Annotated pictures: one file, or a folder in which every input is found again under its name."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from ssdrt.detections import Detections
from ssdrt.errors import SinkError, shorten
from ssdrt.sinks.base import Stems, keep_input, whole_file
from ssdrt.sinks.overlay import annotate_all
from ssdrt.sinks.video import AnnotatedVideo
from ssdrt.sources.base import Frame

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Suffix -> Pillow's name of the format."""


class AnnotatedPicture:
    """Writes the one picture of a run, its detections drawn in."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._written = False

    def write(self, frame: Frame, found: Detections) -> None:
        """Write the picture.

        Raises
        ------
        SinkError: it is the second one, or cannot be written.
        """
        if self._written:
            raise SinkError(f"{str(self._path)!r} holds one picture and there are more; give a folder as output")
        self._written = True
        save_annotated(self._path, frame, found)

    def close(self) -> None:
        """Nothing is left to do."""


class AnnotatedFolder:
    """Writes every photo as STEM.SUFFIX, and every video as STEM.mp4, their detections drawn in."""

    def __init__(self, folder: str, segment: float | None = None, together: int = 1) -> None:
        """Use a folder that is there.

        Parameters
        ----------
        segment: as for `AnnotatedVideo`.
        together: how many videos come frame by frame in turns, as those of cameras do; a video is finished when so
            many others had frames after its last.
        """
        self._folder, self._segment, self._together = Path(folder), segment, together
        self._stems = Stems()
        self._videos: dict[str, AnnotatedVideo] = {}  # of a source, the one that waited longest first

    def write(self, frame: Frame, found: Detections) -> None:
        """Write one photo, or one frame to the video of its source."""
        if frame.time is None:
            suffix = Path(frame.source).suffix.lower()
            name = self._stems.of(frame) + (suffix if suffix in FORMATS else ".png")
            save_annotated(self._folder / name, frame, found)
            return
        video = self._videos.pop(frame.source, None)
        if video is None:
            while len(self._videos) >= self._together:
                self._videos.pop(next(iter(self._videos))).close()
            still = Frame(frame.image, frame.source, 0, None)
            path = self._folder / f"{self._stems.of(still)}.mp4"
            video = AnnotatedVideo(str(path), self._segment)
        self._videos[frame.source] = video
        video.write(frame, found)

    def close(self) -> None:
        """Finish the videos that are being written."""
        with ExitStack() as stack:
            for video in self._videos.values():
                stack.callback(video.close)
            self._videos = {}


def save_annotated(path: Path, frame: Frame, found: Detections) -> None:
    """Draw and save one picture, in the format that the suffix of `path` names.

    Raises
    ------
    SinkError: `path` is the input itself, or cannot be written.
    """
    from PIL import Image

    keep_input(frame, path)
    with whole_file(path) as file:
        try:
            Image.fromarray(annotate_all(frame.image, found)).save(file, FORMATS[path.suffix.lower()], quality=92)
        except ValueError as error:  # larger than the format allows
            raise SinkError(f"{shorten(str(path))!r} cannot be written: {error}") from error

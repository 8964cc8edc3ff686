"""JPEG files decoded on the GPU, by NVIDIA's nvImageCodec and the nvJPEG below it."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import EngineError, import_extra

MOST_PIXELS = 1 << 25
"""Of a picture that is decoded on the GPU: 96 MiB there."""

BEGIN, END = b"\xff\xd8\xff", b"\xff\xd9"
ADOBE = b"\xff\xee\0\x0eAdobe"
RGB = b"\x03R\x11\0G\x11\0B\x11\0"
"""How a file's frame begins its list of components that are not luminance and two colours, without Adobe's marker."""


class JpegDecoder:
    """Decodes JPEG files into pictures on a GPU. Any number of threads may use one; they decode in turns."""

    def __init__(self, gpu: int = 0) -> None:
        """On the GPU of that index.

        Raises
        ------
        MissingExtra: nvImageCodec is not installed. EngineError: it does not run here, or finds no nvJPEG.
        """
        self._library = library = open_library()
        kinds = library.BackendKind
        backends = [library.Backend(kind) for kind in (kinds.HW_GPU_ONLY, kinds.GPU_ONLY, kinds.HYBRID_CPU_GPU)]
        try:
            with _quiet():
                self._decoder = library.Decoder(device_id=gpu, backends=backends)
        except RuntimeError as error:
            raise EngineError(f"nvImageCodec cannot decode pictures here: {error}") from error
        self._lock = threading.Lock()
        if self.decode([_sample()])[0] is None:
            raise EngineError("nvImageCodec decodes no JPEG on this GPU; has it nvJPEG? pip install 'ssdrt[nvjpeg]'")

    def decode(self, files: Sequence[bytes], max_pixels: int = MOST_PIXELS) -> list[Any | None]:
        """Pictures in the GPU's memory, upright, for `CudaEngine.detect`.

        Parameters
        ----------
        max_pixels: width * height of the largest picture that is decoded, at most MOST_PIXELS.

        Returns
        -------
        for each file what shows (height, width, 3) uint8 RGB by DLPack and `__cuda_array_interface__`; None for what is
        left to the processor: other formats, cut-off and damaged files, CMYK and RGB JPEGs, larger pictures.
        """
        streams = [header(self._library, file, min(max_pixels, MOST_PIXELS)) for file in files]
        taken = [stream for stream in streams if stream is not None]
        try:
            with self._lock:
                decoded = iter(self._decoder.decode(taken) if taken else [])
        except RuntimeError:  # of the whole call, as when the GPU is full
            return [None] * len(files)
        return [None if stream is None else _whole(next(decoded)) for stream in streams]

    def fetch(self, picture: Any) -> NDArray[np.uint8]:
        """A copy of a decoded picture in this machine's memory.

        Raises
        ------
        EngineError: the GPU or the host's page-locked memory fails.
        """
        try:
            return np.asarray(picture.cpu())
        except RuntimeError as error:
            raise EngineError(f"a picture cannot be copied from the GPU: {error}") from error


def header(library: ModuleType, file: bytes, max_pixels: int) -> Any | None:
    """A file as the library's `CodeStream`, where it can be expected to decode it as Pillow does."""
    if not file.startswith(BEGIN) or not file.endswith(END):  # without an end, nvJPEG makes up the rest
        return None
    adobe = file.find(ADOBE)
    if (adobe >= 0 and file[adobe + 15 : adobe + 16] == b"\0") or RGB in file:
        return None
    try:
        stream = library.CodeStream(file)
        usual = stream.codec_name == "jpeg" and stream.num_channels in (1, 3) and stream.precision == 8
        return stream if usual and 0 < stream.height * stream.width <= max_pixels else None
    except RuntimeError:  # it reads the header when it is first asked
        return None


def _whole(picture: Any | None) -> Any | None:
    return picture if picture is not None and picture.ndim == 3 and picture.shape[2] == 3 else None


def open_library() -> ModuleType:
    """nvImageCodec.

    Raises
    ------
    MissingExtra: it is not installed.
    """
    os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")  # what it cannot decode, Pillow says better
    with _quiet():
        return import_extra("nvidia.nvimgcodec", "nvjpeg", "decoding on the GPU")


@contextmanager
def _quiet() -> Iterator[None]:
    """While it lasts, nothing reaches standard error, where the library complains that it has no JPEG 2000."""
    try:
        kept = os.dup(2)
    except OSError:  # it was closed
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _sample() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    return file.getvalue()

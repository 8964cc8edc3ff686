"""JPEG files for the GPU: which of them, in silence; what it makes of them where there is one with nvJPEG."""

import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from engines.cuda.gpu import WHY_NOT, needs_gpu
from ssdrt.demo import demo_picture
from ssdrt.detector import Detector
from ssdrt.engines import cuda
from ssdrt.engines.cuda import jpeg
from ssdrt.errors import EngineError
from ssdrt.pipeline import graph_parameters
from ssdrt.sources import open_source
from ssdrt.sources.photo import decode_photo
from tiny_ssd import tiny_ssd

pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed (extra nvjpeg)")


def jpeg_file(size=(120, 90), mode="RGB", orientation=1, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(demo_picture()).resize(size).convert(mode).save(file, "JPEG", exif=exif, **options)
    return file.getvalue()


TAKEN = {
    "420": jpeg_file(),
    "422": jpeg_file(subsampling=1),
    "444": jpeg_file(subsampling=0, quality=95),
    "odd": jpeg_file((121, 87)),
    "progressive": jpeg_file(progressive=True),
    "restarts": jpeg_file(restart_marker_blocks=3),
    "grey": jpeg_file(mode="L"),
    **{f"orientation {turn}": jpeg_file((121, 87), orientation=turn) for turn in range(2, 9)},
}


def png_file():
    file = io.BytesIO()
    Image.fromarray(demo_picture()).save(file, "PNG")
    return file.getvalue()


LEFT = {
    "cmyk": jpeg_file(mode="CMYK"),
    "rgb": jpeg_file(keep_rgb=True),
    "png": png_file(),
    "cut off": jpeg_file((300, 200))[:3000],
    "no header": b"\xff\xd8\xff\xe0" + bytes(100) + b"\xff\xd9",
    "text": b"no picture",
    "nothing": b"",
    "large": jpeg_file((300, 200)),
}
MOST = 150 * 150


def test_only_files_are_taken_that_pillow_decodes_alike():
    library = jpeg.open_library()
    for name, file in TAKEN.items():
        header = jpeg.header(library, file, MOST)
        assert header is not None, name
        assert header.height * header.width == np.prod(decode_photo(io.BytesIO(file), name).shape[:2])
    assert [name for name, file in LEFT.items() if jpeg.header(library, file, MOST) is not None] == []
    assert jpeg.header(library, LEFT["large"], 300 * 200) is not None


@pytest.mark.parametrize(("before", "heard"), [("", "heard"), ("import os; os.close(2)", "")])
def test_the_library_says_nothing(before, heard):
    program = f"""{before}
import sys
from ssdrt.engines.cuda import jpeg
library = jpeg.open_library()
assert jpeg.header(library, b"\\xff\\xd8\\xff" + bytes(90) + b"\\xff\\xd9", 100) is None
if {heard!r}:
    print({heard!r}, end="", file=sys.stderr)
print("done")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", heard)


@pytest.mark.skipif(WHY_NOT is None, reason="there is a GPU here")
def test_without_a_gpu_it_says_so():
    with pytest.raises(EngineError, match="nvImageCodec cannot decode pictures here"):
        jpeg.JpegDecoder()


@pytest.fixture(scope="module")
def decoder():
    return cuda.decoder()


@needs_gpu
def test_pixels_are_nearly_pillows(decoder):
    decoded = dict(zip(TAKEN, decoder.decode(list(TAKEN.values()), MOST), strict=True))
    assert [name for name, picture in decoded.items() if picture is None] == []
    for name, picture in decoded.items():
        found, wanted = decoder.fetch(picture).astype(int), decode_photo(io.BytesIO(TAKEN[name]), name).astype(int)
        assert found.shape == wanted.shape == picture.shape, name
        assert np.abs(found - wanted).mean() < 1, name


@needs_gpu
def test_the_rest_is_left_to_the_processor(decoder):
    mixed = [*LEFT.values(), TAKEN["420"], b"\xff\xd8\xff", TAKEN["grey"]]
    assert [picture is None for picture in decoder.decode(mixed, MOST)] == [True] * len(LEFT) + [False, True, False]
    assert decoder.decode([], MOST) == []
    damaged = bytearray(jpeg_file((149, 149), quality=95))
    damaged[3000:3400] = bytes(400)
    for picture in decoder.decode([bytes(damaged)] * 3, MOST):  # decoded or not, what comes behind is right
        assert picture is None or picture.shape == (149, 149, 3)
    assert None not in decoder.decode(list(TAKEN.values()), MOST)


@needs_gpu
def test_pictures_of_any_sizes_are_detected_in_at_once(decoder):
    model = tiny_ssd()
    engine = cuda.load(model, cuda.build(model, "fp16"), "fp16", 1)
    parameters = replace(graph_parameters(model), score_threshold=0.05)
    pictures = decoder.decode([*TAKEN.values()] * 20, MOST)
    found = engine.detect(pictures, parameters)
    assert len(found) == len(pictures) > 256
    for one, wanted in zip(found, engine.detect([decoder.fetch(one) for one in pictures], parameters), strict=True):
        for value, other in zip(one, wanted, strict=True):
            np.testing.assert_array_equal(value, other)
    engine.close()


@needs_gpu
def test_a_folder_is_detected_in_as_its_pictures_are(tmp_path):
    for index, (name, file) in enumerate([*TAKEN.items(), *LEFT.items()]):
        (tmp_path / f"{index:02} {name}.jpg").write_bytes(file)
    with Detector.of_model(tiny_ssd(), "cuda") as detector:
        outcomes = list(detector.detect_files(open_source(str(tmp_path)).items, MOST, score_threshold=0.05))
        usual = list(detector.detect_items(open_source(str(tmp_path)).items, score_threshold=0.05))
        assert [one.item.source for one in outcomes] == [one.item.source for one in usual]
        assert [str(one.error) for one in outcomes] == [str(one.error) for one in usual]
        for one in outcomes:
            if one.error is None:
                wanted = detector.detect(one.frame.image, score_threshold=0.05)
                np.testing.assert_array_equal(one.found.boxes_xyxy, wanted.boxes_xyxy)
                np.testing.assert_array_equal(one.found.scores, wanted.scores)

"""Photos: every format and mode as a viewer shows it, and no damaged file that does more than raise SourceError."""

import io
import os
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from ssdrt.errors import SourceError
from ssdrt.sources.photo import TURNS, decode_photo, read_photo

PIXELS = np.random.default_rng(7).integers(0, 256, (24, 36, 3), dtype=np.uint8)


def encoded(picture, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def decoded(data: bytes, **options):
    return decode_photo(io.BytesIO(data), "test", **options)


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("PPM", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_lossless_formats_give_the_same_pixels(kind, options):
    image = decoded(encoded(Image.fromarray(PIXELS), kind, **options))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, PIXELS)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [(kind, mode) for kind in ("PNG", "JPEG", "GIF", "TIFF") for mode in ("L", "1")]
    + [("PNG", "P"), ("GIF", "P"), ("TIFF", "P"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("TIFF", "CMYK")],
)
def test_opaque_modes_are_what_pillow_converts(kind, mode):
    data = encoded(Image.fromarray(PIXELS).convert(mode), kind)
    np.testing.assert_array_equal(decoded(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, *TURNS])
def test_exif_orientation_is_applied_once(kind, orientation):
    data = encoded(Image.fromarray(PIXELS), kind, exif=oriented(orientation))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decoded(data), np.asarray(upright))
    assert decoded(data).shape == ((36, 24, 3) if orientation >= 5 else (24, 36, 3))


def test_orientation_6_turns_the_left_edge_up():
    data = encoded(Image.fromarray(PIXELS), "PNG", exif=oriented(6))
    np.testing.assert_array_equal(decoded(data)[0], PIXELS[::-1, 0])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_cost_the_picture():
    data = encoded(Image.fromarray(PIXELS), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage")
    np.testing.assert_array_equal(decoded(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PGM"])
def test_16_bits_keep_the_upper_8(kind):
    grey = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    pgm = b"P5 32 32 65535\n" + grey.astype(">u2").tobytes()  # not every Pillow writes it
    image = decoded(pgm if kind == "PGM" else encoded(Image.fromarray(grey), kind))
    np.testing.assert_array_equal(image, np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2))


def test_16_bit_colour_keeps_the_upper_8():
    rows = (PIXELS.astype(">u2") * 257).reshape(24, -1)
    scanlines = b"".join(b"\0" + row.tobytes() for row in rows)
    np.testing.assert_array_equal(decoded(png(36, 24, depth=16, kind=2, data=zlib.compress(scanlines))), PIXELS)


def test_transparent_pixels_show_white_and_opaque_ones_stay():
    alpha = np.full((24, 36, 1), 255, np.uint8)
    alpha[:, 10:20] = 0
    alpha[:, 20:30] = 128
    image = decoded(encoded(Image.fromarray(np.concatenate([PIXELS, alpha], axis=2)), "PNG"))
    np.testing.assert_array_equal(image[:, :10], PIXELS[:, :10])
    assert (image[:, 10:20] == 255).all()
    np.testing.assert_allclose(image[:, 20:30], (PIXELS[:, 20:30] * 128.0 + 255 * 127) / 255, atol=1)


def test_grey_with_alpha_is_composed_too():
    image = decoded(encoded(Image.merge("LA", [Image.new("L", (2, 1), 9), Image.new("L", (2, 1), 0)]), "PNG"))
    assert image.tolist() == [[[255] * 3] * 2]


def test_first_frame_of_an_animation():
    frames = [Image.new("P", (4, 4), colour) for colour in (3, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decoded(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_phone_jpeg_of_two_pictures_gives_the_first():
    data = encoded(Image.fromarray(PIXELS), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert decoded(data).shape == (24, 36, 3)


def test_floating_point_pixels_are_refused():
    with pytest.raises(SourceError, match="floating-point"):
        decoded(encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"))


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"<html></html>", b"version https://git-lfs.github.com/spec/v1\n", bytes(9999)]
)
def test_what_is_no_picture_is_said_to_be_none(data):
    with pytest.raises(SourceError, match="not a picture"):
        decoded(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM"])
def test_truncated_files_are_refused(kind):
    data = encoded(Image.fromarray(PIXELS), kind)
    for tenths in range(10):
        with pytest.raises(SourceError):
            decoded(data[: len(data) * tenths // 10])


def png(width: int, height: int, *, depth: int = 8, kind: int = 2, data: bytes = b"") -> bytes:
    """A PNG whose header may claim anything; kind 0 is grey, 2 is RGB."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_decompression_bomb_is_refused_by_its_header():
    with pytest.raises(SourceError, match=r"20000 x 20000|400000000"):
        decoded(png(20_000, 20_000, depth=1, kind=0, data=zlib.compress(bytes(99))))


def test_a_larger_picture_is_read_when_it_is_allowed(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr("ssdrt.sources.photo.MAX_PIXELS", 200)
    data = encoded(Image.fromarray(PIXELS), "PNG")
    with pytest.raises(SourceError):
        decoded(data, max_pixels=200)
    assert decoded(data, max_pixels=24 * 36).shape == (24, 36, 3)


def test_damaged_files_raise_nothing_but_source_errors():
    rng = random.Random(3)
    picture = Image.fromarray(PIXELS)
    kinds = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM")  # libtiff prints to the terminal; it is fuzzed elsewhere
    whole = [encoded(picture, kind) for kind in kinds] + [encoded(picture, "PNG", exif=oriented(6))]
    read = 0
    for _ in range(400):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.choice((1, 3, 10))):
            data[rng.randrange(min(len(data), rng.choice((64, 10_000))))] = rng.randrange(256)
        try:
            read += decoded(bytes(data), max_pixels=1_000_000).ndim == 3
        except SourceError:
            continue
    assert 0 < read < 400


@pytest.mark.parametrize("name", ["new\nline.png", "smile \U0001f600.png", os.fsdecode(b"bad \xff\xfe.png"), "-.png"])
def test_any_file_name_is_read_and_reported_on_one_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(encoded(Image.fromarray(PIXELS), "PNG"))
    np.testing.assert_array_equal(read_photo(path), PIXELS)
    path.write_bytes(b"no")
    with pytest.raises(SourceError) as caught:
        read_photo(path)
    assert "\n" not in str(caught.value)


def test_what_could_block_or_never_end_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    for path in (
        tmp_path / "fifo.jpg",
        tmp_path / "loop.jpg",
        tmp_path,
        tmp_path / "missing.jpg",
        "/dev/zero",
        "nul\0",
    ):
        with pytest.raises(SourceError):
            read_photo(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(b"")
    path.chmod(0)
    with pytest.raises(SourceError, match="Permission denied"):
        read_photo(path)

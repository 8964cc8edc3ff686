"""Resizing against TensorFlow's own results (2.15), recorded as hashes of the float32 bytes or as numbers."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
import pytest

from ssdrt.model import Resizer
from ssdrt.preprocess import image_window, network_size, to_network

SIZES = (((321, 480), (300, 300)), ((480, 640), (300, 300)), ((37, 53), (64, 96)), ((1, 9), (5, 4)), ((9, 1), (4, 5)))
HASHES = {
    # (method, align_corners, half_pixel_centers): one hash for each of SIZES
    ("bilinear", False, False): "7c0fafa454052a42 099d5501f361821f 64f5b0785a7c1244 af5a1a1926939f7e 0208942f8d72940d",
    ("bilinear", True, False): "42e654b1e4a96e39 e973912103dd8cc5 196383a589eeb144 b311deb7c9c51c1e 7774ae69d84e7fa4",
    ("bilinear", False, True): "b70b5ff093396f04 6440b59e0b0bc8d9 dd28a467cef710de 5696cccfff28ed8e e1b74d40cfe6a79d",
    ("nearest", False, False): "01318a88347b7503 031b499082a61cd9 0f156fa69ca18900 93adb8f1889c292b 165701ce55bbb539",
    ("nearest", True, False): "698daad05dc6626f f9a7437d171befc2 82db68f97a91d244 47a7ec4956ef3471 fc2ef9060a6629c6",
    ("nearest", False, True): "65f7429b2c07f545 902a35b1636468c2 a92f6b97121f0b5c e4651a9c6b1901f9 8a80dc05e3a0e066",
    ("bicubic", False, False): "4d9350ef6f0fbd53 1ce1eb9a1abff529 f8ba355bf421fe0c 676d7b37b45caeea 2f2c2dd65b372432",
    ("bicubic", True, False): "b7c5498613bf1eff 3875e8e76d2696e5 4b670acb64796067",
    ("bicubic", False, True): "c04f81188e0c2ce7 acbb51e6af1611ae b6c3da8e4213648f c9d7340900aff484 3e10ce8e28228eeb",
    ("area", False, False): "747f852f817b3341 cc18f46c361b23a6 d657ce06af4e4734 80b75a3db0f48d50 524d61bdca22042f",
}
FIXED = Resizer("fixed_shape", 300, 300)


def picture(height, width):
    """The picture that TensorFlow was given."""
    y, x, channel = np.indices((height, width, 3))
    return ((y * 7 + x * 13 + channel * 29 + (y * x) % 31) % 256).astype(np.uint8)


def lerp_by_hand(image, height, width):
    """compute_lerp() of resize_bilinear_op.cc, pixel by pixel."""
    pixels, f = image.astype(np.float32), np.float32
    result = np.empty((height, width, 3), np.float32)
    for y in range(height):
        in_y = f(y) * (f(image.shape[0]) / f(height))
        top, bottom = int(in_y), min(int(np.ceil(in_y)), image.shape[0] - 1)
        for x in range(width):
            in_x = f(x) * (f(image.shape[1]) / f(width))
            left, right = int(in_x), min(int(np.ceil(in_x)), image.shape[1] - 1)
            above = pixels[top, left] + (pixels[top, right] - pixels[top, left]) * (in_x - f(left))
            below = pixels[bottom, left] + (pixels[bottom, right] - pixels[bottom, left]) * (in_x - f(left))
            result[y, x] = above + (below - above) * (in_y - f(top))
    return result


@pytest.mark.parametrize("method", HASHES, ids=str)
def test_equals_tensorflow_to_the_bit(method):
    for (size, new_size), recorded in zip(SIZES, HASHES[method].split(), strict=False):
        resized = to_network(picture(*size), Resizer("fixed_shape", *new_size, *method))
        assert (resized.dtype, resized.shape, resized.flags.c_contiguous) == (np.float32, (*new_size, 3), True)
        assert hashlib.sha256(resized.tobytes()).hexdigest().startswith(recorded), (size, new_size)


def test_bilinear_by_hand():
    rng = np.random.default_rng(0)
    for height, width, new_height, new_width in [(1, 1, 3, 2), (2, 3, 3, 2), (31, 17, 23, 29), (5, 40, 11, 7)]:
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        resized = to_network(image, Resizer("fixed_shape", new_height, new_width))
        np.testing.assert_array_equal(resized, lerp_by_hand(image, new_height, new_width))


def test_an_upscaled_picture_many_bands_high_and_a_very_wide_one():
    image = picture(3, 2)
    tall = to_network(image, Resizer("fixed_shape", 700, 100))
    np.testing.assert_array_equal(tall[699], tall[467])  # the last row of the source holds from 2/3 on
    np.testing.assert_array_equal(tall[0, 50:], np.broadcast_to(image[0, 1], (50, 3)))
    wide = to_network(image, Resizer("fixed_shape", 2, 20_000))
    np.testing.assert_array_equal(wide[:, -1], [image[0, 1], image[1, 1] + (image[2, 1] - 1.0 * image[1, 1]) / 2])


@pytest.mark.parametrize("kind", ["fixed_shape", "none"])
def test_the_right_size_is_only_cast(kind):
    image = picture(300, 300)
    np.testing.assert_array_equal(to_network(image, Resizer(kind, 300, 300)), image.astype(np.float32))


def test_pictures_that_are_views():
    image = picture(60, 50)
    for view in (image[:, :, ::-1], image[::2, 5:], np.broadcast_to(image[:, :, :1], image.shape)):
        for resizer in (FIXED, Resizer("none"), Resizer("fixed_shape", 7, 9, "nearest")):
            resized = to_network(view, resizer)
            np.testing.assert_array_equal(resized, to_network(view.copy(), resizer))
            assert resized.flags.c_contiguous


@pytest.mark.parametrize(
    ("picture_size", "limits", "expected"),
    [
        ((321, 480), (240, 400), (240, 359)),
        ((480, 321), (240, 400), (359, 240)),
        ((300, 300), (600, 1024), (600, 600)),
        ((100, 1000), (600, 1024), (102, 1024)),
        ((333, 427), (320, 320), (250, 320)),
        ((427, 333), (320, 512), (410, 320)),
        ((25, 54), (10, 100), (10, 22)),  # 21.6
        ((3, 5), (7, 100), (7, 12)),  # 11.67
        ((4, 11), (6, 100), (6, 16)),  # 16.5, to even
        ((1, 3000), (600, 1024), (1, 1024)),  # TensorFlow gives up here: 0.34 rounds to nothing
    ],
)
def test_keep_aspect_ratio_sizes(picture_size, limits, expected):
    resizer = Resizer("keep_aspect_ratio", *limits)
    assert network_size(resizer, *picture_size) == expected
    assert image_window(resizer, *picture_size) == (0, 0, 1, 1)


def test_padding_is_below_and_right():
    image = picture(40, 100)
    resizer = Resizer("keep_aspect_ratio", 30, 50, pad=True, pad_value=(123.5, 117.0, 104.0))
    padded = to_network(image, resizer)
    assert network_size(resizer, 40, 100) == padded.shape[:2] == (50, 50)
    assert image_window(resizer, 40, 100) == (0, 0, float(np.float32(20) / np.float32(50)), 1)
    np.testing.assert_array_equal(padded[:20], to_network(image, Resizer("fixed_shape", 20, 50)))
    np.testing.assert_array_equal(padded[20:], np.broadcast_to(np.float32([123.5, 117.0, 104.0]), (30, 50, 3)))
    upright = to_network(image.transpose(1, 0, 2), resizer)
    np.testing.assert_array_equal(upright[:, 20:], np.broadcast_to(np.float32([123.5, 117.0, 104.0]), (50, 30, 3)))


def test_sizes_without_padding():
    assert network_size(FIXED, 480, 640) == (300, 300)
    assert network_size(Resizer("none"), 480, 640) == (480, 640)


def test_many_threads_get_the_same_pixels():
    images = [picture(100 + 7 * i, 80 + 5 * i) for i in range(8)]
    expected = [to_network(image, FIXED) for image in images]
    equal = [False] * len(images)

    def work(i):
        equal[i] = all(np.array_equal(to_network(images[i], FIXED), expected[i]) for _ in range(5))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(equal)

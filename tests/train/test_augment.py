"""Boxes go where the pixels go."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ssdrt[train]'")
from ssdrt.train.augment import augment  # noqa: E402
from ssdrt.train.targets import Objects  # noqa: E402

SIDE, COUNT = 80, 64


def views(seed):
    """Of a bright rectangle on black, many at once."""
    pictures = torch.zeros(COUNT, 3, SIDE, SIDE, dtype=torch.uint8)
    pictures[:, 1, 20:48, 30:70] = 255
    boxes = torch.tensor([20, 30, 48, 70]).float().div(SIDE).repeat(COUNT, 1, 1)
    objects = Objects(boxes, torch.zeros(COUNT, 1, dtype=torch.int64), torch.zeros(COUNT, 1, dtype=torch.bool))
    return augment(pictures, objects, torch.Generator().manual_seed(seed))


def test_the_box_holds_the_bright_pixels():
    pixels, objects = views(0)
    seen = 0
    for picture, box, crowd in zip(pixels, objects.boxes[:, 0], objects.crowd[:, 0], strict=True):
        top, left, bottom, right = (box * SIDE).tolist()
        if crowd or min(bottom - top, right - left) < 8:
            continue
        green = picture[1] - picture[[0, 2]].amax(0)
        inside = green[round(top) + 2 : round(bottom) - 2, round(left) + 2 : round(right) - 2]
        outside = green.clone()
        outside[max(0, round(top) - 2) : round(bottom) + 2, max(0, round(left) - 2) : round(right) + 2] = -255
        if float(inside.amin()) < 40:  # colours can fade to grey, or the fill be as green
            continue
        seen += 1
        assert float(inside.mean()) > float(outside[outside > -255].mean())
    assert seen > COUNT / 3


def test_what_is_mostly_out_of_view_is_a_crowd_and_what_is_all_out_is_nothing():
    _, objects = views(1)
    assert (objects.boxes >= 0).all()
    assert (objects.boxes <= 1).all()
    assert objects.crowd.any()
    assert not objects.crowd.all()


def test_a_seed_gives_its_views_again():
    first, second = views(2), views(2)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1].boxes, second[1].boxes)
    assert not torch.equal(first[0], views(3)[0])

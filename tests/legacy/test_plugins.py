"""The plugins' arithmetic and layouts."""

import numpy as np
import pytest

from ssdrt.errors import ModelError
from ssdrt.legacy.plugins import (
    GridAnchor,
    NmsPlugin,
    flatten_concat,
    grid_anchor_of,
    grid_anchors,
    nms,
    nms_of,
    prior_tensor,
)
from ssdrt.legacy.uff import Data, UffNode

MAPS = tuple((size, size) for size in (19, 10, 5, 3, 2, 1))
RATIOS = (1.0, 2.0, 0.5, 3.0, 0.33)
PUBLISHED = {
    0.2: {
        0: (-0.023684, -0.023684, 0.076316, 0.076316),
        1: (-0.115106, -0.044395, 0.167737, 0.097026),
        1082: (0.902974, 0.832263, 1.044395, 1.115106),
        1086: (-0.253109, -0.051036, 0.353109, 0.151036),
        1088: (-0.159165, -0.159165, 0.259165, 0.259165),
        1916: (0.01266, 0.01266, 0.98734, 0.98734),
    },
    0.05: {
        1: (-0.00904, 0.008638, 0.061671, 0.043993),
        1086: (-0.149186, -0.016395, 0.249186, 0.116395),
        1683: (-0.105, -0.105, 0.305, 0.305),
    },
}
"""minSize -> row -> (xmin, ymin, xmax, ymax) that NVIDIA's plugin makes."""


def anchors(parameters):
    return np.concatenate([one[0, :, 0].reshape(-1, 4) for one in grid_anchors(parameters)])


@pytest.mark.parametrize("min_size", PUBLISHED)
def test_anchors_are_the_published_ones(min_size):
    made = anchors(GridAnchor(min_size, 0.95, RATIOS, MAPS))
    assert made.shape == (1917, 4)
    for row, expected in PUBLISHED[min_size].items():
        np.testing.assert_allclose(made[row], expected, atol=1e-6)


def test_each_map_is_one_tensor_of_corners_and_variances():
    outputs = grid_anchors(GridAnchor(0.2, 0.95, RATIOS, MAPS))
    assert [one.shape for one in outputs] == [(2, n * 4, 1) for n in (1083, 600, 150, 54, 24, 6)]
    assert np.array_equal(outputs[5][1, :8, 0], np.array([0.1, 0.1, 0.2, 0.2] * 2, np.float32))


def test_maps_that_are_not_square_have_their_own_strides():
    first = grid_anchors(GridAnchor(0.2, 0.9, (1.0, 2.0, 0.5), ((2, 4), (1, 2))))[0][0, :, 0].reshape(2, 4, 3, 4)
    centres = (first[..., :2] + first[..., 2:]) / 2
    np.testing.assert_allclose(centres[1, 3, 0], (7 / 8, 3 / 4), atol=1e-6)


def test_parameters_come_from_fields_with_and_without_suffix():
    fields = {
        "numLayers_u_int": Data("i", 2), "minSize_u_float": Data("d", 0.2), "maxSize": Data("d", 0.9),
        "aspectRatios_u_flist": Data("d_list", (1.0, 2.0, 0.5)), "variance": Data("d_list", (0.1, 0.1, 0.2, 0.2)),
        "featureMapShapes_u_ilist": Data("i_list", (2, 4, 1, 2)),
    }  # fmt: skip
    found = grid_anchor_of(UffNode("a", (), "_GridAnchorRect_TRT", fields))
    assert found == GridAnchor(0.2, 0.9, (1.0, 2.0, 0.5), ((2, 4), (1, 2)))
    with pytest.raises(ModelError, match="2 layers and feature maps"):
        grid_anchor_of(UffNode("a", (), "_GridAnchor_TRT", fields))


def test_flatten_concat_joins_what_lies_in_memory_picture_by_picture():
    joined = flatten_concat([np.arange(8.0).reshape(2, 2, 2), np.arange(10.0, 14).reshape(2, 1, 2)])
    assert joined.shape == (2, 6, 1, 1)
    assert joined[1, :, 0, 0].tolist() == [4, 5, 6, 7, 12, 13]


PRIORS = prior_tensor(np.array([[0, 0, 0.4, 0.4], [0.02, 0, 0.42, 0.4], [0.8, 0.8, 1.2, 1.2]], np.float32), (1.0,) * 4)


def run(conf, loc=None, **changes):
    plugin = NmsPlugin(**{"num_classes": 2, "top_k": 10, "keep_top_k": 4, "confidence_threshold": 0.3,
                          "nms_threshold": 0.5, "conf_sigmoid": False, **changes})  # fmt: skip
    loc = np.zeros(12, np.float32) if loc is None else np.array(loc, np.float32)
    by_role = (loc, np.array(conf, np.float32), PRIORS)
    inputs = [by_role[plugin.input_order.index(i)] for i in range(3)]
    rows, count = nms(plugin, tuple(inputs))
    return rows[0], int(count.view(np.int32).item())


def test_overlapping_boxes_go_and_what_is_left_is_clipped():
    rows, count = run([0, 0.9, 0, 0.8, 0, 0.5])
    assert count == 2
    np.testing.assert_allclose(rows[:2], [[0, 1, 0.9, 0, 0, 0.4, 0.4], [0, 1, 0.5, 0.8, 0.8, 1, 1]], atol=1e-6)
    assert rows[2].tolist() == [0, -1, 0, 0, 0, 0, 0]


def test_the_threshold_itself_is_not_above_it():
    assert run([0, 0.3, 0, 0.2, 0, 0.2])[1] == 0


def test_top_k_counts_candidates_before_suppression():
    assert run([0, 0.9, 0, 0.8, 0, 0.5], top_k=2)[1] == 1


def test_the_background_is_skipped_unless_there_is_none():
    conf = [0.9, 0, 0, 0, 0.8, 0]
    assert run(conf)[1] == 0
    assert run(conf, background=-1)[0][:2, 1].tolist() == [0, 0]


def test_equal_scores_keep_their_order():
    rows, _ = run([0, 0.5, 0, 0.1, 0, 0.5])
    np.testing.assert_allclose(rows[:2, 3], [0, 0.8], atol=1e-6)


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (2, 1, 0)])
def test_inputs_stand_where_the_order_says(order):
    assert run([0, 0.9, 0, 0.8, 0, 0.5], input_order=order)[1] == 2


def test_boxes_are_decoded_from_ty_tx_th_tw():
    rows, _ = run([0, 0.9, 0, 0, 0, 0], [0.25, 0, 0, np.log(0.5), *[0] * 8])
    np.testing.assert_allclose(rows[0, 3:], (0.1, 0.1, 0.3, 0.5), atol=1e-6)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="do not fit each other with 3 classes"):
        run([0] * 6, num_classes=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"topK": 50}, "keepTopK <= topK"), ({"topK": 5000}, "keepTopK <= topK <= 4096"), ({"codeType": 1}, "box coder")],
)
def test_parameters_that_the_plugin_fails_on_are_refused(change, message):
    values = {"numClasses": 91, "topK": 100, "keepTopK": 100, **change}
    node = UffNode("NMS", ("a", "b", "c"), "_NMS_TRT", {f"{k}_u_int": Data("i", v) for k, v in values.items()})
    with pytest.raises(ModelError, match=message):
        nms_of(node)

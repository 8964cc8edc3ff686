"""Resizer and normalisation, in the forms that exports of several years write."""

import numpy as np
import pytest

from build import const, node
from ssdrt.engines import reference
from ssdrt.errors import ModelError
from ssdrt.graph.writer import NodeSpec, Shape
from ssdrt.preprocess import network_size, to_network
from ssdrt.recover import recover
from surgery import RESIZE, Surgery, keep_aspect_ratio

BATCH = "Preprocessor/map/TensorArrayStack/TensorArrayGatherV3"


def resizer_of(surgery, **options):
    return recover(surgery.graph, **options).preprocessing.resizer.value


@pytest.mark.parametrize(
    ("op", "method"),
    [
        ("ResizeBilinear", "bilinear"),
        ("ResizeNearestNeighbor", "nearest"),
        ("ResizeBicubic", "bicubic"),
        ("ResizeArea", "area"),
    ],
)
@pytest.mark.parametrize(("align", "half"), [(False, False), (True, False), (False, True)])
def test_arithmetic_of_the_resize(op, method, align, half):
    surgery = Surgery()
    surgery.add(
        node(op, RESIZE, *[text.decode() for text in surgery.nodes[RESIZE].inputs], align_corners=align,
             half_pixel_centers=half)
    )  # fmt: skip
    fact = recover(surgery.graph).preprocessing.resizer
    assert fact.node == RESIZE
    resizer = fact.value
    assert (resizer.kind, resizer.height, resizer.width) == ("fixed_shape", 96, 128)
    assert (resizer.method, resizer.align_corners, resizer.half_pixel_centers) == (method, align, half)


def test_keep_aspect_ratio():
    surgery = keep_aspect_ratio(96, 160)
    resizer = resizer_of(surgery)
    assert (resizer.kind, resizer.height, resizer.width, resizer.pad) == ("keep_aspect_ratio", 96, 160, False)


@pytest.mark.parametrize(
    ("picture", "size"),
    [((480, 640), (96, 128)), ((640, 480), (128, 96)), ((100, 1000), (16, 160)), ((96, 96), (96, 96))],
)
def test_network_of_a_keep_aspect_ratio_graph_has_the_size_its_picture_gets(picture, size):
    model = recover(keep_aspect_ratio(96, 160).graph, picture)
    assert model.input_size == network_size(model.preprocessing.resizer.value, *picture) == size
    rows = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in (8, 16)]
    assert [(head.height, head.width) for head in model.heads] == rows
    assert len(model.anchors.value) == rows[0][0] * rows[0][1] * 3 + rows[1][0] * rows[1][1] * 6


def test_keep_aspect_ratio_is_48_by_64_when_no_picture_is_given():
    assert recover(keep_aspect_ratio(96, 160).graph).input_size == network_size(
        resizer_of(keep_aspect_ratio(96, 160)), 480, 640
    )


def test_keep_aspect_ratio_with_padding():
    resizer = resizer_of(keep_aspect_ratio(96, 160, pad=114.0))
    assert (resizer.kind, resizer.height, resizer.width, resizer.pad) == ("keep_aspect_ratio", 96, 160, True)
    assert resizer.pad_value == (114, 114, 114)
    assert recover(keep_aspect_ratio(96, 160, pad=114.0).graph, (333, 427)).input_size == (160, 160)


def test_resizer_that_is_neither_is_refused():
    surgery = keep_aspect_ratio(96, 160)
    surgery.nodes["rounded"].op = b"Floor"
    with pytest.raises(ModelError, match="neither fixed_shape nor keep_aspect_ratio"):
        recover(surgery.graph)


def test_padding_of_each_channel_by_its_own_value():
    surgery = keep_aspect_ratio(96, 160, pad=0.0)
    surgery.replace_input("padded", "stacked")
    surgery.add(node("Unpack", "channels", RESIZE, num=3, axis=3), const("three_sides", [0, 1, 2], "int32"),
                node("GatherV2", "pads_3", "pads", "three_sides", "first"))  # fmt: skip
    for i, value in enumerate((124.0, 116.0, 104.0)):
        surgery.add(const(f"grey{i}", value), node("PadV2", f"padded{i}", f"channels:{i}", "pads_3", f"grey{i}"))
    surgery.add(node("Pack", "stacked", "padded0", "padded1", "padded2", axis=3))
    assert resizer_of(surgery).pad_value == (124, 116, 104)


def test_padding_after_the_normalisation_is_brought_back_to_pixels():
    surgery = keep_aspect_ratio(96, 160, pad=0.0)
    surgery.replace_input("Preprocessor/sub", BATCH)
    surgery.nodes["Preprocessor/mul"].inputs[1] = b"Cast"
    for name in (*surgery.names("Shape", "Preprocessor/map"), *surgery.names("TensorArrayScatterV3", "Preprocessor")):
        surgery.replace_input("Cast", "Preprocessor/sub", name)
    assert resizer_of(surgery).pad_value == pytest.approx((127.5, 127.5, 127.5))


@pytest.mark.parametrize("value", [np.nan, np.inf, b"grey"])
def test_padding_by_what_is_no_number_is_refused(value):
    surgery = keep_aspect_ratio(96, 160, pad=114.0)
    surgery.set("grey", value, "string" if isinstance(value, bytes) else "float32")
    with pytest.raises(ModelError, match="padding's value is no constant"):
        recover(surgery.graph)


def test_padding_by_a_computed_value_is_refused():
    surgery = keep_aspect_ratio(96, 160, pad=114.0)
    surgery.nodes["padded"].inputs[2] = b"factor"
    with pytest.raises(ModelError, match="padding's value is no constant"):
        recover(surgery.graph)


def without_resizer(shape):
    surgery = Surgery()
    surgery.detach("ResizeBilinear")
    surgery.add(NodeSpec("image_tensor", "Placeholder", (), {"dtype": "uint8", "shape": Shape(shape)}))
    return surgery


def test_no_resizer_takes_the_picture_as_it_is():
    surgery = without_resizer((None, None, None, 3))
    assert resizer_of(surgery).kind == "none"
    assert recover(surgery.graph, (64, 96)).input_size == (64, 96)


def test_no_resizer_and_a_placeholder_of_one_size():
    resizer = resizer_of(without_resizer((1, 64, 96, 3)))
    assert (resizer.kind, resizer.height, resizer.width) == ("fixed_shape", 64, 96)


def test_normalisation_by_channel_and_in_another_order():
    surgery = Surgery()
    surgery.set("Preprocessor/mul/x", [0.1, 0.2, 0.3])
    surgery.set("Preprocessor/sub/y", [1.0, 2.0, 3.0])
    steps = recover(surgery.graph).preprocessing.normalisation.value
    assert [step.operation for step in steps] == ["mul", "sub"]
    np.testing.assert_array_equal(steps[0].operand, np.float32([0.1, 0.2, 0.3]))
    np.testing.assert_array_equal(steps[1].operand, [1, 2, 3])


@pytest.mark.parametrize(
    ("op", "first", "steps"),
    [("RealDiv", True, ["div"]), ("Div", True, ["div"]), ("Add", False, ["add"]), ("Sub", False, ["mul", "add"])],
)
def test_other_operations(op, first, steps):
    surgery = Surgery()
    surgery.detach("Mul", "Preprocessor/mul")
    surgery.nodes["Preprocessor/mul"].inputs = [BATCH.encode()]
    inputs = ("Preprocessor/mul", "Preprocessor/sub/y") if first else ("Preprocessor/sub/y", "Preprocessor/mul")
    surgery.add(node(op, "Preprocessor/sub", *inputs))
    found = recover(surgery.graph).preprocessing.normalisation.value
    assert [step.operation for step in found] == steps


def test_graph_that_normalises_before_it_resizes():
    """Exports from mid-2020 on do; resizing is linear, so the network's input stays the same."""
    surgery = Surgery()
    surgery.replace_input("Preprocessor/mul", BATCH, "Preprocessor/sub")
    surgery.insert_after("Preprocessor/sub", NodeSpec("same", "Identity", (BATCH,), {"T": "float32"}))
    surgery.add(
        node("Mul", "Preprocessor/mul", "Preprocessor/mul/x", "Cast"),
        node("Sub", "Preprocessor/sub", "Preprocessor/mul", "Preprocessor/sub/y"),
    )
    surgery.replace_input("Cast", "Preprocessor/sub", *surgery.names("Shape", "Preprocessor/map"),
                          *surgery.names("TensorArrayScatterV3", "Preprocessor"))  # fmt: skip
    usual, early = recover(Surgery().graph), recover(surgery.graph)
    steps = early.preprocessing.normalisation.value
    assert [(step.operation, float(step.operand)) for step in steps] == [("mul", np.float32(2 / 255)), ("sub", 1)]
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    pixels = to_network(picture, early.preprocessing.resizer.value)
    for layers in (usual, early):
        engine = reference.load(layers, b"", "fp32", 1)
        scores = engine.infer(pixels[None])[1]
        assert scores.shape == (1, 864, 3)
    np.testing.assert_array_equal(scores, reference.load(usual, b"", "fp32", 1).infer(pixels[None])[1])


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_normalisation_that_leaves_no_picture_is_refused(value):
    surgery = Surgery()
    surgery.set("Preprocessor/mul/x", value)
    with pytest.raises(ModelError, match="normalised by"):
        recover(surgery.graph)


@pytest.mark.parametrize("value", [np.ones((4, 1)), np.ones((96, 128, 1))])
def test_normalisation_that_differs_over_the_picture_is_refused(value):
    surgery = Surgery()
    surgery.set("Preprocessor/sub/y", value)
    with pytest.raises(ModelError):
        recover(surgery.graph)


def test_normalisation_by_a_string_is_refused():
    surgery = Surgery()
    surgery.set("Preprocessor/sub/y", b"one", "string")
    with pytest.raises(ModelError, match="no constant"):
        recover(surgery.graph)


@pytest.mark.parametrize("shape", [(None, None, None, 1), (None, None, None, 4)])
def test_placeholder_of_other_channels_is_refused(shape):
    with pytest.raises(ModelError, match="channels, not RGB"):
        recover(without_resizer(shape).graph)


@pytest.mark.parametrize("shape", [(1, 0, 300, 3), (1, -7, 300, 3), (0, 300, 300, 3), (1, 2**31, 2**31, 3)])
def test_placeholder_of_an_impossible_shape_is_refused(shape):
    with pytest.raises(ModelError, match="takes pictures of shape"):
        recover(without_resizer(shape).graph)


@pytest.mark.parametrize("size", [[0, 128], [-1, 128], [100_000, 128], [2**31 - 1, 2**31 - 1]])
def test_network_input_of_an_impossible_size_is_refused(size):
    surgery = Surgery()
    surgery.set(f"{RESIZE}/size", size, "int32")
    with pytest.raises(ModelError):
        recover(surgery.graph)


@pytest.mark.parametrize(
    "shape", [(None, None, None, 3), (1, None, None, 3), (24, None, None, 3), (1, 360, 480, 3), None]
)
def test_placeholder_of_any_batch_and_size(shape):
    surgery = Surgery("one_class")
    surgery.add(NodeSpec("image_tensor", "Placeholder", (), {"dtype": "uint8", "shape": Shape(shape)}))
    fact = recover(surgery.graph).preprocessing.input
    assert fact.value == (shape or (None,) * 4)
    assert fact.node == "image_tensor"

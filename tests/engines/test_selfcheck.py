"""A new plan is compared with the reference: what passes, what does not, and what is said then."""

from dataclasses import replace

import numpy as np
import pytest

from int8_scales import measured_scales
from ssdrt.engines.reference import ReferenceEngine
from ssdrt.engines.selfcheck import check_itself, rounded, rounding, sample_pixels
from ssdrt.errors import EngineError, OutOfMemory
from ssdrt.model import DepthwiseConv
from ssdrt.postprocess import decode_boxes, non_max_suppression
from ssdrt.preprocess import clip_window, to_network
from tiny_ssd import tiny_ssd


class Detecting:
    """The reference engine, rounding every layer as fp16 does, with a `detect`; `spoil` may change its results."""

    def __init__(self, model, spoil=lambda found, _: found):
        self.model, self.spoil = model, spoil
        self.engine = ReferenceEngine(model, rounding("fp16"))

    def infer(self, pixels):
        return self.engine.infer(pixels)

    def close(self):
        self.engine.close()

    def detect(self, images_rgb, parameters):
        model, found = self.model, []
        for image in images_rgb:
            encodings, scores = self.infer(to_network(image, model.preprocessing.resizer.value)[None])
            boxes = decode_boxes(encodings[0], model.anchors.value, model.box_coder.scales.value)
            window = clip_window(model, *image.shape[:2])
            found.append(non_max_suppression(boxes, scores[0], parameters, window))
        return [self.spoil(one, len(images_rgb)) for one in found]


def test_a_right_plan_passes():
    score, box = check_itself(tiny_ssd(), ReferenceEngine(tiny_ssd()), "fp32")
    assert max(score, box) < 1e-5
    score, box = check_itself(tiny_ssd(), Detecting(tiny_ssd()), "fp16", (1, 4))
    assert 0 < max(score, box) < 2e-2


def test_what_int8_costs_is_allowed():
    model = tiny_ssd()
    scales = measured_scales(model, sample_pixels(model))
    engine = ReferenceEngine(model, rounding("int8", scales))
    assert max(check_itself(model, engine, "int8", scales=scales)) > 1e-4
    other = ReferenceEngine(with_larger_weights(model), rounding("int8", scales))
    with pytest.raises(EngineError, match=r"layer '.*' loses most by rounding.*leave the scale of what it reads out"):
        check_itself(model, other, "int8", scales=scales)


def with_larger_weights(model):
    layers = tuple(
        replace(layer, weights=layer.weights * 1e5) if isinstance(layer, DepthwiseConv) else layer
        for layer in model.layers
    )
    return replace(model, layers=layers)


def test_the_layer_to_suspect_is_named():
    model = tiny_ssd()
    other = ReferenceEngine(with_larger_weights(model))
    with pytest.raises(EngineError, match=r"does not compute this network: scores differ.*take fp32"):
        check_itself(model, other, "fp16")
    with pytest.raises(EngineError, match=r"ssdrt doctor --self-test"):
        check_itself(model, other, "fp32")


def moved(found, _):
    return found[0] + np.float32(0.1), found[1], found[2]


def other_class(found, batch):
    return found if batch < 4 else (found[0], found[1], found[2] ^ 1)


def best_lost(found, _):
    return tuple(values[1:] for values in found)


def score_off(found, batch):
    return found if batch < 4 else (found[0], found[1] + np.float32(0.1), found[2])


@pytest.mark.parametrize("spoil", [moved, other_class, best_lost, score_off])
def test_detections_of_another_network_are_found_out(spoil):
    with pytest.raises(EngineError, match=r"detections in batches of [14] are not those"):
        check_itself(tiny_ssd(), Detecting(tiny_ssd(), spoil), "fp16", (1, 4))


def test_batches_without_room_are_left_out_but_for_the_first():
    class Cramped(Detecting):
        def __init__(self, room):
            super().__init__(tiny_ssd())
            self.room, self.sizes = room, []

        def detect(self, images_rgb, parameters):
            self.sizes.append(len(images_rgb))
            if len(images_rgb) > self.room:
                raise OutOfMemory("no room")
            return super().detect(images_rgb, parameters)

    engine = Cramped(2)
    check_itself(tiny_ssd(), engine, "fp16", (1, 2, 4, 8))
    assert engine.sizes == [1, 2, 4]
    with pytest.raises(OutOfMemory, match="no room"):
        check_itself(tiny_ssd(), Cramped(0), "fp16", (1, 2, 4))


def test_rounding_to_a_precision():
    values = np.array([1 + 2**-9, 70000.0, -1 - 2**-12], np.float32)
    assert rounded(values, "bf16").tolist() == [1, 70144, -1]
    assert rounded(values, "fp16").tolist() == [1 + 2**-9, np.inf, -1]
    assert rounded(values, "tf32").tolist() == [1 + 2**-9, 70016, -1]

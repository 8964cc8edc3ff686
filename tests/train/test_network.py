"""The torch network computes what the reference engine computes, and gives its weights back."""

import dataclasses

import numpy as np
import pytest

from ssdrt.engines.reference import ReferenceEngine
from ssdrt.errors import ModelError
from ssdrt.model import Conv, DepthwiseConv
from ssdrt.postprocess import convert_scores
from ssdrt.train.network import learned, run_network, to_model, weights_of
from tiny_ssd import tiny_pixels, tiny_ssd

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ssdrt[train]'")


def outputs(model, weights, pixels, training=False):
    """Encodings and scores, as an engine gives them."""
    with torch.no_grad():
        encodings, logits = run_network(
            model, weights, torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()), training=training
        )
    converter = model.score_converter
    scores = convert_scores(
        logits.numpy(), converter.function.value, converter.logit_scale.value, converter.background.value
    )
    return encodings.numpy(), scores


def test_every_layer_kind_as_the_reference_computes_it():
    model, pixels = tiny_ssd(), tiny_pixels(2)
    for mine, theirs in zip(
        outputs(model, weights_of(model), pixels), ReferenceEngine(model).infer(pixels), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4)


def test_weights_come_back_as_they_went():
    model = tiny_ssd()
    for before, after in zip(model.layers, to_model(model, weights_of(model)).layers, strict=True):
        for field in dataclasses.fields(before):
            np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))


def test_a_batch_norm_is_folded_into_its_convolution():
    model, pixels = tiny_ssd(), tiny_pixels(4)
    names = [layer.name for layer in model.layers if isinstance(layer, (Conv, DepthwiseConv))][:3]
    weights = weights_of(model, normed=names)
    for _ in range(50):  # the running mean and variance move
        outputs(model, weights, pixels, training=True)
    with torch.no_grad():
        for name in names:
            weights[f"{name}/norm_scale"].mul_(1.5)
    assert not np.allclose(weights[f"{names[0]}/norm_mean"], 0)
    folded = to_model(model, weights)
    for mine, theirs in zip(outputs(model, weights, pixels), ReferenceEngine(folded).infer(pixels), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4)


def test_every_learned_weight_gets_a_gradient():
    model = tiny_ssd()
    weights = weights_of(model, normed=["depthwise"])
    encodings, logits = run_network(model, weights, torch.rand(2, 3, *model.input_size) * 255, training=True)
    (encodings.square().sum() + logits.square().sum()).backward()
    assert [name for name in learned(weights) if weights[name].grad is None] == []


def test_a_kind_that_nobody_wrote_is_named():
    @dataclasses.dataclass(frozen=True)
    class Unknown:
        name: str
        inputs: tuple[str]

    model = dataclasses.replace(tiny_ssd(), layers=(Unknown("strange", ("image",)),))
    with pytest.raises(ModelError, match=r"training lacks Unknown layers.*'strange'"):
        run_network(model, {}, torch.zeros(1, 3, *model.input_size))

"""The front of MobileNet v1 or v2 as one kernel is the first three or two steps of its plan; on a GPU."""

from dataclasses import replace

import numpy as np
import pytest

from engines.cuda.gpu import Bench, bench, needs_gpu  # noqa: F401
from ssdrt.engines.cuda import ends, stem
from ssdrt.engines.cuda.executor import Memory, run_step
from ssdrt.engines.cuda.launch import Builder, Constants
from ssdrt.engines.cuda.launch import Memory as Addresses
from ssdrt.engines.cuda.planner import plan_network
from ssdrt.model import IMAGE, Activation, Conv, DepthwiseConv
from tiny_ssd import tiny_ssd


def front(channels, size):
    """A model of the size (height, width) that begins as MobileNet v1 of these three channels, or v2 of these two."""
    random = np.random.default_rng(sum(channels))

    def dense(name, source, window, inner, outer, strides):
        weights = random.normal(0, (2 / (window * window * inner)) ** 0.5, (window, window, inner, outer))
        pads = (0, 0, 1, 1) if window == 3 else (0, 0, 0, 0)
        bias = random.normal(0, 0.1, outer).astype(np.float32)
        conv = Conv(name, (source,), weights.astype(np.float32), bias, strides, pads)
        return conv, Activation(f"{name}/relu6", (name,), "relu6")

    def depthwise(name, source, inner, strides):
        weights = random.normal(0, 0.4, (3, 3, inner, 1)).astype(np.float32)
        pads = (0, 0, 1, 1) if strides == (2, 2) else (1, 1, 1, 1)
        conv = DepthwiseConv(name, (source,), weights, random.normal(0, 0.1, inner).astype(np.float32), strides, pads)
        return conv, Activation(f"{name}/relu6", (name,), "relu6")

    a, b, *more = channels
    layers = (*dense("one", IMAGE, 3, 3, a, (2, 2)), *depthwise("two", "one/relu6", a, (1, 1)))
    if more:
        layers += dense("three", "two/relu6", 1, a, b, (1, 1)) + depthwise("four", "three/relu6", b, (2, 2))
        layers += dense("conv", "four/relu6", 1, b, more[0], (1, 1))
    else:
        layers += dense("conv", "two/relu6", 1, a, b, (1, 1))[:1]
    model = tiny_ssd()
    rest = [replace(one, inputs=("conv",)) if one.name == "conv/relu6" else one for one in model.layers[2:]]
    return layers, replace(model, layers=layers, input_size=size, heads=()), rest


@pytest.mark.parametrize(
    ("name", "part", "value", "taken"),
    [
        ("three", "weights", 1000, True),
        ("three", "weights", 1024, False),
        ("conv", "weights", -10900, True),
        ("conv", "weights", -11000, False),
        ("two", "weights", 70000, False),
        ("one", "bias", 500000, False),
        ("one", "weights", 1e6, False),
    ],
)
def test_weights_that_would_overflow_are_left_to_other_kernels(name, part, value, taken):
    _, model, _ = front((24, 48, 96), (64, 124))

    def spoiled(layer):
        values = getattr(layer, part, np.zeros(1)).copy()
        values.flat[3] = value
        return replace(layer, **{part: values})

    layers = tuple(spoiled(one) if one.name == name else one for one in model.layers)
    other = replace(model, layers=layers)
    assert stem.fits(plan_network(model), model)
    assert stem.fits(plan_network(other), other) is taken


@pytest.mark.parametrize(("channels", "size", "taken"), [
    ((32, 16), (300, 300), True), ((32, 16), (20, 60), True), ((32, 16), (300, 52), False),
    ((40, 16), (300, 300), False),
    ((32, 40), (300, 300), False), ((32, 16), (302, 300), False), ((24, 32), (64, 64), True),
])  # fmt: skip
def test_what_begins_as_mobilenet_v2(channels, size, taken):
    _, model, _ = front(channels, size)
    assert stem.fits(plan_network(model), model) is taken


V1, V2 = ((32, 64, 128), (24, 48, 96), (8, 16, 32)), ((32, 16), (24, 16), (16, 8), (32, 24))


@pytest.mark.parametrize("channels", [*V1, *V2])
@pytest.mark.parametrize("size", [(300, 300), (256, 256), (64, 124)])
@pytest.mark.parametrize("batch", [3, 5])  # strips are narrower for a few pictures
@needs_gpu
def test_it_is_its_steps(bench, channels, size, batch):  # noqa: F811
    _, model, _ = front(channels, size)
    plan = plan_network(model)
    assert stem.fits(plan, model)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (batch, *size, 3), dtype=np.uint8)
    memory = Memory(plan, batch)
    image = memory.view(plan.image)
    image[...] = 0
    image[..., :3] = pixels * np.float32(2 / 255) - 1
    for step in plan.steps[: stem.steps(plan)]:
        run_step(step, memory)
    wanted = memory.view(plan.steps[stem.steps(plan) - 1].target)
    source = bench.memory(pixels.tobytes())
    table = (ends.PictureStruct * batch)()
    for index in range(batch):
        table[index].pixels = source.address + index * pixels[0].size
    pictures = bench.memory(bytes(table))
    slots = [bench.memory(np.full((batch, n), np.nan, np.float16).tobytes()) for n in plan.slots]
    constants = Constants()
    places = Addresses(tuple(one.address for one in slots), 0)
    stem.launch(Builder(plan, batch, places, constants), model, pictures.address)
    weights = bench.memory(constants.data())
    places = replace(places, constants=weights.address)
    bench.run([stem.launch(Builder(plan, batch, places, constants), model, pictures.address)])
    view = plan.steps[stem.steps(plan) - 1].target
    slot = slots[plan.slot_of[view.buffer]]
    shape = (batch, view.height, view.width, view.stride)
    found = bench.read(slot.address, shape, np.float16)[..., : view.channels].astype(np.float32)
    error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    assert error < 4e-3

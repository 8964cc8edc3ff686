"""The first convolution from bytes is what resizing them to their own size and the first step of a plan make."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from engines.cuda.gpu import Bench, bench, needs_gpu  # noqa: F401
from ssdrt.engines.cuda import bytes_in, ends, first, stem
from ssdrt.engines.cuda.executor import Memory, run_step
from ssdrt.engines.cuda.launch import Builder, Constants
from ssdrt.engines.cuda.launch import Memory as Addresses
from ssdrt.engines.cuda.plan import Convolution, Finish, HeadLayout, Plan, View
from ssdrt.engines.cuda.planner import plan_network
from tiny_ssd import tiny_ssd

HALF = (("mul", 2 / 255), ("sub", 1.0))
MEANS = (("sub", (123.68, 116.779, 103.939)),)
CASES = [
    ((300, 300), 3, (0, 0, 1, 1), 32, "relu6", HALF),
    ((320, 320), 3, (0, 0, 1, 1), 16, "hard_swish", HALF),
    ((241, 416), 3, (1, 0, 1, 1), 32, "relu6", HALF),
    ((35, 44), 3, (1, 1, 1, 1), 24, "relu", HALF),
    ((20, 28), 5, (1, 2, 2, 2), 40, "relu6", HALF),
    ((64, 96), 7, (3, 3, 3, 3), 64, "relu", MEANS),
    ((41, 68), 7, (2, 2, 3, 3), 64, "swish", MEANS),
    ((2, 4), 3, (0, 0, 1, 1), 8, "none", HALF),
    ((33, 36), 3, (1, 1, 1, 1), 16, "relu6", MEANS),
]
"""Size, window, border, columns, activation, normalisation."""


def begins(size, window, pads, columns, activation, normalisation):
    """A plan of one step, and as much of its model as the kernel asks for."""
    random = np.random.default_rng(columns + window)
    height, width = ((size[i] + pads[i] + pads[i + 2] - window) // 2 + 1 for i in (0, 1))
    weights = np.zeros((window, window, 8, columns), np.float32)
    weights[:, :, :3] = random.normal(0, (3 * window * window) ** -0.5, (window, window, 3, columns))
    weights = (weights / (64 if normalisation is MEANS else 1)).astype(np.float16).astype(np.float32)
    bias = random.normal(0, 0.5, columns).astype(np.float32)
    views = View(0, *size, 8, 8), View(1, height, width, columns, columns + 16, 8)
    step = Convolution("f", *views, weights, bias, (2, 2), pads, (1, 1), Finish(activation))
    sizes = (size[0] * size[1] * 8, height * width * (columns + 16))
    plan = Plan(views[0], (step,), HeadLayout(0, 0, 8, 8, 0, 0, 0), sizes, sizes, (0, 1))
    return plan, normalised(replace(tiny_ssd(), input_size=size), normalisation)


def normalised(model, operations):
    """The model, with another normalisation."""
    every = tuple(SimpleNamespace(operation=name, operand=by) for name, by in operations)
    preprocessing = replace(model.preprocessing, normalisation=replace(model.preprocessing.normalisation, value=every))
    return replace(model, preprocessing=preprocessing)


def wanted_of(plan, pixels, normalisation):
    """The resizer and the first step by numpy: fp16 between them."""
    memory, image = Memory(plan, len(pixels)), pixels.astype(np.float32)
    for name, by in normalisation:
        image = image * np.float32(by) if name == "mul" else image - np.asarray(by, np.float32)
    memory.view(plan.image)[...] = 0
    memory.view(plan.image)[..., :3] = image.astype(np.float16)
    run_step(plan.steps[0], memory)
    return memory._slots[1]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("case", CASES)
@needs_gpu
def test_it_is_the_resizer_and_its_step(bench, case, batch):  # noqa: F811
    plan, model = begins(*case)
    assert first.fits(plan, model)
    pixels = np.random.default_rng(1).integers(0, 256, (batch, *case[0], 3), dtype=np.uint8)
    wanted = wanted_of(plan, pixels, case[-1])
    each = -(-pixels[0].size // 16) * 16
    source = bench.memory(b"".join(one.tobytes().ljust(each, b"\0") for one in pixels))
    table = (ends.PictureStruct * batch)()
    for index in range(batch):
        table[index].pixels = source.address + index * each
    pictures, target = bench.memory(bytes(table)), bench.memory(np.full(wanted.shape, np.nan, np.float16).tobytes())
    constants, places = Constants(), Addresses((0, target.address), 0)
    first.launch(Builder(plan, batch, places, constants), model, pictures.address)
    weights = bench.memory(constants.data())
    places = replace(places, constants=weights.address)
    bench.run([first.launch(Builder(plan, batch, places, constants), model, pictures.address)])
    found = bench.read(target.address, wanted.shape, np.float16).astype(np.float32)
    assert (np.isnan(found) == np.isnan(wanted)).all(), "wrote elsewhere, or not everything"
    inside = ~np.isnan(wanted)
    assert np.linalg.norm((found - wanted)[inside]) < 5e-4 * np.linalg.norm(wanted[inside])


@pytest.mark.parametrize(
    ("operations", "taken"),
    [
        (HALF, True),
        (MEANS, True),
        ((), True),
        ((("div", 127.5), ("sub", 1.0)), True),
        ((("sub", -1e6), ("mul", 1e-3), ("sub", 1000.0)), False),  # rounded otherwise
        ((("mul", 1e9),), False),  # beyond fp16
    ],
)
def test_bytes_are_normalised_to_the_same_numbers_or_not_at_all(operations, taken):
    line = first.line_of(normalised(tiny_ssd(), operations))
    assert (line is not None) is taken
    if taken:
        every = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, 1)
        wanted = every
        for name, by in operations:
            part = np.asarray(by, np.float32)
            wanted = {"mul": wanted * part, "div": wanted / part, "sub": wanted - part}[name]
        np.testing.assert_array_equal((every * line[0] + line[1]).astype(np.float16), wanted.astype(np.float16))


def test_what_it_does_not_compute_is_left_to_other_kernels():
    plan, model = begins(*CASES[0])
    assert first.fits(plan, model)
    step = plan.steps[0]
    others = (
        replace(plan, steps=(replace(step, strides=(1, 1)),)),
        replace(plan, steps=(step, step)),  # somebody else reads the picture
        replace(
            plan, image=replace(plan.image, width=298), steps=(replace(step, source=replace(step.source, width=298)),)
        ),
        replace(plan, steps=(replace(step, finish=Finish("relu6", residual=step.target)),)),
    )
    assert not any(first.fits(one, model) for one in others)


def test_a_resizer_that_changes_pictures_of_that_size_reads_no_bytes():
    """1:1 pictures that keep their aspect are made smaller, if the shorter side may be 20 only."""
    model = tiny_ssd()
    plan = plan_network(model)
    before = bytes_in.front_of(plan, model)
    resizer = replace(model.preprocessing.resizer.value, kind="keep_aspect", height=20, width=max(model.input_size))
    resizers = replace(model.preprocessing.resizer, value=resizer)
    other = replace(model, preprocessing=replace(model.preprocessing, resizer=resizers))
    assert before in (first, stem)
    assert bytes_in.front_of(plan, other) is None

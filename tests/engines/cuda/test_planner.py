"""The planner's steps, run by numpy in the memory that it planned, are the network."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from recorded import GRAPHS, model_of
from ssdrt.engines import reference
from ssdrt.engines.cuda.executor import run_plan
from ssdrt.engines.cuda.plan import Chain, Convolution, Depthwise, between, reads
from ssdrt.engines.cuda.planner import plan_network
from ssdrt.engines.cuda.tactics import Device, Tactic
from ssdrt.engines.cuda.tuner import best_pair, choices_of, improve
from ssdrt.model import Concat, Conv, DepthwiseConv
from ssdrt.postprocess import convert_scores
from tiny_ssd import tiny_pixels, tiny_ssd

CHAINS = {
    "ssd_mobilenet_v1_90_od2020": 2,
    "ssd_mobilenet_v1_05_keepaspect_8_od2020": 1,
    "ssd_mobilenet_v2_90_od2019": 0,
}
SMALL = 16_000_000  # bytes of graphs whose plans are run; of larger ones the plan is only made


def normalised(model, pixels):
    for one in model.preprocessing.normalisation.value:
        operation = {"mul": np.multiply, "add": np.add, "sub": np.subtract, "div": np.divide}[one.operation]
        pixels = operation(pixels, one.operand)
    return pixels.astype(np.float32)


def check(model, pixels):
    plan = plan_network(model)
    boxes, logits = run_plan(plan, normalised(model, pixels))
    converter = model.score_converter
    left = converter.background.value if plan.head.columns > model.num_classes.value else "none"
    scores = convert_scores(logits, converter.function.value, 1.0, left)
    wanted_boxes, wanted_scores = reference.load(model, b"", "fp32", 1).infer(pixels)
    np.testing.assert_allclose(boxes, wanted_boxes, atol=3e-3)
    np.testing.assert_allclose(scores, wanted_scores, atol=1e-3)
    return plan


@pytest.mark.parametrize(
    "converter",
    [("sliced_after",), ("sliced_before", "softmax", 2.0), ("sliced_after", "softmax"), ("none", "identity")],
)
def test_every_kind_of_layer(converter):
    check(tiny_ssd(*converter), tiny_pixels(2))


def test_boxes_and_scores_that_read_different_values_have_their_own_rows():
    model = tiny_ssd()
    layers = tuple(replace(layer, inputs=("clipped",)) if layer.name == "boxes_0" else layer for layer in model.layers)
    plan = check(replace(model, layers=layers), tiny_pixels(1))
    assert plan.head.logits_buffer != plan.head.boxes_buffer


def test_channels_that_fill_no_access_leave_holes_which_nothing_reads():
    random = np.random.default_rng(4)

    def weights(*shape):
        return random.normal(0, 0.3, shape).astype(np.float32)

    model = tiny_ssd()
    extra = (
        Conv("five", ("conv/relu6",), weights(1, 1, 8, 5), weights(5), (1, 1), (0, 0, 0, 0)),
        Conv("three", ("conv/relu6",), weights(1, 1, 8, 3), weights(3), (1, 1), (0, 0, 0, 0)),
        Concat("eight", ("five", "three", "five")),
        DepthwiseConv("odd", ("eight",), weights(3, 3, 13, 1), weights(13), (1, 1), (1, 1, 1, 1)),
        Conv("back", ("odd",), weights(1, 1, 13, 8), weights(8), (1, 1), (0, 0, 0, 0)),
    )
    layers = []
    for layer in model.layers:
        layers.append(replace(layer, inputs=("back",)) if layer.name == "depthwise" else layer)
        if layer.name == "conv/relu6":
            layers += extra
    check(replace(model, layers=tuple(layers)), tiny_pixels(1))


@pytest.mark.skipif(not GRAPHS, reason="no graphs: ../shared is not there")
@pytest.mark.parametrize("entry", GRAPHS, ids=lambda entry: entry["name"])
def test_graphs(entry):
    model = model_of(entry["name"])
    if entry["bytes"] < SMALL:
        pixels = np.random.default_rng(1).uniform(0, 255, (1, *model.input_size, 3)).astype(np.float32)
        plan = check(model, pixels)
    else:
        plan = plan_network(model)
    kinds = Counter(type(step).__name__ for step in plan.steps)
    assert kinds["Chain"] == CHAINS.get(entry["name"], kinds["Chain"])
    products = sum(isinstance(layer, (Conv, DepthwiseConv)) for layer in model.layers)
    assert kinds["Convolution"] + kinds["Depthwise"] <= products
    assert sum(plan.slots) < 0.7 * sum(plan.buffers)
    written = {plan.image.buffer}
    for step in plan.steps:
        assert all(view.buffer in written for view in reads(step))
        assert isinstance(step, (Convolution, Depthwise)) or step.target.channels % 8 == 0
        written |= {view.buffer for view in (step.target, *between(step))}
    predictions = {plan.head.logits_buffer, plan.head.boxes_buffer}
    for index, step in enumerate(plan.steps):
        if step.target.buffer in predictions:  # it may run beside all that follow
            needed = {plan.slot_of[view.buffer] for view in (*reads(step), *between(step))}
            later = [view for one in plan.steps[index + 1 :] for view in (one.target, *between(one))]
            assert needed.isdisjoint(plan.slot_of[view.buffer] for view in later)


def test_the_fastest_first_kernel_meets_the_fastest_second_one():
    a, b, c, d = (Tactic(name) for name in "abcd")
    pairs = {Tactic("apart", inner=pair): time for pair, time in (((a, b), 5.0), ((a, c), 3.0), ((d, b), 4.0))}
    assert best_pair({**pairs, Tactic("together"): 1.0}) == Tactic("apart", inner=(d, c))
    assert best_pair({**pairs, Tactic("apart", inner=(d, c)): 2.0}) is None
    assert best_pair({Tactic("together"): 1.0}) is None


@pytest.mark.skipif(not GRAPHS, reason="no graphs: ../shared is not there")
def test_out_of_time_a_chain_takes_the_parts_that_were_measured():
    plan = plan_network(model_of("ssd_mobilenet_v1_90_od2020"))
    index = next(index for index, step in enumerate(plan.steps) if isinstance(step, Chain))
    parts = [f"{index} first", f"{index} second"]
    for choice in choices_of(plan, Device("sm_90a", 132, 232448)).values():
        fastest = {key: candidates[0] for key, (_, candidates) in choice.items()}
        slow = {key: candidates[-1] for key, (_, candidates) in choice.items()}  # by the rules of thumb
        measured = []

        def measure(key, candidates, slow=slow, measured=measured):
            measured.append(key)
            return {one: float(one != slow[key]) for one in candidates} if key in parts else {}

        improve(fastest, choice, measure, lambda _: None)
        assert [fastest[part] for part in parts] == [slow[part] for part in parts]
        assert str(index) in measured
        whole = fastest[str(index)]
        assert whole.kernel == choice[str(index)][1][0].kernel
        assert whole.kernel == "chained" or list(whole.inner) == [slow[part] for part in parts]

"""Detections that are made behind a TensorRT plan: on stand-ins, and with TensorRT itself where there is a GPU."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from dlpack_capsules import on_gpu
from gpu_stand_in import StandInDevice, StandInKernels, stand_in_engine, stand_in_library, stand_in_plan
from ssdrt.engines import tensorrt
from ssdrt.engines.cuda import compiler, ends
from ssdrt.engines.tensorrt import suppression
from ssdrt.engines.tensorrt.builder import BuildOptions, candidate_count
from ssdrt.engines.tensorrt.plan_file import kernels_of, pack, unpack
from ssdrt.errors import EngineError, MissingExtra, OutOfMemory
from ssdrt.pipeline import graph_parameters
from ssdrt.postprocess import decode_boxes, non_max_suppression
from ssdrt.preprocess import clip_window, to_network
from tiny_ssd import HEIGHT, WIDTH, fact, tiny_ssd

WHY_NOT = tensorrt.unavailable()


def pictures(count, seed=0, size=None):
    random = np.random.default_rng(seed)
    sizes = [size or random.integers(10, 90, 2) for _ in range(count)]
    return [random.integers(0, 256, (*one, 3)).astype(np.uint8) for one in sizes]


def with_kernels(model, device=None, leaves=(), **options):
    device = device or StandInDevice()
    kernels = StandInKernels(device, leaves)
    return stand_in_engine(model, device=device, kernels=kernels, **options), kernels


def expected(model, engine, images, parameters):
    """What the host finds in the engine's own predictions, of the batches in which it detects."""
    resizer = model.preprocessing.resizer.value
    encodings, scores = engine.infer(np.stack([to_network(image, resizer) for image in images]))
    for image, code, score in zip(images, encodings, scores, strict=True):
        boxes = decode_boxes(code, model.anchors.value, model.box_coder.scales.value)
        yield non_max_suppression(boxes, score, parameters, clip_window(model, *image.shape[:2]))


def compare(found, wanted):
    total = 0
    for one, other in zip(found, wanted, strict=True):
        for value, there in zip(one, other, strict=True):
            np.testing.assert_array_equal(value, there)
        total += len(one[1])
    assert total > 0


PARAMETERS = [
    ({}, True),
    ({"score_threshold": 0.5}, True),
    ({"score_threshold": np.array([0.4, 0.5, np.inf], np.float32), "iou_threshold": 0.2}, True),
    ({"max_total": 5, "score_threshold": 0.3}, True),
    ({"max_per_class": 2}, True),
    ({"max_total": 400}, False),
    ({"class_agnostic": True}, False),
    ({"soft_nms_sigma": 0.5}, False),
]


@pytest.mark.parametrize(("changes", "on_gpu"), PARAMETERS, ids=str)
def test_detections_are_those_of_all_scores_whatever_the_parameters(changes, on_gpu):
    model, images = tiny_ssd(), pictures(3)
    parameters = replace(graph_parameters(model), **changes)
    engine, kernels = with_kernels(model, batch=(1, 2, 2))
    compare(engine.detect(images, parameters), expected(model, engine, images, parameters))
    assert (engine.pictures, engine.shortages) == (3, 0 if on_gpu else 3)
    assert bool(kernels.pictures) == on_gpu


@pytest.mark.parametrize(
    "nms", [{"class_agnostic": True}, {"clip": "before"}, {"change_coordinate_frame": True}], ids=str
)
def test_every_kind_of_suppression_that_the_kernels_know(nms):
    model, images = tiny_ssd(**nms), pictures(3)
    engine, _ = with_kernels(model, batch=(1, 4, 4))
    parameters = replace(graph_parameters(model), score_threshold=0.3)
    compare(engine.detect(images, parameters), expected(model, engine, images, parameters))
    assert engine.shortages == 0


@pytest.mark.parametrize("batch", [(1, 1, 1), (1, 4, 8), (3, 5, 7), (16, 16, 16)])
@pytest.mark.parametrize("count", [1, 3, 20])
def test_batches_of_any_size_in_any_order(batch, count):
    model = tiny_ssd()
    engine, kernels = with_kernels(model, batch=batch)
    for seed, threshold in enumerate((0.3, 0.45, 0.3)):
        parameters = replace(graph_parameters(model), score_threshold=threshold)
        images = pictures(count, seed)
        compare(engine.detect(images, parameters), expected(model, engine, images, parameters))
    assert all(batch[0] <= size <= batch[2] for size in kernels.pictures)
    assert engine.shortages == 0


def test_boxes_are_clipped_to_where_each_picture_lies():
    model = tiny_ssd()
    resizer = replace(model.preprocessing.resizer.value, kind="keep_aspect_ratio", pad=True, height=WIDTH, width=WIDTH)
    model = replace(model, preprocessing=replace(model.preprocessing, resizer=fact(resizer)))
    parameters = replace(graph_parameters(model), score_threshold=0.3)
    device = StandInDevice()
    kernels = StandInKernels(device)
    lane = object()
    device.streams.add(lane)
    at_work = suppression.Suppression(device, lane, kernels, model, 2, (0, 0))
    for sizes in ([(30, 60), (60, 30)], [(60, 30), (30, 60)], [(50, 50)]):
        at_work.prepare(parameters, sizes)
        sent = np.frombuffer(device.memory[at_work._memory], np.float32)[at_work._layout.windows // 4 :]
        wanted = np.array([clip_window(model, *one) for one in sizes], np.float32)
        np.testing.assert_array_equal(sent[: wanted.size].reshape(-1, 4), wanted)
    at_work.close()
    assert device.memory == {}


def test_pictures_that_the_kernels_leave_go_to_the_host():
    model, images = tiny_ssd(), pictures(4)
    parameters = replace(graph_parameters(model), score_threshold=0.3)
    engine, _ = with_kernels(model, leaves=(1, 2), batch=(4, 4, 4))
    compare(engine.detect(images, parameters), expected(model, engine, images, parameters))
    assert (engine.pictures, engine.shortages) == (4, 2)


def test_thresholds_are_sent_when_they_change_and_only_then():
    model, images, device = tiny_ssd(), pictures(2), StandInDevice()
    engine, _ = with_kernels(model, device=device, batch=(2, 2, 2))
    sent, send = [], device.to_device
    device.to_device = lambda target, source, stream: (sent.append(source.nbytes), send(target, source, stream))
    thresholds = np.full(model.num_classes.value, 0.3, np.float32)
    counts = []
    for changed in (0.3, 0.3, 0.4, thresholds, thresholds, 0.4):
        parameters = replace(graph_parameters(model), score_threshold=changed)
        sent.clear()
        compare(engine.detect(images, parameters), expected(model, engine, images, parameters))
        counts.append(sum(size < 1000 for size in sent))
        thresholds += np.float32(0.01)
    assert counts == [1, 0, 1, 1, 1, 1]


def test_a_graph_a_kind_and_batch_size():
    model, device = tiny_ssd(), StandInDevice()
    engine, _ = with_kernels(model, device=device, batch=(1, 4, 4))
    soft = replace(graph_parameters(model), soft_nms_sigma=0.5)
    for _ in range(2):
        for count in (1, 3):
            engine.detect(pictures(count), graph_parameters(model))
            engine.detect(pictures(count), soft)
    assert len(device.graphs) == 4
    engine.close()
    assert (device.memory, device.streams, device.graphs, device.closed) == ({}, set(), set(), True)


def test_pinned_pictures_and_those_on_the_gpu():
    device, model = StandInDevice(), tiny_ssd()
    engine, _ = with_kernels(model, device=device, batch=(1, 4, 4), pixels="uint8")
    there = device.pinned((3, HEIGHT, WIDTH, 3), np.dtype(np.uint8))
    there[...] = pictures(3, size=(HEIGHT, WIDTH))
    parameters = replace(graph_parameters(model), score_threshold=0.3)
    wanted = list(expected(model, engine, list(there), parameters))
    compare(engine.detect(list(there), parameters), wanted)
    compare(engine.detect([one.copy() for one in there], parameters), wanted)
    compare(engine.detect_on_gpu(on_gpu(there), parameters), wanted)
    assert engine.shortages == 0


def test_four_threads_on_two_lanes():
    model = tiny_ssd()
    engine, _ = with_kernels(model, streams=2, batch=(1, 2, 2))
    images = pictures(8)
    some = [replace(graph_parameters(model), score_threshold=threshold) for threshold in (0.3, 0.4, 0.5)]
    alone = [[engine.detect([image], one)[0] for one in some] for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda index: engine.detect([images[index % 8]], some[index % 3]), range(60)))
    compare([one for found in together for one in found], [alone[index % 8][index % 3] for index in range(60)])


@pytest.mark.parametrize("error", [EngineError, KeyboardInterrupt])
def test_of_a_call_that_is_broken_off_nothing_is_left(error):
    model, device = tiny_ssd(), StandInDevice()
    engine, kernels = with_kernels(model, device=device, batch=(1, 2, 2))
    images, parameters = pictures(2), replace(graph_parameters(model), score_threshold=0.3)
    waited, put = [], kernels.put
    device.synchronize = waited.append

    def half(launches, stream):  # noqa: ARG001
        kernels.count(launches[0].parameters)
        raise error("broken off")

    kernels.put = half
    with pytest.raises(error, match="broken off"):
        engine.detect(images, parameters)
    assert (len(waited), device.depth) == (1, 0)
    kernels.put = put
    compare(engine.detect(images, parameters), expected(model, engine, images, parameters))
    assert engine.shortages == 0


def test_submitted_calls_keep_their_thresholds():
    model = tiny_ssd()
    engine, _ = with_kernels(model, streams=2, batch=(1, 2, 2))
    images = pictures(9)
    some = [replace(graph_parameters(model), score_threshold=threshold) for threshold in (0.3, 0.4, 0.5)]
    wanted = [engine.detect(images[: 1 + index], some[index % 3]) for index in range(9)]
    begun = [engine.submit(images[: 1 + index], some[index % 3]) for index in range(9)]
    for one, other in zip(begun, wanted, strict=True):
        compare(one.result(), other)
    assert engine.shortages == 0


@pytest.mark.parametrize("at", range(8))
def test_a_load_that_finds_no_room_keeps_nothing(at):
    device = StandInDevice(room=at)
    kernels = StandInKernels(device)
    try:
        engine = stand_in_engine(tiny_ssd(), device=device, streams=2, kernels=kernels)
    except OutOfMemory:
        assert (device.memory, device.streams, device.closed, kernels.closed) == ({}, set(), True, True)
    else:
        engine.close()
        assert (device.memory, kernels.closed) == ({}, True)


# --- which plan gets them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kernels", "count"),
    [
        ({}, True, 0),
        ({}, False, 256),
        ({"bare": True}, True, 256),
        ({"portable": True}, True, 256),
        ({"gpus": ("SM89",)}, True, 256),
        ({"candidates": 300}, True, 300),
    ],
)
def test_candidates_are_left_out_where_nobody_needs_them(options, kernels, count):
    assert candidate_count(tiny_ssd(), BuildOptions(**options), kernels) == count


def test_machine_code_travels_with_a_plan():
    facts, plan = unpack(stand_in_plan(tiny_ssd()))
    data = pack(facts, plan, b"machine code")
    assert (kernels_of(data), unpack(data)) == (b"machine code", (replace(facts, kernels=12), plan))
    assert kernels_of(pack(facts, plan)) == b""
    ours, bare = tensorrt.split_plan(data)
    assert bare == plan
    assert kernels_of(ours + bare) == b"machine code"


class OnlyDevice:
    """As `cuda.driver.Gpu` of a machine whose GPU is only asked what it is."""

    def __init__(self, device):
        self._device = device

    def device(self):
        return self._device


def gpu_of(architecture, shared=99 << 10):
    from ssdrt.engines.cuda.tactics import Device

    return OnlyDevice(Device(architecture, 20, shared))


@pytest.mark.parametrize(
    ("changes", "gpu", "why"),
    [
        ({}, gpu_of("sm_86"), ""),
        ({}, gpu_of("sm_75", 64 << 10), ""),
        ({}, gpu_of("sm_70"), "a GPU of sm_70"),
        ({"soft_nms_sigma": 0.5}, gpu_of("sm_86"), "soft NMS"),
        ({"clip": "before", "change_coordinate_frame": True}, gpu_of("sm_86"), "in the frame of the window"),
    ],
)
def test_what_the_kernels_do_not_do_is_the_hosts(changes, gpu, why):
    assert why in suppression.why_not(tiny_ssd(**changes), gpu)
    assert bool(suppression.why_not(tiny_ssd(**changes), gpu)) == bool(why)


def test_too_many_classes_are_the_hosts():
    model = replace(tiny_ssd(), num_classes=fact(5000))
    assert "5000 classes" in suppression.why_not(model, gpu_of("sm_90a", 227 << 10))


def test_kernels_are_compiled_for_the_gpu_and_say_so():
    pytest.importorskip("cuda.bindings.nvrtc")
    facts, code, _ = compiler.load_code(suppression.compiled(tiny_ssd(), gpu_of("sm_86")))
    assert facts == {"architecture": "sm_86", "kernels": compiler.digest()}
    assert set(code) == set(ends.suppression_kernels(tiny_ssd(), "wide scores"))
    with pytest.raises(EngineError, match="do not know soft NMS"):
        suppression.compiled(tiny_ssd(soft_nms_sigma=0.5), gpu_of("sm_86"))


def test_without_the_compiler_suppression_stays_on_the_host_and_a_plan_that_counts_on_it_says_so(monkeypatch, caplog):
    def missing():
        raise MissingExtra("NVIDIA's compiler (libnvrtc) is not installed: pip install 'ssdrt[cuda]'")

    compiler._kept.cache_clear()
    monkeypatch.setattr(compiler, "open_nvrtc", missing)
    monkeypatch.setattr(suppression, "Gpu", lambda _index: gpu_of("sm_86"))
    caplog.set_level(logging.INFO, "ssdrt")
    assert suppression.for_build(tiny_ssd()) == b""
    assert "libnvrtc" in caplog.text
    old = compiler.dump_code({"architecture": "sm_86", "kernels": "of another version"}, {}, b"")
    facts, plan = unpack(stand_in_plan(tiny_ssd(), kernels=b"some"))
    for data, level in ((pack(facts, plan, old), "WARNING"), (stand_in_plan(tiny_ssd()), "INFO")):
        caplog.clear()
        assert suppression.for_plan(tiny_ssd(), data) is None
        assert [one.levelname for one in caplog.records] == [level]
        assert "ssdrt[cuda]" in caplog.text


def test_a_plan_without_candidates_and_without_kernels_looks_at_all_scores():
    model, images, device = tiny_ssd(), pictures(3), StandInDevice()
    facts, plan = unpack(stand_in_plan(model, kernels=b"some", batch=(1, 2, 2)))
    engine = tensorrt.TensorrtEngine(stand_in_library(device), device, model, facts, plan, 1)
    parameters = replace(graph_parameters(model), score_threshold=0.3)
    compare(engine.detect(images, parameters), expected(model, engine, images, parameters))
    assert (engine.pictures, engine.shortages) == (3, 3)


# --- with TensorRT and a GPU ------------------------------------------------------------------------------------------


@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
@pytest.mark.parametrize("converter", ["sigmoid", "softmax", "identity"])
@pytest.mark.parametrize("nms", [{}, {"class_agnostic": True}, {"clip": "before"}], ids=str)
def test_on_a_gpu_detections_are_those_of_all_scores(converter, nms):
    model = tiny_ssd("none", converter, **nms)
    plan = tensorrt.build(model, "fp32", batch=(1, 4, 40), level=0)
    engine = tensorrt.load(model, plan, "fp32", 2)
    assert engine.suppresses
    assert unpack(plan)[0].candidates == 0
    for count in (1, 2, 3, 9, 40):
        for threshold in (0.4, 0.05, 0.0):
            images = pictures(count, count)
            parameters = replace(graph_parameters(model), score_threshold=threshold)
            compare(engine.detect(images, parameters), expected(model, engine, images, parameters))
    assert engine.shortages == 0
    engine.close()

"""The TensorRT engine without a GPU: plans and their headers, lanes on stand-ins, and NVIDIA's own builder for RTX."""

import logging
import re
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from dlpack_capsules import on_gpu
from gpu_stand_in import (
    StandInDevice,
    plan_bytes,
    stand_in_engine,
    stand_in_library,
    stand_in_plan,
)
from int8_scales import measured_scales
from ssdrt.bundle import Bundle, save_bundle
from ssdrt.engines import reference, tensorrt
from ssdrt.engines.base import does_submit
from ssdrt.engines.tensorrt.builder import BuildOptions, build_plan, network_bytes
from ssdrt.engines.tensorrt.inspection import read_layers
from ssdrt.engines.tensorrt.library import Messages, find_library, open_library
from ssdrt.engines.tensorrt.plan_file import check_plan, pack, read_header, unpack
from ssdrt.engines.tensorrt.runtime import TensorrtEngine, check_facts
from ssdrt.errors import EngineError, ModelError, OutOfMemory
from ssdrt.pipeline import detect_pictures, graph_parameters
from ssdrt.postprocess import NmsParameters
from ssdrt.preparation import prepare, save_plan
from tiny_ssd import CLASSES, HEIGHT, WIDTH, tiny_pixels, tiny_ssd

PHOTO = np.random.default_rng(2).integers(0, 256, (30, 50, 3)).astype(np.uint8)


def rtx():
    """TensorRT for RTX, whose builder and parser need no GPU."""
    module = pytest.importorskip("tensorrt_rtx", reason="no tensorrt-rtx: pip install 'ssdrt[test-trt]'")
    return open_library(module, "tensorrt_rtx")


# --- plans ----------------------------------------------------------------------------------------------------------


def test_header_says_family_version_and_length():
    header = read_header(plan_bytes(b"network", (10, 16, 1, 11)))
    assert (header.family, header.version) == ("tensorrt", (10, 16, 1, 11))
    assert read_header(plan_bytes(b"", (1, 7, 1, 116), b"vtrt")).family == "tensorrt_rtx"


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (b"", "no TensorRT plan"),
        (b"\x7fELF" + bytes(100), "its first bytes are foreign"),
        (plan_bytes(b"network")[:20], "cut off within its header"),
        (plan_bytes(b"network")[:-1], "cut off: 34 of 35 bytes; build or copy it again"),
        (plan_bytes(b"network", tag=b"vtrt"), "of tensorrt_rtx 8.6.0, and tensorrt 8.6.0 is installed here"),
        (plan_bytes(b"network", (8, 5, 2, 2)), r"of TensorRT 8\.5\.2, and 8\.6\.0 is installed here.*build the model"),
    ],
)
def test_foreign_plans_are_told_apart_before_tensorrt_sees_them(plan, message):
    with pytest.raises(EngineError, match=message):
        check_plan(plan, "tensorrt", "8.6.0")


def test_a_portable_plan_runs_on_later_versions_too():
    check_plan(plan_bytes(b"network"), "tensorrt", "10.16.1.11", portable=True)
    with pytest.raises(EngineError, match="runs on its own only"):
        check_plan(plan_bytes(b"network"), "tensorrt", "8.5.2.2", portable=True)


@pytest.mark.parametrize(
    ("version", "capability", "portable", "taken"),
    [
        ("8.6.0", (8, 6), True, True),
        ("10.3.0", (8, 6), True, True),
        ("8.6.0", (8, 6), False, False),
        ("8.6.0", (7, 5), True, False),
        ("8.5.2", (8, 6), True, False),
    ],
)
def test_a_portable_file_is_taken_elsewhere_as_it_is(tmp_path, monkeypatch, version, capability, portable, taken):
    device = StandInDevice()
    device.name, device.capability = "other card", capability
    library = replace(stand_in_library(device), version=version)
    monkeypatch.setattr(tensorrt, "find_library", lambda: library)
    monkeypatch.setattr(tensorrt, "Card", lambda index: device if index == 0 else None)
    facts, plan = unpack(stand_in_plan(tiny_ssd()))
    data = pack(replace(facts, options={"portable": str(portable)}), plan)
    bundle = Bundle(tiny_ssd(), "tensorrt", "fp32", "tensorrt 8.6.0, stand-in, compute capability 9.0", data, "", b"")
    save_bundle(bundle, tmp_path / "model.ssdrt")
    save_plan(bundle, tmp_path / "model.engine")
    if taken:
        assert prepare(tmp_path / "model.ssdrt").bundle.plan == prepare(tmp_path / "model.engine").bundle.plan == data
    else:
        with pytest.raises(
            EngineError, match=r"this is tensorrt .*other card.*: build the model again on this machine"
        ):
            prepare(tmp_path / "model.engine")


@pytest.mark.parametrize(
    ("told", "advice"),
    [
        ("Error Code 1: Cuda Runtime (out of memory)", "the GPU's memory is full"),
        ("Error Code 2: OutOfMemory (no further information)", "the GPU's memory is full"),
        ("Error Code 4: expecting compute 8.9 got compute 9.0", "built for stand-in, this is stand-in: build the"),
    ],
)
def test_why_a_plan_does_not_load_decides_what_to_do(told, advice):
    device = StandInDevice()
    library = stand_in_library(device)
    facts, plan = unpack(stand_in_plan(tiny_ssd()))

    def refuse(_plan):
        library.messages.add(told)

    runtime = SimpleNamespace(deserialize_cuda_engine=refuse)
    library.api.Runtime = lambda _logger: runtime
    with pytest.raises(EngineError, match=re.escape(advice)):
        TensorrtEngine(library, device, tiny_ssd(), facts, plan, 1)


@pytest.mark.parametrize("at", range(9))
def test_a_load_that_finds_no_room_keeps_nothing(at):
    device, model = StandInDevice(room=at), tiny_ssd()
    try:
        engine = stand_in_engine(model, device=device, streams=2)
    except OutOfMemory:
        assert (device.memory, device.streams, device.depth, device.closed) == ({}, set(), 0, True)
    else:
        assert at >= len(device.memory)
        assert (device.depth, device.closed) == (0, False)
        engine.close()


def test_threads_keep_the_context_that_they_had():
    device = StandInDevice()
    engine = stand_in_engine(tiny_ssd(), device=device)
    assert device.depth == 0
    engine.infer(tiny_pixels(1))
    with engine._lanes.one():
        assert device.depth == 1
    assert device.depth == 0
    with pytest.raises(EngineError, match="must be"):
        engine.infer(on_gpu(tiny_pixels(1).astype(np.uint8)))
    assert device.depth == 0
    engine.close()
    assert device.depth == 0


def test_facts_travel_with_a_plan():
    facts, plan = unpack(stand_in_plan(tiny_ssd(), batch=(1, 2, 4)))
    assert (facts.batch, facts.precision, facts.capability, facts.candidates) == ((1, 2, 4), "fp32", (9, 0), 256)
    assert unpack(pack(facts, plan)) == (facts, plan)
    assert tensorrt.split_plan(pack(facts, plan))[1] == plan
    with pytest.raises(EngineError, match="no plan that ssdrt built"):
        unpack(plan)
    with pytest.raises(EngineError, match="facts before this plan cannot be read"):
        unpack(pack(facts, plan)[:40])


def test_a_plan_of_another_model_is_refused():
    facts, plan = unpack(stand_in_plan(tiny_ssd()))
    model = tiny_ssd()
    other = replace(model, anchors=replace(model.anchors, value=model.anchors.value + 1))
    check_facts(facts, plan, model, stand_in_library(None))
    with pytest.raises(EngineError, match="its anchors are others"):
        check_facts(facts, plan, other, stand_in_library(None))


def test_layers_are_read_from_what_the_inspector_says():
    text = """{"Layers": ["plain", {"Name": "a\n+ b", "LayerType": "CaskConvolution", "TacticName": "sm80_x",
        "Outputs": [{"Name": "c", "Dimensions": [1, 8], "Format/Datatype": "Half"}]}], "Bindings": []}"""
    plain, conv = read_layers(text.replace("\\n", "\n"))
    assert (plain.name, plain.kind) == ("plain", "")
    assert (conv.kind, conv.tactic, conv.outputs) == ("CaskConvolution", "sm80_x", ("c 1x8 Half",))


# --- at work, on stand-ins ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 3, 9])
def test_infer_equals_the_reference_in_batches_of_any_size(batch):
    engine = stand_in_engine(tiny_ssd(), batch=(1, 2, 4))
    found, expected = engine.infer(tiny_pixels(batch)), reference.ReferenceEngine(tiny_ssd()).infer(tiny_pixels(batch))
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-5)
        assert value.flags.writeable


PARAMETERS = [
    {},
    {"score_threshold": 0.5},
    {"score_threshold": np.array([0.4, 0.5, np.inf], np.float32), "iou_threshold": 0.2},
    {"max_total": 5, "score_threshold": 0.99},
    {"max_total": 400},
    {"class_agnostic": True},
    {"soft_nms_sigma": 0.5},
    {"max_per_class": 2},
]


@pytest.mark.parametrize("changes", PARAMETERS, ids=str)
@pytest.mark.parametrize("candidates", [20, 540])
def test_detect_is_infer_and_nms_whatever_the_parameters(changes, candidates):
    model, pictures = tiny_ssd(), [PHOTO, PHOTO[::-1], np.zeros((HEIGHT, WIDTH, 3), np.uint8)]
    parameters = replace(graph_parameters(model), **changes)
    engine = stand_in_engine(model, candidates=candidates, batch=(1, 2, 2))
    found = detect_pictures(model, engine, pictures, parameters, model.labels.value)
    whole = reference.ReferenceEngine(model)
    expected = detect_pictures(model, whole, pictures, parameters, model.labels.value)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.class_ids, other.class_ids)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-2)
    assert engine.pictures == 3
    assert engine.shortages == 0 or candidates == 20 or "class_agnostic" in changes or "soft_nms_sigma" in changes


def test_candidates_of_many_pictures_are_copied_and_those_of_few_are_not():
    model, pictures = tiny_ssd(), [PHOTO] * 2
    parameters = replace(graph_parameters(model), score_threshold=0.3)
    few = stand_in_engine(model, candidates=540, batch=(2, 2, 2))
    many = stand_in_engine(model, candidates=540, batch=(16, 16, 16))
    for one, other in zip(few.detect(pictures, parameters), many.detect(pictures, parameters), strict=True):
        for value, wanted in zip(one, other, strict=True):
            np.testing.assert_array_equal(value, wanted)
    copied = []
    for engine in (few, many):
        with engine._lanes.one() as lane:
            copied.append(lane._last.copied)
    assert copied == [0, 16 * 540 * 24]


def test_graphs_are_captured_once_a_batch_size():
    device = StandInDevice()
    engine = stand_in_engine(tiny_ssd(), device=device, batch=(1, 4, 8))
    for size in (1, 1, 3, 4, 1, 8):
        engine.infer(tiny_pixels(size))
    assert len(device.graphs) == 3
    assert device.launches == 6


def test_four_threads_on_two_lanes():
    engine = stand_in_engine(tiny_ssd(), streams=2)
    pictures = tiny_pixels(8)
    alone = [engine.infer(one[None]) for one in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda index: engine.infer(pictures[index % 8][None]), range(40)))
    for index, found in enumerate(together):
        for one, other in zip(found, alone[index % 8], strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_call_that_waits_for_a_lane_of_a_closing_engine_is_told():
    engine = stand_in_engine(tiny_ssd())
    with ThreadPoolExecutor(4) as pool:
        with engine._lanes.one():
            closing = pool.submit(engine.close)
            waiting = [pool.submit(engine.infer, tiny_pixels(1)) for _ in range(3)]
        closing.result(timeout=30)
        errors = [one.exception(timeout=30) for one in waiting]
    assert {str(error) for error in errors if error} <= {"this engine was closed"}
    with pytest.raises(EngineError, match="this engine was closed"):
        engine.infer(tiny_pixels(1))


def test_calls_are_submitted_and_their_results_taken_later():
    device, model = StandInDevice(), tiny_ssd()
    engine = stand_in_engine(model, streams=2, device=device, batch=(1, 2, 2))
    pixels = np.random.default_rng(6).integers(0, 256, (15, 20, 30, 3)).astype(np.uint8)
    jobs = [list(pixels[start : start + count]) for start, count in ((0, 1), (1, 5), (6, 2), (8, 3), (11, 4))]
    parameters = replace(graph_parameters(model), score_threshold=0.3)
    wanted = [engine.detect(job, parameters) for job in jobs]
    assert does_submit(engine)
    started = [engine.submit(job, parameters) for job in jobs]
    for one, right in [*zip(started, wanted, strict=True)][:0:-1]:
        for found, values in zip(one.result(), right, strict=True):
            for value, other in zip(found, values, strict=True):
                np.testing.assert_array_equal(value, other)
    engine.close()
    assert (device.depth, device.memory) == (0, {})
    assert len(started[0].result()) == 1
    with pytest.raises(EngineError, match="this engine was closed"):
        engine.submit(jobs[0], parameters)


def test_a_uint8_plan_takes_pictures_of_its_size_as_they_are_and_rounds_others():
    model = tiny_ssd()
    engine, wide = stand_in_engine(model, pixels="uint8"), stand_in_engine(model)
    picture = np.random.default_rng(4).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    parameters = replace(graph_parameters(model), score_threshold=0.3)
    for one, other in zip(engine.detect([picture], parameters)[0], wide.detect([picture], parameters)[0], strict=True):
        np.testing.assert_array_equal(one, other)
    halves = tiny_pixels(1) * 0 + 100.5
    np.testing.assert_array_equal(engine.infer(halves)[1], wide.infer(np.rint(halves))[1])


def test_pinned_pictures_go_to_the_gpu_from_where_they_are():
    device, model = StandInDevice(), tiny_ssd()
    engine = stand_in_engine(model, device=device, batch=(1, 4, 4), pixels="uint8")
    pictures = np.random.default_rng(5).integers(0, 256, (3, HEIGHT, WIDTH, 3)).astype(np.uint8)
    parameters = replace(graph_parameters(model), score_threshold=0.3)
    expected = engine.detect(list(pictures), parameters)
    pinned = [device.pinned(one.shape, one.dtype) for one in pictures]
    for one, other in zip(pinned, pictures, strict=True):
        one[...] = other
    with engine._lanes.one() as lane:
        lane._host("image")[...] = 0  # what a copy on the host would have filled
    for one, other in zip(engine.detect(pinned, parameters), expected, strict=True):
        for value, wanted in zip(one, other, strict=True):
            np.testing.assert_array_equal(value, wanted)
    with engine._lanes.one() as lane:
        assert not lane._host("image").any()


def test_pictures_on_the_gpu_are_not_copied_to_the_host():
    device, model = StandInDevice(), tiny_ssd()
    engine = stand_in_engine(model, device=device, batch=(1, 2, 2))
    pixels = device.pinned((3, HEIGHT, WIDTH, 3), np.dtype(np.float32))
    pixels[...] = tiny_pixels(3)

    class OnGpu:
        def __init__(self, shape=(3, HEIGHT, WIDTH, 3), dtype="<f4"):
            data = (pixels.ctypes.data, True)
            self.__cuda_array_interface__ = {"shape": shape, "typestr": dtype, "data": data, "version": 3}

    class ByDlpack:
        def __dlpack_device__(self):
            return 2, 0

        def __dlpack__(self, *, stream):
            assert stream in device.streams
            return on_gpu(pixels)

    parameters = NmsParameters(0.3, 0.6, 100, 100)
    found = engine.detect_on_gpu(OnGpu(), parameters)
    assert len(found) == 3
    for one, other in zip(found, engine.detect_on_gpu(ByDlpack(), parameters), strict=True):
        for value, wanted in zip(one, other, strict=True):
            np.testing.assert_array_equal(value, wanted)
    for place in (OnGpu(), ByDlpack()):
        for value, wanted in zip(engine.infer(place), engine.infer(tiny_pixels(3)), strict=True):
            np.testing.assert_array_equal(value, wanted)
    device.index = 1
    with pytest.raises(EngineError, match="on GPU 0, the engine is on GPU 1"):
        engine.detect_on_gpu(OnGpu(), parameters)
    device.index = 0
    with pytest.raises(EngineError, match=r"must be .* float32 in C order, not \(3, 24, 32, 3\) uint8"):
        engine.detect_on_gpu(OnGpu(dtype="|u1"), parameters)
    with pytest.raises(EngineError, match=r"must be \(b, 24, 32, 3\) for this plan, not \(3, 32, 24, 3\)"):
        engine.detect_on_gpu(OnGpu((3, WIDTH, HEIGHT, 3)), parameters)


def test_close_frees_everything_and_refuses():
    device = StandInDevice()
    engine = stand_in_engine(tiny_ssd(), device=device, streams=2)
    engine.infer(tiny_pixels(1))
    engine.close()
    engine.close()
    assert (device.memory, device.streams, device.graphs, device.closed) == ({}, set(), set(), True)
    with pytest.raises(EngineError, match="closed"):
        engine.infer(tiny_pixels(1))


# --- what is missing, and what TensorRT says ------------------------------------------------------------------------


def test_without_tensorrt_the_way_to_it_is_told(monkeypatch):
    find_library.cache_clear()
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install 'ssdrt[tensorrt]'" in tensorrt.unavailable()
    find_library.cache_clear()


def test_without_a_driver_that_is_told():
    pytest.importorskip("cuda.bindings.driver", reason="no cuda-bindings: pip install 'ssdrt[test-trt]'")
    rtx()
    if tensorrt.unavailable() is None:
        pytest.skip("this machine has a GPU")
    assert "this machine has no driver" in tensorrt.unavailable()


def test_messages_are_one_line_without_places_and_consequences():
    messages = Messages()
    messages.add("1: [runtime.cpp::parsePlan::314] Error Code 1: Serialization (\n magic tag)")
    messages.add("[helpers.h::dev::65] Error Code 1: Cuda Runtime (cudaError 35)")
    assert messages.take() == "Error Code 1: Serialization ( magic tag)"
    assert messages.take() == "TensorRT gave no reason"


# --- NVIDIA's builder and parser for RTX ------------------------------------------------------------------------------

CARDS = ("SM75", "SM86", "SM89", "SM120")


@pytest.mark.parametrize("batch", [(1, 1, 1), (1, 2, 4)])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_rtx_builds_every_kind_of_layer_for_every_card(precision, batch):
    facts, plan = unpack(build_plan(rtx(), tiny_ssd(), precision, BuildOptions(batch=batch, gpus=CARDS)))
    check_plan(plan, "tensorrt_rtx", facts.version)
    assert (facts.family, facts.precision, facts.batch) == ("tensorrt_rtx", precision, batch)


def test_rtx_builds_bf16_and_uint8():
    for precision, pixels in (("bf16", "float32"), ("fp16", "uint8")):
        build_plan(rtx(), tiny_ssd(), precision, BuildOptions(pixels=pixels, gpus=("SM89",)))


@pytest.mark.parametrize("batch", [(1, 1, 1), (1, 2, 4)])
def test_rtx_builds_int8(batch):
    scales = tuple(measured_scales(tiny_ssd(), tiny_pixels(1)).items())
    for pixels in ("float32", "uint8"):
        options = BuildOptions(batch=batch, pixels=pixels, gpus=CARDS, scales=scales)
        facts, _ = unpack(build_plan(rtx(), tiny_ssd(), "int8", options))
        assert (facts.precision, facts.options["scales"]) == ("int8", f"of {len(scales)} values")
    with pytest.raises(ModelError, match="int8 needs the scales"):
        build_plan(rtx(), tiny_ssd(), "int8", BuildOptions(batch=batch, gpus=CARDS))


def test_outputs_have_fixed_shapes_but_for_the_batch():
    library = rtx()
    from ssdrt.engines.tensorrt.builder import _Network

    network = _Network(library, network_bytes(library, tiny_ssd(), "fp16", BuildOptions(batch=(1, 2, 4)))).network
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    assert {output.name: tuple(output.shape) for output in outputs} == {
        "box_encodings": (-1, 180, 4),
        "class_scores": (-1, 180, CLASSES),
        "candidate_boxes": (-1, 256, 4),
        "candidate_scores": (-1, 256),
        "candidate_indices": (-1, 256),
    }


def test_flags_that_depend_on_portable_come_after_it():
    from types import SimpleNamespace

    from ssdrt.engines.tensorrt.builder import _config

    library, told = rtx(), []

    class Config:
        def set_flag(self, flag):
            told.append(flag.name)

        def clear_flag(self, flag):
            pass

    network = SimpleNamespace(builder=SimpleNamespace(create_builder_config=Config))
    options = BuildOptions(portable=True, flags=("EXCLUDE_LEAN_RUNTIME",))
    _config(replace(library, family="tensorrt"), network, "fp32", options, tiny_ssd())
    assert told == ["VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flags": ("FASTER",)}, "has no BuilderFlag FASTER; it has "),
        ({"gpus": ("SM90",)}, "has no ComputeCapability SM90"),
        ({"dla": 0}, "no DLA core 0 here"),
        ({"batch": (4, 2, 1)}, "give least, best and most"),
        ({"scales": (("border", 0.1),)}, "scales are for int8, and this build is in fp32"),
    ],
)
def test_options_that_are_not_there_are_told_with_those_that_are(options, message):
    with pytest.raises(EngineError, match=message):
        build_plan(rtx(), tiny_ssd(), "fp32", BuildOptions(**options))


def test_what_tensorrt_cannot_build_comes_with_its_reason(monkeypatch):
    from ssdrt.engines.tensorrt import builder

    library = rtx()
    monkeypatch.setattr(builder, "network_bytes", lambda *_: b"no onnx")
    with pytest.raises(EngineError, match=r"cannot read this network: .*ONNX|cannot read this network: .*model"):
        build_plan(library, tiny_ssd(), "fp32", BuildOptions())
    monkeypatch.undo()
    with pytest.raises(EngineError, match=r"cannot build this network: .*target|cannot build this network: .*sm75"):
        build_plan(library, tiny_ssd(), "bf16", BuildOptions(gpus=("SM75",)))


def test_ctrl_c_stops_a_build():
    told = []

    def interrupt(_steps):
        told.append(1)
        if len(told) == 1:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # as a terminal does

    with pytest.raises(KeyboardInterrupt):
        build_plan(rtx(), tiny_ssd(), "fp32", BuildOptions(), interrupt)


def test_a_build_that_is_told_to_stop_makes_no_plan(monkeypatch):
    from ssdrt.engines.tensorrt import builder

    class Set(builder._Stop):
        def is_set(self):
            return True

    monkeypatch.setattr(builder, "_Stop", Set)
    with pytest.raises(EngineError, match=r"[Cc]ancel"):
        build_plan(rtx(), tiny_ssd(), "fp32", BuildOptions())


def test_steps_are_counted():
    steps = []
    build_plan(rtx(), tiny_ssd(), "fp32", BuildOptions(), steps.append)
    assert sum(steps) > 10


def test_the_log_goes_through_logging(caplog):
    caplog.set_level(logging.DEBUG, "ssdrt.tensorrt")
    build_plan(rtx(), tiny_ssd(), "fp32", BuildOptions())
    assert any(record.message.startswith("TensorRT: ") for record in caplog.records)


def test_the_module_is_named_as_its_engine():
    assert {"batch", "level", "workspace"} <= set(tensorrt.OPTIONS)

"""The engine whole, against the reference and against `postprocess` on its own predictions; on a GPU."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from build import demo_file
from engines.cuda.gpu import inside, needs_gpu
from ssdrt.demo import demo_picture
from ssdrt.detector import Detector
from ssdrt.engines import cuda, reference
from ssdrt.engines.base import DetectingEngine, does_submit
from ssdrt.engines.cuda import runtime
from ssdrt.engines.cuda.driver import DeviceMemory, Gpu, Stream
from ssdrt.engines.cuda.planner import plan_network
from ssdrt.engines.gpu import checked
from ssdrt.errors import EngineError, OutOfMemory
from ssdrt.model import DepthwiseConv
from ssdrt.pipeline import graph_parameters
from ssdrt.postprocess import decode_boxes, non_max_suppression
from ssdrt.preprocess import clip_window, to_network
from tiny_ssd import fact, tiny_pixels, tiny_ssd

pytestmark = needs_gpu


@pytest.fixture(scope="module")
def engine():
    model = tiny_ssd()
    return cuda.load(model, cuda.build(model, "fp16"), "fp16", 2)


def pictures(count, seed=0):
    random = np.random.default_rng(seed)
    sizes = random.integers(10, 90, (count, 2))
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.mark.parametrize("batch", [1, 2, 3, 9, 70])
def test_predictions_are_near_the_references(engine, batch):
    pixels = tiny_pixels(batch)
    found = engine.infer(pixels)
    for value, wanted in zip(found, reference.load(engine.model, b"", "fp32", 1).infer(pixels), strict=True):
        assert value.shape == wanted.shape
        np.testing.assert_allclose(value, wanted, atol=5e-2)


@pytest.mark.parametrize("count", [1, 2, 5, 33])
def test_detections_are_those_of_its_predictions(engine, count):
    assert isinstance(engine, DetectingEngine)
    compare(engine, pictures(count, count), replace(graph_parameters(engine.model), score_threshold=0.05))


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("centers", [False, True])
def test_resizers(method, centers):
    model = tiny_ssd()
    resizer = replace(model.preprocessing.resizer.value, method=method, half_pixel_centers=centers)
    model = replace(model, preprocessing=replace(model.preprocessing, resizer=fact(resizer)))
    engine = cuda.load(model, cuda.build(model, "fp16"), "fp16", 1)
    compare(engine, pictures(6), replace(graph_parameters(model), score_threshold=0.05))
    engine.close()


def compare(engine, images, parameters):
    model, total = engine.model, 0
    for image, (boxes, scores, classes) in zip(images, engine.detect(images, parameters), strict=True):
        encodings, all_scores = engine.infer(to_network(image, model.preprocessing.resizer.value)[None])
        decoded = decode_boxes(encodings[0], model.anchors.value, model.box_coder.scales.value)
        window = clip_window(model, *image.shape[:2])
        wanted = non_max_suppression(decoded, all_scores[0], parameters, window)
        np.testing.assert_allclose(scores, wanted[1], atol=1e-6)
        np.testing.assert_array_equal(classes, wanted[2])
        np.testing.assert_allclose(boxes, wanted[0], atol=1e-5)
        total += len(scores)
    assert total > 0


def test_threads_share_it(engine):
    images, parameters = pictures(12, 3), replace(graph_parameters(engine.model), score_threshold=0.1)
    alone = [engine.detect([image], parameters)[0] for image in images]

    def work(index):
        start = index % 9
        return engine.detect(images[start : start + 1 + index % 4], parameters), start

    with ThreadPoolExecutor(8) as pool:
        for together, start in pool.map(work, range(200)):
            for offset, one in enumerate(together):
                for value, wanted in zip(one, alone[start + offset], strict=True):
                    np.testing.assert_array_equal(value, wanted)


def test_soft_suppression_is_left_to_the_host(engine):
    parameters = replace(graph_parameters(engine.model), soft_nms_sigma=0.5, score_threshold=0.05)
    compare(engine, pictures(3), parameters)


def test_closed_and_foreign():
    model = tiny_ssd()
    plan = cuda.build(model, "fp16")
    engine = cuda.load(model, plan, "fp16", 1)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(tiny_pixels(1))
    with pytest.raises(EngineError, match="build it again"):
        cuda.load(model, plan.replace(b"sm_90a", b"sm_90b"), "fp16", 1)


def test_who_waits_for_a_lane_is_told_that_the_engine_was_closed():
    model = tiny_ssd()
    engine = cuda.load(model, cuda.build(model, "fp16"), "fp16", 1)
    with ThreadPoolExecutor(4) as pool:
        with engine._lanes.one():
            waiting = [pool.submit(engine.infer, tiny_pixels(1)) for _ in range(3)]
            closing = pool.submit(engine.close)
        closing.result(60)
        for one in waiting:  # whoever got the lane before `close` did has its predictions
            error = one.exception(60)
            assert error is None or "closed" in str(error)


def test_calls_are_started_and_their_results_taken_later(engine):
    parameters = replace(graph_parameters(engine.model), score_threshold=0.05)
    jobs = [pictures(count, count) for count in (1, 3, 1, 9, 300, 2, 5)]
    wanted = [engine.detect(job, parameters) for job in jobs]
    assert does_submit(engine)
    started = [engine.submit(job, parameters) for job in jobs]  # on two lanes
    engine.infer(tiny_pixels(2))
    for one, right in [*zip(started, wanted, strict=True)][::-1]:
        for _ in range(2):
            same(one.result(), right)
    soft = replace(parameters, soft_nms_sigma=0.5)
    same(engine.submit(jobs[1], soft).result(), engine.detect(jobs[1], soft))
    assert engine.submit([], parameters).result() == []


def test_a_closing_engine_finishes_what_was_submitted():
    model = tiny_ssd()
    engine = cuda.load(model, cuda.build(model, "fp16"), "fp16", 2)
    parameters = replace(graph_parameters(model), score_threshold=0.05)
    soft = replace(parameters, soft_nms_sigma=0.5)  # which the host does
    jobs = [(pictures(9, seed), soft if seed == 2 else parameters) for seed in range(3)]
    wanted = [engine.detect(*job) for job in jobs]
    started = [engine.submit(*job) for job in jobs]
    engine.close()
    for one, right in zip(started, wanted, strict=True):
        same(one.result(), right)
    with pytest.raises(EngineError, match="closed"):
        engine.submit(*jobs[0])


def test_what_a_submitted_call_had_no_room_for_its_result_tells(engine, monkeypatch):
    images, parameters = pictures(3, 8), replace(graph_parameters(engine.model), score_threshold=0.1)
    wanted = engine.detect(images, parameters)
    with monkeypatch.context() as patch:
        patch.setitem(engine.arena_sizes, 4, 1 << 46)
        started = [engine.submit(images, parameters) for _ in range(3)]
    for one in started:
        for _ in range(2):
            with pytest.raises(OutOfMemory, match="not enough free memory"):
                one.result()
    same(engine.submit(images, parameters).result(), wanted)


def same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        for value, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(value, right)


class OnGpu:
    """Pictures in the GPU's memory, as other libraries show them."""

    def __init__(self, engine, pictures):
        with inside(engine.gpu):
            self.memory = DeviceMemory(engine.gpu, pictures.nbytes)
            self.memory.upload(pictures.tobytes())
        data = (self.memory.address, False)
        self.__cuda_array_interface__ = {"shape": pictures.shape, "typestr": "|u1", "data": data, "version": 3}


@pytest.mark.parametrize("size", [(64, 64), (37, 90)])
def test_pictures_on_the_gpu_are_taken_from_there(engine, size):
    parameters = replace(graph_parameters(engine.model), score_threshold=0.05)
    images = np.random.default_rng(4).integers(0, 256, (5, *size, 3), dtype=np.uint8)
    resident = OnGpu(engine, images)
    for one, wanted in zip(
        engine.detect_on_gpu(resident, parameters), engine.detect(list(images), parameters), strict=True
    ):
        for value, other in zip(one, wanted, strict=True):
            np.testing.assert_array_equal(value, other)
    resident.__cuda_array_interface__["typestr"] = "<f4"
    with pytest.raises(EngineError, match="uint8 in C order"):
        engine.detect_on_gpu(resident, parameters)
    with pytest.raises(EngineError, match="not on a GPU of NVIDIA"):
        engine.detect_on_gpu(images, parameters)
    with pytest.raises(EngineError, match="give `detect` the pictures"):
        engine.detect_on_gpu(OnGpu(engine, images), replace(parameters, soft_nms_sigma=0.5))
    host = np.zeros((1, 64, 64, 3), np.uint8)
    resident.__cuda_array_interface__ |= {"typestr": "|u1", "data": (host.ctypes.data, False)}
    with pytest.raises(EngineError, match="CUDA knows of no memory"):
        engine.detect_on_gpu(resident, parameters)
    with inside(engine.gpu):
        resident.memory.free()


def test_pictures_on_another_gpu_are_refused(engine):
    if checked(engine.gpu.driver.cuDeviceGetCount()) < 2:
        pytest.skip("there is one GPU")
    other = cuda.load(engine.model, cuda.build(engine.model, "fp16", device=1), "fp16", 1, device=1)
    images, parameters = np.zeros((2, 64, 64, 3), np.uint8), graph_parameters(engine.model)
    other.detect_on_gpu(OnGpu(other, images), parameters)
    with pytest.raises(EngineError, match="on GPU 1, the engine is on GPU 0"):
        engine.detect_on_gpu(OnGpu(other, images), parameters)
    with pytest.raises(EngineError, match="on GPU 0, the engine is on GPU 1"):
        other.detect_on_gpu(OnGpu(engine, images), parameters)
    other.close()


def test_a_detector_works_on_the_gpu_of_its_device(engine, tmp_path, monkeypatch):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path / "home"))
    path, image = demo_file(tmp_path), demo_picture()
    with pytest.raises(EngineError, match="there is no GPU 99: this process sees"):
        Detector.open(path, "cuda", options={"device": 99})
    found = []
    for index in range(min(checked(engine.gpu.driver.cuDeviceGetCount()), 2)):
        with Detector.open(path, "cuda", options={"device": index}) as detector:
            found.append(detector.detect(image))
            assert len(detector.submit([image]).result()[0]) == len(found[0])
            assert {loaded.engine.gpu.index for loaded in detector._networks.values()} == {index}
    assert len(found[0]) == 6
    np.testing.assert_array_equal(found[-1].boxes_xyxy, found[0].boxes_xyxy)


def test_threads_keep_the_context_that_they_had(engine):
    images, parameters = pictures(3, 1), graph_parameters(engine.model)
    plan = cuda.build(engine.model, "fp16")

    def contexts():
        yield int(checked(engine.gpu.driver.cuCtxGetCurrent()))
        engine.detect(images, parameters)
        yield int(checked(engine.gpu.driver.cuCtxGetCurrent()))
        other = cuda.load(engine.model, plan, "fp16", 1)
        yield int(checked(engine.gpu.driver.cuCtxGetCurrent()))
        other.close()
        yield int(checked(engine.gpu.driver.cuCtxGetCurrent()))

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: list(contexts())).result(60) == [0] * 4
    with inside(engine.gpu):
        assert len(set(contexts()) - {0}) == 1


def test_pictures_of_several_sizes_on_the_gpu_go_in_one_call(engine):
    parameters = replace(graph_parameters(engine.model), score_threshold=0.05)
    images = [*pictures(300, 7), *np.random.default_rng(8).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)]
    resident = [OnGpu(engine, image) for image in images[:-3]] + [OnGpu(engine, np.stack(images[-3:]))]
    found = engine.detect(resident, parameters)
    for one, wanted in zip(found, engine.detect(images, parameters), strict=True):
        for value, other in zip(one, wanted, strict=True):
            np.testing.assert_array_equal(value, other)
    for one in resident:
        one.memory.free()


def test_pictures_of_torch_are_waited_for(engine):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no GPU")
    parameters = replace(graph_parameters(engine.model), score_threshold=0.05)
    images = np.random.default_rng(5).integers(0, 256, (5, 64, 80, 3), dtype=np.uint8)
    wanted = engine.detect(list(images), parameters)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        pictures = torch.zeros((5, 64, 80, 3), dtype=torch.uint8, device="cuda")
        torch.cuda._sleep(50_000_000)  # so that who does not wait reads zeros
        pictures.copy_(torch.from_numpy(images))
        found = engine.detect_on_gpu(pictures, parameters)
    with Detector.of_model(engine.model, "cuda") as detector:
        for one, other in zip(
            detector.detect_on_gpu(pictures, score_threshold=0.05),
            detector.detect_batch(list(images), score_threshold=0.05),
            strict=True,
        ):
            np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
    capsule = pictures.__dlpack__()
    for one, also, other in zip(found, engine.detect_on_gpu(capsule, parameters), wanted, strict=True):
        for value, again, right in zip(one, also, other, strict=True):
            np.testing.assert_array_equal(value, right)
            np.testing.assert_array_equal(again, right)
    with pytest.raises(EngineError, match="uint8 in C order"):
        engine.detect_on_gpu(pictures.permute(0, 2, 1, 3), parameters)


def test_a_build_that_computes_something_else_is_refused(monkeypatch):
    model = tiny_ssd()
    monkeypatch.setenv(cuda.UNTUNED, "1")
    layers = tuple(
        replace(layer, weights=2 * layer.weights) if isinstance(layer, DepthwiseConv) else layer
        for layer in model.layers
    )
    other = plan_network(replace(model, layers=layers))
    with monkeypatch.context() as patch:
        patch.setattr(cuda, "plan_network", lambda _: other)
        with pytest.raises(EngineError, match="does not compute this network"):
            cuda.build(model, "fp16")
    cuda.build(model, "fp16")


def test_a_load_that_fails_keeps_nothing(engine, monkeypatch):
    model, taken = engine.model, []
    plan = cuda.build(model, "fp16")

    class Watched(DeviceMemory):
        def __init__(self, *words):
            super().__init__(*words)
            taken.append(self)

    def fail(*_):
        raise EngineError("no lane")

    monkeypatch.setattr(runtime, "DeviceMemory", Watched)
    monkeypatch.setattr(runtime, "Lane", fail)
    with pytest.raises(EngineError, match="no lane"):
        cuda.load(model, plan, "fp16", 1)
    assert [one.address for one in taken] == [0]


@pytest.mark.parametrize("count", [1, 11])
@pytest.mark.parametrize("at", [0, 7, 12])
def test_ctrl_c_while_recording_leaves_a_lane_that_works(engine, monkeypatch, count, at):
    images, parameters = pictures(count, 6), replace(graph_parameters(engine.model), score_threshold=0.1)
    wanted = engine.detect(images, parameters)
    with inside(engine.gpu):
        for lane in engine._all:
            lane._forget_graphs()
    calls = iter(range(1000))

    def interrupted(self, *args, **kwargs):
        if next(calls) == at:
            raise KeyboardInterrupt
        return launched(self, *args, **kwargs)

    launched = Stream.launch
    with monkeypatch.context() as patch:
        patch.setattr(Stream, "launch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.detect(images, parameters)
    for _ in engine._all:
        for one, other in zip(engine.detect(images, parameters), wanted, strict=True):
            np.testing.assert_array_equal(one[1], other[1])


def test_no_room_and_no_such_gpu(engine):
    with pytest.raises(OutOfMemory, match="not enough free memory"), inside(engine.gpu):
        DeviceMemory(engine.gpu, 1 << 46)
    with pytest.raises(EngineError, match="there is no GPU 99"):
        Gpu(99)


def test_calls_go_on_after_one_that_had_no_room(engine, monkeypatch):
    images, parameters = pictures(3, 8), replace(graph_parameters(engine.model), score_threshold=0.1)
    lane = engine._all[0]
    with inside(engine.gpu):
        wanted = lane.detect(images, parameters)
        with monkeypatch.context() as patch:
            patch.setitem(engine.arena_sizes, 4, 1 << 46)
            with pytest.raises(EngineError, match="not enough free memory"):
                lane.detect(images, parameters)
        for one, other in zip(lane.detect(images, parameters), wanted, strict=True):
            np.testing.assert_array_equal(one[1], other[1])


LOST = """
import numpy as np
from tiny_ssd import tiny_ssd
from ssdrt.engines import cuda
from ssdrt.engines.cuda import compiler
from ssdrt.engines.cuda.driver import load_functions
from ssdrt.errors import EngineError
from ssdrt.pipeline import graph_parameters
model = tiny_ssd()
engine = cuda.load(model, cuda.build(model, "fp16"), "fp16", 1)
text = 'extern "C" __global__ void lose(int* at) { *at = 1; }'
compiler.sources = lambda: {"lose.cu": text}
driver = engine.gpu.driver
engine.gpu.enter()
code = compiler.compile_kernels([("lose.cu", "lose")], engine.gpu.device().architecture)
function = load_functions(engine.gpu, code)[0]["lose.cu", "lose"]
import ctypes
driver.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, 0, ((16,), (ctypes.c_void_p,)), 0)
for _ in range(2):
    try:
        engine.detect([np.zeros((50, 50, 3), np.uint8)], graph_parameters(model))
    except EngineError as error:
        print(error)
"""


FORKED = """
import multiprocessing
import numpy as np
from tiny_ssd import tiny_ssd
from ssdrt.engines import cuda
from ssdrt.errors import EngineError
from ssdrt.pipeline import graph_parameters
model = tiny_ssd()
engine = cuda.load(model, cuda.build(model, "fp16"), "fp16", 1)
def work():
    try:
        engine.detect([np.zeros((50, 50, 3), np.uint8)], graph_parameters(model))
    except EngineError as error:
        print(error, flush=True)
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
"""


@pytest.mark.parametrize(
    ("program", "said", "times"),
    [(LOST, "this process cannot use it any more", 2), (FORKED, "was forked from one", 1)],
    ids=["lost", "forked"],
)
def test_what_a_gpu_that_cannot_be_used_any_more_says(program, said, times, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), cuda.UNTUNED: "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=tmp_path)
    assert done.stdout.count(said) == times, done.stdout + done.stderr

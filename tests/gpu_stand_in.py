"""Stand-ins for a GPU and TensorRT's runtime, so that what is ours around them runs where there is neither.

Device memory is the host's, a stream does its work at once unless it is being captured, and a plan is 28 bytes of
header and the very ONNX file, which ONNX Runtime runs. What the real ones do is measured by bench/tensorrt_gpu.py.
"""

import ctypes
import hashlib
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from ssdrt.engines.cuda import ends
from ssdrt.engines.tensorrt.builder import BuildOptions, candidate_count, network_bytes
from ssdrt.engines.tensorrt.library import Library, Messages
from ssdrt.engines.tensorrt.plan_file import Facts, pack, unpack
from ssdrt.engines.tensorrt.runtime import TensorrtEngine
from ssdrt.errors import OutOfMemory
from ssdrt.postprocess import NmsParameters, non_max_suppression

DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int32)": np.int32}


class StandInDriver:
    """As `cuda.bindings.driver` 13.2, which gives 0 for every ordinal, of memory that all lies on one GPU."""

    CUpointer_attribute = SimpleNamespace(
        CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL=9, CU_POINTER_ATTRIBUTE_MEMORY_TYPE=2, CU_POINTER_ATTRIBUTE_IS_MANAGED=8
    )
    CUmemorytype = SimpleNamespace(CU_MEMORYTYPE_HOST=1, CU_MEMORYTYPE_DEVICE=2)

    def __init__(self, index=0, kind=2, managed=False, status=0):
        self.told, self.status = {9: index, 2: kind, 8: managed}, status

        def attribute_of(place, attribute, address):  # noqa: ARG001
            ctypes.c_int.from_address(place).value = self.told[attribute]
            return status

        kinds = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64)
        self.function = ctypes.CFUNCTYPE(*kinds)(attribute_of)

    def cuPointerGetAttribute(self, attribute, address):  # noqa: N802, ARG002
        return self.status, 0 if attribute == 9 else self.told[attribute]

    def cuGetProcAddress(self, name, version, flags):  # noqa: N802
        assert (name, version, flags) == (b"cuPointerGetAttribute", 4000, 0)
        return 0, ctypes.cast(self.function, ctypes.c_void_p).value, 0


class StandInDevice:
    """As `driver.Device`. room: how often it allocates memory before there is no more."""

    name, capability, index, driver = "stand-in", (9, 0), 0, StandInDriver()

    def __init__(self, room=None):
        self.memory, self.streams, self.graphs = {}, set(), set()
        self.room = room
        self.depth = 1  # of contexts that it made a thread's
        self.captured = threading.local()
        self.launches = 0
        self.closed = False

    def use(self):
        self.depth += 1

    def leave(self):
        self.depth -= 1

    def close(self):
        self.leave()
        self.closed = True

    def do(self, work):
        """Work in a stream: now, or when the graph is launched."""
        recording = getattr(self.captured, "work", None)
        if recording is None:
            work()
        else:
            recording.append(work)

    def allocate(self, size):
        if self.room == 0:
            raise OutOfMemory("the GPU has not enough free memory")
        self.room = self.room and self.room - 1
        buffer = np.full(size, 0xAB, np.uint8)
        self.memory[buffer.ctypes.data] = buffer
        return buffer.ctypes.data

    def free(self, address):
        del self.memory[address]

    def pinned(self, shape, dtype):
        array = np.full(shape, 0xCD, dtype)
        self.memory[array.ctypes.data] = array
        return array

    def unpin(self, array):
        del self.memory[array.ctypes.data]

    def is_pinned(self, array):
        return array.__array_interface__["data"][0] in self.memory

    def to_device(self, target, source, stream):
        assert stream in self.streams
        self.do(lambda: ctypes.memmove(target, source.ctypes.data, source.nbytes))

    def to_host(self, target, source, stream):
        assert stream in self.streams
        self.do(lambda: ctypes.memmove(target.ctypes.data, source, target.nbytes))

    def on_device(self, target, source, size, stream):
        assert stream in self.streams
        self.do(lambda: ctypes.memmove(target, source, size))

    def clear(self, address, size, stream):
        assert stream in self.streams
        self.do(lambda: ctypes.memset(address, 0, size))

    def stream(self):
        number = len(self.streams) + 1
        self.streams.add(number)
        return number

    def synchronize(self, stream):
        pass

    def destroy_stream(self, stream):
        self.streams.remove(stream)

    def capture(self, stream, work):  # noqa: ARG002
        self.captured.work = []
        try:
            work()
            graph = tuple(self.captured.work)
        finally:
            self.captured.work = None
        self.graphs.add(graph)
        return graph

    def launch(self, graph, stream):  # noqa: ARG002
        assert graph in self.graphs
        self.launches += 1
        for work in graph:
            work()

    def destroy_graph(self, graph):
        self.graphs.remove(graph)


class StandInKernels:
    """As `suppression.Kernels`: what `tail` is told, done by `postprocess`. leaves: pictures left to the host."""

    def __init__(self, device, leaves=()):
        self.device, self.leaves, self.pictures, self.closed = device, leaves, [], False

    def put(self, launches, stream):
        assert stream in self.device.streams
        collect, tail = launches
        assert collect.parameters is tail.parameters
        assert (collect.grid[1], tail.grid) == (tail.grid[0], (tail.grid[0], 1))
        agnostic = tail.name == "tail<2,true,float>"
        assert agnostic or tail.name == "tail<2,false,float>"
        self.device.do(lambda: self._run(tail.parameters, tail.grid[0], agnostic))

    def count(self, told):
        """What `collect` leaves to `tail`."""
        ctypes.c_int.from_address(told.counts).value = ctypes.c_int.from_address(told.histograms).value = 1

    def _run(self, told, batch, agnostic):
        def array(address, *shape, dtype=np.float32):
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype).reshape(shape)

        count, classes, most = told.anchor_count, told.classes, told.most
        options = ends.OptionsStruct.from_address(told.options)
        parameters = NmsParameters(
            array(told.thresholds, classes).copy(), options.iou_threshold, options.max_per_class, options.max_total,
            agnostic, 0.0, next(name for name, code in ends.CLIPS.items() if code == told.clip),
            bool(told.drop_zero_area), bool(told.change_frame),
        )  # fmt: skip
        assert options.low_score == parameters.score_threshold.min()
        assert (told.codes_image, told.box_row) == (4 * count, 4)
        assert not array(told.counts, batch, dtype=np.int32).any()
        assert not array(told.histograms, batch, ends.BINS, dtype=np.int32).any()
        codes, scores = array(told.codes, batch, count, 4), array(told.scores, batch, count, classes)
        anchors, windows = array(told.anchors, count, 4), array(told.windows, batch, 4)
        found = array(told.found, batch, told.found_size)
        for image in range(batch):
            offsets = codes[image] / np.array(told.scales, np.float32)
            centres = offsets[:, :2] * anchors[:, 2:] + anchors[:, :2]
            halves = np.exp(offsets[:, 2:], dtype=np.float64).astype(np.float32) * anchors[:, 2:] / 2
            boxes = np.concatenate((centres - halves, centres + halves), 1)
            window = tuple(windows[image].tolist())
            kept, kept_scores, kinds = non_max_suppression(boxes, scores[image], parameters, window)
            found[image] = 0
            found[image, : 4 * len(kept)] = kept.ravel()
            found[image, 4 * most :][: len(kept)] = kept_scores
            found[image, 5 * most :][: len(kept)] = kinds
            found[image, -2:] = len(kept), image in self.leaves
        self.pictures.append(batch)

    def close(self):
        self.closed = True


class StandInContext:
    """As IExecutionContext."""

    def __init__(self, engine):
        self.engine, self.addresses, self.shape = engine, {}, None

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def set_input_shape(self, name, shape):
        assert name == "image"
        self.shape = tuple(shape)
        return True

    def execute_async_v3(self, stream):  # noqa: ARG002
        self.engine.device.do(self._run)
        return True

    def _run(self):
        session = self.engine.session
        dtype = DTYPES[session.get_inputs()[0].type]
        size = int(np.prod(self.shape)) * np.dtype(dtype).itemsize
        pixels = np.frombuffer(ctypes.string_at(self.addresses["image"], size), dtype).reshape(self.shape)
        for port, value in zip(session.get_outputs(), session.run(None, {"image": pixels}), strict=True):
            ctypes.memmove(self.addresses[port.name], np.ascontiguousarray(value).ctypes.data, value.nbytes)


class StandInEngine:
    """As ICudaEngine."""

    def __init__(self, device, onnx):
        onnxruntime = pytest.importorskip("onnxruntime")
        self.device, self.session = device, onnxruntime.InferenceSession(onnx)
        self.ports = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.num_io_tensors = len(self.ports)

    def get_tensor_name(self, index):
        return self.ports[index].name

    def get_tensor_dtype(self, name):
        return next(port.type for port in self.ports if port.name == name)

    def get_tensor_shape(self, name):
        return [-1, *next(port.shape for port in self.ports if port.name == name)[1:]]

    def create_execution_context(self):
        return StandInContext(self)


def stand_in_library(device, version="8.6.0"):
    """As `library.find_library`, with a runtime only."""
    api = SimpleNamespace(
        Runtime=lambda _logger: SimpleNamespace(
            deserialize_cuda_engine=lambda plan: StandInEngine(device, bytes(plan)[28:])
        ),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=0),
        nptype=lambda name: DTYPES[name],
    )
    return Library(api, "tensorrt", version, None, Messages())


def plan_bytes(onnx, version=(8, 6, 0, 0), tag=b"ftrt"):
    """A plan as the stand-in reads it, with a genuine header."""
    length = 28 + len(onnx)
    return tag + bytes(12) + length.to_bytes(8, "little") + bytes(version) + onnx


def stand_in_plan(model, precision="fp32", kernels=b"", **options):
    """As `builder.build_plan`."""
    chosen = BuildOptions(**options)
    onnx = network_bytes(stand_in_library(None), model, precision, chosen, bool(kernels))
    facts = Facts(
        "tensorrt", "8.6.0", "stand-in", (9, 0), precision, chosen.batch, chosen.pixels,
        candidate_count(model, chosen, bool(kernels)), model.digest,
        hashlib.sha256(model.anchors.value.tobytes()).hexdigest(), {},
    )  # fmt: skip
    return pack(facts, plan_bytes(onnx), kernels)


def stand_in_engine(model, precision="fp32", streams=1, device=None, kernels=None, **options):
    """A `TensorrtEngine` on the stand-ins; its plan hands over candidates if there are no kernels."""
    device = device or StandInDevice()
    facts, plan = unpack(stand_in_plan(model, precision, b"kernels" if kernels else b"", **options))
    return TensorrtEngine(stand_in_library(device), device, model, facts, plan, streams, kernels)

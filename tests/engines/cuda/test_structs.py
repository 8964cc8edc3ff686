"""The structs that Python fills are those that the kernels read, field by field."""

import ctypes

import pytest

from ssdrt.engines.cuda import (
    chain,
    ends,
    excite,
    few,
    first,
    hopper,
    inverted,
    launch,
    pixels,
    portable,
    stem,
    tactics,
)

pytest.importorskip("cuda.bindings.nvrtc")
from ssdrt.engines.cuda import compiler
from ssdrt.errors import EngineError

STRUCTS = {
    "convolution.cu": {"Convolution": portable.ConvolutionStruct, "Finish": launch.FinishStruct},
    "depthwise.cu": {"Depthwise": portable.DepthwiseStruct, "Divider": launch.DividerStruct},
    "few.cu": {"Few": few.FewStruct},
    "pixels.cu": {"Pixels": pixels.PixelsStruct},
    "image.cu": {"Image": ends.ImageStruct, "Picture": ends.PictureStruct, "Fetch": ends.FetchStruct},
    "hopper.cu": {"Product": hopper.ProductStruct},
    "chain.cu": {"Chain": chain.ChainStruct},
    "dense.cu": {"Dense": hopper.DenseStruct},
    "squeezed.cu": {"Squeezed": excite.SqueezedStruct},
    "excited.cu": {"Excited": excite.ExcitedStruct},
    "first.cu": {"First": first.FirstStruct},
    "front.cu": {"Front": hopper.FrontStruct},
    "inverted.cu": {"Inverted": inverted.InvertedStruct},
    "stem.cu": {"Stem": stem.StemStruct},
    "tail.cu": {"Tail": ends.TailStruct, "Options": ends.OptionsStruct, "Scores": ends.ScoresStruct},
}


@pytest.fixture(autouse=True)
def _offsets_of_fields(monkeypatch):
    """NVRTC 13.0, which PyTorch brings, cannot tell them."""
    probe = 'struct S { int a; }; static_assert(__builtin_offsetof(S, a) == 0); extern "C" __global__ void probe() {}'
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "sources", lambda: {"probe.cu": probe})
        try:
            compiler.compile_kernels([("probe.cu", "probe")], "sm_90a")
        except EngineError:
            pytest.skip("this NVRTC has no __builtin_offsetof: pip install 'nvidia-cuda-nvrtc>=13.1'")


@pytest.mark.parametrize("file", STRUCTS)
def test_fields_lie_where_the_compiler_puts_them(file, monkeypatch):
    lines = []
    for name, struct in STRUCTS[file].items():
        lines.append(f'static_assert(sizeof({name}) == {ctypes.sizeof(struct)}, "{name}");')
        for field in (name for name, *_ in struct._fields_ if name != "unused"):
            offset = getattr(struct, field).offset
            lines.append(f'static_assert(__builtin_offsetof({name}, {field}) == {offset}, "{name}.{field}");')
    if file == "tail.cu":
        lines.append(f'static_assert(sizeof(Shared) <= {ends.SHARED}, "Shared");')
        lines.append(f'static_assert(CAPACITY == {ends.CAPACITY} && BINS == {ends.BINS}, "sizes");')
        lines.append(f'static_assert(THREADS == {ends.THREADS} && COLLECTORS == {ends.COLLECTORS}, "blocks");')
    if file == "few.cu":
        lines += [
            f"static_assert(Places<{tiles}>({slices}, {parts}).size == {tactics.few_shared(tiles, slices, parts)});"
            for tiles, slices, parts in ((1, 2, 2), (2, 8, 8), (1, 16, 8), (2, 10, 4))
        ]
    if file == "stem.cu":
        lines.append(f'static_assert(WARPS == {stem.WARPS} && RING == {stem.RING}, "sizes");')
        lines += [
            f'static_assert(sizeof(Weights<{a // 8}, {b // 8}, {c // 8}>) == {stem.weights_size(a, b, c)}, "Weights");'
            for a, b, c in ((32, 64, 128), (24, 48, 96), (8, 16, 32), (32, 0, 16), (24, 0, 32))
        ]
        lines += [
            f"static_assert(resident({sixteens}, {str(two).lower()}) == {stem.resident(sixteens, two)});"
            for sixteens in stem.SIXTEENS
            for two in (False, True)
        ]
    if file == "first.cu":
        lines += [
            f"static_assert(resident({rows}, {columns}) == {first.resident(rows, columns)});"
            for rows in (3, 5, 7)
            for columns in (16, 32, 64)
        ]
    if file == "squeezed.cu":
        lines.append(f"static_assert(ALONG == {tactics.ALONG});")
    if file == "inverted.cu":
        lines += [
            f"static_assert(resident({stride}, {warps}) == {tactics.inverted_resident(stride, warps)});"
            for stride in (1, 2)
            for warps in (1, 2, 3, 4)
        ]
        lines.append(f"static_assert(8 * TILES == {tactics.HIDDEN});")
        lines += [
            f"static_assert(sizeof(Weights<{steps}, {warps}>) == {tactics.inverted_weights(steps, warps)});"
            for steps in (1, 2)
            for warps in (1, 2, 3, 4)
        ]
    text = dict(compiler.sources())
    text["probe.cu"] = text[file] + "\n".join(lines) + "\n__global__ void probe() {}\n"
    monkeypatch.setattr(compiler, "sources", lambda: text)
    assert compiler.compile_kernels([("probe.cu", "probe")], "sm_90a")

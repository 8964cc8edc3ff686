"""NVRTC makes machine code of the kernels for every architecture that they are written for, without a GPU."""

import struct

import pytest

from ssdrt.errors import EngineError

pytest.importorskip("cuda.bindings.nvrtc")
from ssdrt.engines import cuda
from ssdrt.engines.cuda import compiler
from ssdrt.engines.cuda.tactics import Device
from tiny_ssd import tiny_ssd

ONE_OF_EACH = (
    ("convolution.cu", "convolution<64,32,16,32,2,false>"),
    ("convolution.cu", "few_pixels<1>"),
    ("front.cu", "front<7,7,64>"),
    ("depthwise.cu", "depthwise<3,3,2,2,1,1,1>"),
    ("pixels.cu", "elementwise"),
    ("image.cu", "resize_image"),
    ("tail.cu", "collect<0,false,1>"),
    ("tail.cu", "tail<0,false>"),
    ("tail.cu", "collect<2,false,4>"),
    ("tail.cu", "tail<3,true,float>"),
)


@pytest.mark.parametrize("architecture", compiler.ARCHITECTURES)
def test_every_architecture(architecture):
    code = compiler.compile_kernels(ONE_OF_EACH, architecture)
    assert all(one.cubin[:4] == b"\x7fELF" for one in code.values())


def test_what_was_compiled_lately_is_not_compiled_again(monkeypatch):
    wanted, told = [("pixels.cu", "elementwise"), ("image.cu", "resize_image")], []
    first = compiler.compile_kernels(wanted, "sm_86", told.append)
    monkeypatch.setattr(compiler, "_compiled", None)
    assert compiler.compile_kernels(wanted, "sm_86", told.append) == first
    assert told == [1] * 4
    texts = compiler.sources() | {"pixels.cu": "another text"}
    monkeypatch.setattr(compiler, "sources", lambda: texts)
    with pytest.raises(TypeError, match="not callable"):  # it is compiled anew
        compiler.compile_kernels(wanted, "sm_86")


def test_windows_by_wgmma():
    wanted = [
        ("dense.cu", f"dense<{kind},{plain}>")
        for kind in ("256,1,4,1,2,4", "128,2,4,1,1,2", "96,1,3,2,1,1")
        for plain in ("true", "false")
    ]
    code = compiler.compile_kernels(wanted, "sm_90a")
    assert all("dense" in one.symbol and one.cubin[:4] == b"\x7fELF" for one in code.values())


def test_chains():
    wanted = [("chain.cu", f"chain<{kind}>") for kind in ("80,1,1,4,3,4", "40,2,1,6,3,3", "40,2,2,4,2,4")]
    code = compiler.compile_kernels(wanted, "sm_90a")
    assert all("chain" in one.symbol and one.cubin[:4] == b"\x7fELF" for one in code.values())


@pytest.mark.parametrize(
    ("kernel", "groups", "registers"),
    [
        ("chain.cu chain<80,1,1,4,3,4>", 6, 2 * 104 + 2 * 88 + 72 + 24),
        ("chain.cu chain<40,2,2,4,2,4>", 6, 2 * 136 + 2 * 64 + 56 + 24),
        ("hopper.cu separable<false,128,2,4,4,1>", 5, 2 * 104 + 2 * 120 + 24),
        ("hopper.cu separable<false,256,1,3,3,2>", 4, 2 * 160 + 152 + 40),
        ("dense.cu dense<256,1,4,1,2,4,true>", 3, 2 * 232 + 40),
    ],
)
def test_groups_of_warps_share_out_the_registers_that_a_block_starts_with(kernel, groups, registers):
    """More than these would be waited for without end."""
    (code,) = compiler.compile_kernels([tuple(kernel.split())], "sm_90a").values()
    assert registers_at_start(code.cubin) * groups >= registers


def registers_at_start(cubin):
    """Of a thread, from the attribute REGCOUNT in the ELF file's section .nv.info."""
    start, size, count, names = (
        struct.unpack_from(kind, cubin, at)[0] for kind, at in (("<Q", 40), ("<H", 58), ("<H", 60), ("<H", 62))
    )
    sections = [struct.unpack_from("<IIQQQQ", cubin, start + index * size) for index in range(count)]
    texts = sections[names][4]
    for name, _, _, _, at, length in sections:
        if cubin[texts + name :].startswith(b".nv.info\0"):
            end = at + length
            while at < end:
                form, attribute, long = struct.unpack_from("<BBH", cubin, at)
                if (form, attribute) == (4, 0x2F):
                    return struct.unpack_from("<II", cubin, at + 4)[1]
                at += 4 + (long if form == 4 else 0)
    raise AssertionError("no REGCOUNT")


def test_what_reads_bytes():
    wanted = [("first.cu", f"first<{kind}>") for kind in ("3,3,16,1,0,true", "3,3,32,0,1,true", "7,7,64,2,3,false")]
    wanted += [("stem.cu", f"stem<{kind}>") for kind in ("4,0,2,4", "4,0,2,2", "3,0,4,2", "1,0,2,4")]
    code = compiler.compile_kernels(wanted, "sm_90a")
    assert all(one.cubin[:4] == b"\x7fELF" for one in code.values())


def test_inverted_residuals():
    kinds = ("1,2,2,2,false,true", "2,3,1,2,true,true", "2,4,1,1,true,false", "1,1,1,2,false,false")
    code = compiler.compile_kernels([("inverted.cu", f"inverted<{kind}>") for kind in kinds], "sm_90a")
    assert all("inverted" in one.symbol and one.cubin[:4] == b"\x7fELF" for one in code.values())


def test_squeeze_excite():
    kinds = ("5,2,2,16,2,128", "5,1,3,32,4,256", "5,1,6,64,5,128", "3,2,0,32,2,128")
    wanted = [("squeezed.cu", f"squeezed<{kind}>") for kind in kinds]
    wanted += [("excited.cu", f"excited<{pairs}>") for pairs in (1, 3, 8)]
    code = compiler.compile_kernels(wanted, "sm_90a")
    assert all(one.cubin[:4] == b"\x7fELF" for one in code.values())


def test_few_pixels_by_clusters():
    kinds = ("1,1", "2,4", "2,2", "1,8")
    wanted = [("few.cu", f"few_separable<{kind}>") for kind in kinds]
    code = compiler.compile_kernels(wanted, "sm_90a")
    assert all("few" in one.symbol and one.cubin[:4] == b"\x7fELF" for one in code.values())


def test_errors_name_the_kernel():
    with pytest.raises(EngineError, match=r"convolution<1> of convolution.cu for sm_90a"):
        compiler.compile_kernels([("convolution.cu", "convolution<1>")], "sm_90a")


def test_a_plan_needs_no_gpu_to_be_built_and_comes_back_from_bytes():
    plan = cuda.build_for(tiny_ssd(), Device("sm_86", 68, 99 << 10))
    facts, code, constants = compiler.load_code(plan)
    assert facts["architecture"] == "sm_86"
    assert {file for file, _ in code} == {"front.cu", "convolution.cu", "pixels.cu", "image.cu", "tail.cu"}
    assert max(facts["constants"].values()) < len(constants)
    for damaged in (b"", plan[:-1], plan[:50], b"x" * 100):
        with pytest.raises(EngineError, match="build it again"):
            compiler.load_code(damaged)


def test_why_it_cannot_run_here_is_said_in_one_sentence():
    why = cuda.unavailable()
    assert why is None or ("GPU" in why and "\n" not in why)

"""CUDA C++ to machine code by NVRTC, on any machine: no GPU, no toolkit, no header but our own."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from typing import Any

from ssdrt.engines.cuda.wgmma import wgmma_header
from ssdrt.errors import EngineError, MissingExtra, import_extra

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90a", "sm_100", "sm_120")
"""What the kernels are compiled for in the tests. They have run on sm_90a alone."""

Wanted = tuple[str, str]  # file, C++ name


@dataclass(frozen=True)
class Code:
    """Machine code of one kernel, and its name in it."""

    symbol: str
    cubin: bytes


@functools.cache
def sources() -> dict[str, str]:
    """File name -> text of the kernels."""
    folder = resources.files("ssdrt.engines.cuda") / "kernels"
    texts = {file.name: file.read_text() for file in folder.iterdir() if file.name.endswith((".cu", ".cuh"))}
    return {**texts, "wgmma.cuh": wgmma_header()}


@functools.cache
def digest() -> str:
    """Of the kernels' text, and of this package's: which steps a plan has, how weights are packed and what a tactic's
    numbers mean is said there."""
    files = resources.files("ssdrt.engines.cuda").iterdir()
    texts = sources() | {file.name: file.read_text() for file in files if file.name.endswith(".py")}
    return hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest()[:16]


def compile_kernels(
    wanted: Iterable[Wanted], architecture: str, advance: Callable[[int], None] = lambda _: None
) -> dict[Wanted, Code]:
    """Each kernel compiled by itself, on all processors; what this process compiled lately is not compiled again.

    Parameters
    ----------
    advance: called with 1 for each.

    Raises
    ------
    EngineError: NVRTC refuses one; the message is its own.
    """
    texts, names, code = tuple(sources().items()), sorted(set(wanted)), {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, one in zip(names, pool.map(lambda name: _kept(texts, *name, architecture), names), strict=True):
            code[name] = one
            advance(1)
    return code


@functools.lru_cache(maxsize=256)
def _kept(texts: tuple[tuple[str, str], ...], file: str, name: str, architecture: str) -> Code:
    """A build compiles what it measures, and of that again what it takes."""
    return _compiled(open_nvrtc(), dict(texts), file, name, architecture)


def open_nvrtc() -> Any:
    """`cuda.bindings.nvrtc`, ready to be used.

    Raises
    ------
    MissingExtra: the bindings or NVIDIA's library are not installed.
    """
    nvrtc = import_extra("cuda.bindings.nvrtc", "cuda", "NVIDIA's compiler")
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:  # of what looks for the library, which some bindings come without
        raise MissingExtra("NVIDIA's compiler (libnvrtc) is not installed: pip install 'ssdrt[cuda]'") from error
    return nvrtc


def _compiled(nvrtc: Any, texts: dict[str, str], file: str, name: str, architecture: str) -> Code:
    headers = {key: text for key, text in texts.items() if key.endswith(".cuh")}
    bodies, keys = [text.encode() for text in headers.values()], [key.encode() for key in headers]
    program = _checked(nvrtc.nvrtcCreateProgram(texts[file].encode(), file.encode(), len(keys), bodies, keys))
    try:
        _checked(nvrtc.nvrtcAddNameExpression(program, name.encode()))
        options = [b"--gpu-architecture=" + architecture.encode(), b"-std=c++17"]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if status:
            log = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
            nvrtc.nvrtcGetProgramLog(program, log)
            raise EngineError(
                f"NVRTC cannot compile {name} of {file} for {architecture}: {log.decode().strip()[:2000]}"
            )
        symbol = _checked(nvrtc.nvrtcGetLoweredName(program, name.encode())).decode()
        cubin = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
        _checked(nvrtc.nvrtcGetCUBIN(program, cubin))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return Code(symbol, cubin)


def _checked(result: tuple[Any, ...]) -> Any:
    status, *values = result
    if status:
        raise EngineError(f"NVRTC failed: {status.name}")
    return values[0] if values else None


# --- as bytes -------------------------------------------------------------------------------------------------------


def dump_code(facts: dict[str, Any], code: dict[Wanted, Code], constants: bytes) -> bytes:
    """Facts, machine code and constants as bytes: the length of a JSON header (8 bytes, little-endian), the header, the
    cubins, the constants."""
    kernels = [[file, name, one.symbol, len(one.cubin)] for (file, name), one in code.items()]
    header = json.dumps({"facts": facts, "kernels": kernels, "constants": len(constants)}).encode()
    return b"".join((len(header).to_bytes(8, "little"), header, *(one.cubin for one in code.values()), constants))


def load_code(data: bytes) -> tuple[dict[str, Any], dict[Wanted, Code], bytes]:
    """What `dump_code` wrote.

    Raises
    ------
    EngineError: the bytes are something else.
    """
    try:
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        code = {}
        for file, name, symbol, size in header["kernels"]:
            code[file, name] = Code(symbol, data[end : end + size])
            end += size
        facts: dict[str, Any] = header["facts"]
        constants = data[end:]
        whole = len(constants) == header["constants"]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"this is no plan of engine cuda ({error}); build it again") from error
    if not whole:
        raise EngineError("this plan of engine cuda is cut off; build it again")
    return facts, code, constants

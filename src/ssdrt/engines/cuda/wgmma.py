"""`wgmma.cuh`: one function for each width of the matrix unit of sm_90a, too long to write by hand."""

from __future__ import annotations

WIDTHS = (32, 64, 96, 128, 160, 192, 224)
WIDTHS_OF_REGISTERS = (80,)


def wgmma_header() -> str:
    """wgmma<COLUMNS>(sums, a, b, add): sums (64 x COLUMNS, fp32) = or += a (64 x 16) * b (16 x COLUMNS), in fp16.
    wgmma_of_registers: a's numbers themselves, four pairs a thread."""
    functions = [_function(columns) for columns in WIDTHS]
    functions += [_function_of_registers(columns) for columns in WIDTHS_OF_REGISTERS]
    declarations = [
        f"template <int COLUMNS>\nstatic __device__ __forceinline__ "
        f"void {name}(float (&d)[COLUMNS / 2], {a}, unsigned long long b, int add);\n"
        for name, a in (("wgmma", "unsigned long long a"), ("wgmma_of_registers", "const unsigned int (&a)[4]"))
    ]
    return "\n".join(["#pragma once", *declarations, *functions])


def _function_of_registers(columns: int) -> str:
    count = columns // 2
    names = ", ".join(f"%{i}" for i in range(count))
    outputs = ", ".join(f'"+f"(d[{i}])' for i in range(count))
    inputs = ", ".join(f'"r"(a[{i}])' for i in range(4))
    return (
        "template <>\n__device__ __forceinline__ void "
        f"wgmma_of_registers<{columns}>"
        f"(float (&d)[{count}], const unsigned int (&a)[4], unsigned long long b, int add) {{\n"
        f'  asm volatile("{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{count + 5}, 0;\\n'
        f"wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.f16.f16 {{{names}}}, "
        f'{{%{count}, %{count + 1}, %{count + 2}, %{count + 3}}}, %{count + 4}, p, 1, 1, 0;\\n}}"'
        f' : {outputs} : {inputs}, "l"(b), "r"(add));\n}}\n'
    )


def _function(columns: int) -> str:
    count = columns // 2
    names = ", ".join(f"%{i}" for i in range(count))
    outputs = ", ".join(f'"+f"(d[{i}])' for i in range(count))
    return (
        "template <>\n__device__ __forceinline__ void "
        f"wgmma<{columns}>(float (&d)[{count}], unsigned long long a, unsigned long long b, int add) {{\n"
        f'  asm volatile("{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{count + 2}, 0;\\n'
        f"wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.f16.f16 {{{names}}}, "
        f'%{count}, %{count + 1}, p, 1, 1, 0, 0;\\n}}"'
        f' : {outputs} : "l"(a), "l"(b), "r"(add));\n}}\n'
    )

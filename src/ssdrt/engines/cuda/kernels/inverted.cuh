// What inverted.cu takes from the matrix unit, for sm_80 and later.
#pragma once
#include "shared.cuh"

// The product of a 16 x 16 and a 16 x 8 matrix, added to c, in fp16
DEVICE void product(uint32 (&d)[2], const uint32 (&a)[4], uint32 b0, uint32 b1, uint32 c0, uint32 c1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%8, %9};"
      : "=r"(d[0]), "=r"(d[1]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(c0), "r"(c1));
}

// Of the thread that many lanes before, or behind; its own where there is none.
DEVICE uint32 from_before(uint32 v, int lanes) { return __shfl_up_sync(~0u, v, lanes); }
DEVICE uint32 from_behind(uint32 v, int lanes) { return __shfl_down_sync(~0u, v, lanes); }

DEVICE uint32 bits(float f) { return __float_as_uint(f); }
DEVICE float number(uint32 v) { return __uint_as_float(v); }

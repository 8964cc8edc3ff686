// What inverted.cu takes from the matrix unit and from shared memory, for sm_80 and later.
#pragma once
#include "common.cuh"

// The product of a 16 x 16 and a 16 x 8 matrix, added to c, in fp16
DEVICE void product(uint32 (&d)[2], const uint32 (&a)[4], uint32 b0, uint32 b1, uint32 c0, uint32 c1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%8, %9};"
      : "=r"(d[0]), "=r"(d[1]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(c0), "r"(c1));
}

// Of the thread that many lanes before, or behind; its own where there is none.
DEVICE uint32 from_before(uint32 v, int lanes) { return __shfl_up_sync(~0u, v, lanes); }
DEVICE uint32 from_behind(uint32 v, int lanes) { return __shfl_down_sync(~0u, v, lanes); }

// From shared memory each time: weights held in registers would leave none.
DEVICE uint4 shared16(uint32 address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address) : "memory");
  return v;
}

DEVICE uint2 shared8(uint32 address) {
  uint2 v;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(address) : "memory");
  return v;
}

DEVICE void to_shared16(uint32 address, const uint4& v) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

DEVICE uint32 bits(float f) { return __float_as_uint(f); }
DEVICE float number(uint32 v) { return __uint_as_float(v); }

// What squeezed.cu and excited.cu take from memory.
#pragma once
#include "inverted.cuh"

// Of what no kernel writes.
DEVICE uint4 constant16(const half_t* from) {
  uint4 v;
  asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
  return v;
}

DEVICE uint32 shared4(uint32 address) {
  uint32 v;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(address) : "memory");
  return v;
}

DEVICE float2 shared_pair(uint32 address) {
  const uint2 v = shared8(address);
  return make_float2(number(v.x), number(v.y));
}

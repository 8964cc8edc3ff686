// What chain.cu asks of the GPU beside what hopper.cuh has; tests put an emulator in the place of both.
#pragma once
#include "hopper.cuh"

DEVICE void load_tile(uint32 to, const TensorMap& map, int x, int y, int z, int w, uint32 barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}

DEVICE uint2 multiply_add(const uint2& a, const uint2& b, const uint2& c) {
  return make_uint2(multiply_add(a.x, b.x, c.x), multiply_add(a.y, b.y, c.y));
}

DEVICE uint32 at_most(uint32 v, uint32 high) {
  asm("min.f16x2 %0, %0, %1;" : "+r"(v) : "r"(high));
  return v;
}

// The last of the window's products, and the activation.
DEVICE uint2 ended(const uint2& a, const uint2& b, const uint2& c, uint32 high) {
  return make_uint2(at_most(positive_multiply_add(a.x, b.x, c.x), high), at_most(positive_multiply_add(a.y, b.y, c.y), high));
}

DEVICE uint32 positive_pack(float low, float high) {
  uint32 both;
  asm("cvt.rn.relu.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

// Four 8x8 matrices of pairs, turned: a lane says where one of 32 rows of 16 bytes goes.
DEVICE void store_turned(uint32 address, uint32 a, uint32 b, uint32 c, uint32 d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}

// The number itself, in a register of its own: from anything else the compiler makes such numbers anew in every turn of a
// loop, which costs more than the loop's own work.
DEVICE uint32 kept(uint32 number) {
  uint32 same;
  asm volatile("shfl.sync.idx.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=r"(same) : "r"(number), "r"(threadIdx.x & 31));
  return same;
}

// A place in a ring whose users count it round by themselves.
template <int SLOTS>
struct Turn {
  int slot, parity;
  __device__ __forceinline__ void advance() {
    if (++slot == SLOTS) slot = 0, parity ^= 1;
  }
};

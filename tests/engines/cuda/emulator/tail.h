// What tail.cu uses of a GPU beyond emulator.h: votes and exchanges of warps, atomic operations, numbers as bits.
#include "emulator.h"
#include <cmath>
struct int4 { int x, y, z, w; }; struct alignas(16) float4 { float x, y, z, w; };
static int4 make_int4(int a, int b, int c, int d) { return {a, b, c, d}; }
static float4 make_float4(float a, float b, float c, float d) { return {a, b, c, d}; }
#define __shared__ static
#define __align__(n) alignas(n)
static int block_y;
static int min(int a, uint32 b) { return a < (int)b ? a : (int)b; }
static uint64 min(uint64 a, uint64 b) { return a < b ? a : b; } static uint64 max(uint64 a, uint64 b) { return a > b ? a : b; }
static float max(float a, float b) { return fmaxf(a, b); }
static int atomicAdd(int* p, int v) { const int old = *p; *p += v; return old; }
static int atomicOr(int* p, int v) { const int old = *p; *p |= v; return old; }
static uint32 atomicOr(uint32* p, uint32 v) { const uint32 old = *p; *p |= v; return old; }
static int __popc(uint32 v) { return __builtin_popcount(v); } static int __clz(uint32 v) { return v ? __builtin_clz(v) : 32; }
static int __ffs(uint32 v) { return __builtin_ffs(v); } static int __ffsll(uint64 v) { return __builtin_ffsll(v); }
static uint32 __float_as_uint(float f) { uint32 v; memcpy(&v, &f, 4); return v; }
static float __uint_as_float(uint32 v) { float f; memcpy(&f, &v, 4); return f; }
static float __int_as_float(int v) { return __uint_as_float(v); }
static float __fadd_rn(float a, float b) { return a + b; } static float __fsub_rn(float a, float b) { return a - b; }
static float __fmul_rn(float a, float b) { return a * b; } static float __fdiv_rn(float a, float b) { return a / b; }
static float __frcp_rn(float a) { return 1.f / a; }
static float to_float(half_t h) { return f16(h); }
static uint4 load16(const half_t* from) { uint4 v; memcpy(&v, from, 16); return v; }
static void unpack(const uint4& v, float (&to)[8]) { half_t h[8]; memcpy(h, &v, 16); for (int i = 0; i < 8; i++) to[i] = f16(h[i]); }
static int any_of; static int __syncthreads_or(int v) { static int sum = 0; sum |= v != 0; meet(2, block_size, [] { any_of = sum, sum = 0; }); return any_of; }
static uint64 given[32][32];  // of each warp
template <class T, class F> static T exchanged_by(T v, F of) {
  const int warp = self->tid / 32, lane = self->tid % 32; given[warp][lane] = 0; memcpy(&given[warp][lane], &v, sizeof v);
  meet(2000 + warp, 32, [] {}); const int other = of(lane); T result = v; if (other >= 0 && other < 32) memcpy(&result, &given[warp][other], sizeof v);
  meet(3000 + warp, 32, [] {}); return result;
}
template <class T> static T __shfl_up_sync(uint32, T v, int gap) { return exchanged_by(v, [=](int lane) { return lane - gap; }); }
template <class T> static T __shfl_xor_sync(uint32, T v, int gap) { return exchanged_by(v, [=](int lane) { return lane ^ gap; }); }
static uint32 __ballot_sync(uint32, bool v) {
  const int warp = self->tid / 32; given[warp][self->tid % 32] = v; meet(4000 + warp, 32, [] {});
  uint32 all = 0; for (int i = 0; i < 32; i++) all |= (uint32)given[warp][i] << i;
  meet(5000 + warp, 32, [] {}); return all;
}

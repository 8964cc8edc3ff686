// What all kernels share: fp16 without a header of the CUDA toolkit, exact division by constants, the end of a sum.
#pragma once

typedef unsigned char uint8;
typedef unsigned short half_t;  // the bits of an fp16 number
typedef unsigned int uint32;
typedef unsigned long long uint64;
#define DEVICE static __device__ __forceinline__

// n / d for 0 <= n < 2^31, as multiplication (divider() in launch.py makes the numbers)
struct Divider {
  uint32 factor, shift;
  int divisor;
};

DEVICE int quotient(int n, const Divider& by) { return by.factor ? (int)(__umulhi((uint32)n, by.factor) >> by.shift) : n; }

DEVICE float to_float(half_t h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}

DEVICE half_t to_half(float f) {
  half_t h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}

DEVICE uint32 pack(float low, float high) {
#if __CUDA_ARCH__ >= 800
  uint32 both;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
#else
  return (uint32)to_half(low) | ((uint32)to_half(high) << 16);
#endif
}

DEVICE float low_half(uint32 both) { return to_float((half_t)(both & 0xffff)); }
DEVICE float high_half(uint32 both) { return to_float((half_t)(both >> 16)); }

// 8 channels as numbers, and back
DEVICE void unpack(const uint4& packed, float (&values)[8]) {
  const uint32 words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    values[2 * i] = low_half(words[i]);
    values[2 * i + 1] = high_half(words[i]);
  }
}

DEVICE uint4 packed(const float (&v)[8]) {
  return make_uint4(pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7]));
}

DEVICE uint4 load16(const half_t* from) { return *(const uint4*)from; }
DEVICE void store16(half_t* to, const uint4& value) { *(uint4*)to = value; }

// --- pairs of fp16 numbers, from sm_80 on ----------------------------------------------------------------------------

DEVICE uint32 multiply_add(uint32 a, uint32 b, uint32 c) {
  uint32 d;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

// Limited to 0..1
DEVICE uint32 multiply_add_saturated(uint32 a, uint32 b, uint32 c) {
  uint32 d;
  asm("fma.rn.sat.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

// Not less than 0
DEVICE uint32 positive_multiply_add(uint32 a, uint32 b, uint32 c) {
  uint32 d;
  asm("fma.rn.relu.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

DEVICE uint32 limited(uint32 v, uint32 low, uint32 high) {
  asm("max.f16x2 %0, %0, %1;" : "+r"(v) : "r"(low));
  asm("min.f16x2 %0, %0, %1;" : "+r"(v) : "r"(high));
  return v;
}

DEVICE void multiply_add(uint4& sum, const uint4& a, const uint4& b) {
  sum.x = multiply_add(a.x, b.x, sum.x), sum.y = multiply_add(a.y, b.y, sum.y);
  sum.z = multiply_add(a.z, b.z, sum.z), sum.w = multiply_add(a.w, b.w, sum.w);
}

DEVICE uint4 limited(const uint4& v, uint32 low, uint32 high) {
  return make_uint4(limited(v.x, low, high), limited(v.y, low, high), limited(v.z, low, high), limited(v.w, low, high));
}

// --- the end of a sum: an activation, then a factor. The codes are those of `ACTIVATIONS` in launch.py --------------

struct Finish {
  int activation;   // 0: only the limits below
  float low, high;  // of relu, relu6 and of nothing (the finite numbers of fp16)
  float scale;
};

DEVICE float sigmoid(float x) { return __fdividef(1.f, 1.f + __expf(-x)); }

DEVICE float hard_sigmoid(float x) { return __saturatef(fmaf(x, 1.f / 6.f, 0.5f)); }

DEVICE float finished(float x, const Finish& finish) {
  if (finish.activation) {
    if (finish.activation == 1) x = hard_sigmoid(x);
    else if (finish.activation == 2) x = x * hard_sigmoid(x);
    else if (finish.activation == 3) x = sigmoid(x);
    else x = x * sigmoid(x);
  }
  return fminf(fmaxf(x, finish.low), finish.high) * finish.scale;
}

// Several sums at once: the usual activations are asked for once, not for every number.
template <int N>
DEVICE void finish_all(float (&sums)[N], const Finish& finish) {
  if (finish.activation == 0) {
#pragma unroll
    for (int i = 0; i < N; i++) sums[i] = fminf(fmaxf(sums[i], finish.low), finish.high) * finish.scale;
  } else if (finish.activation == 2) {
#pragma unroll
    for (int i = 0; i < N; i++) sums[i] = fminf(sums[i] * hard_sigmoid(sums[i]), finish.high) * finish.scale;  // at least -3/8
  } else {
#pragma unroll
    for (int i = 0; i < N; i++) sums[i] = finished(sums[i], finish);
  }
}

// --- launches that overlap (sm_90: programmatic dependent launch) ----------------------------------------------------

// Called before the first access to what an earlier kernel wrote.
DEVICE void wait_for_earlier_kernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

DEVICE void let_later_kernels_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// --- shared memory and the matrix unit -------------------------------------------------------------------------------

DEVICE uint32 shared_address(const void* p) { return (uint32)__cvta_generic_to_shared(p); }

// 16 bytes from global to shared memory; zeros where `inside` is false
DEVICE void copy16(uint32 to, const void* from, bool inside) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
#else
  const uint4 v = inside ? *(const uint4*)from : make_uint4(0, 0, 0, 0);
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
#endif
}

DEVICE void end_of_group() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// until all but the newest PENDING groups of copies are there
template <int PENDING>
DEVICE void wait_for_groups() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

DEVICE void load_matrices(uint32 (&r)[4], uint32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address) : "memory");
}

// d += a (16 x 16) * b (16 x 8)
DEVICE void multiply(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b0));
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

// What squeezed.cu, excited.cu and inverted.cu use of a GPU beside what emulator.h has; a block alone is run. Copies end when
// they are waited for; shared memory is as long as the launch says.
#include <cmath>
#include "emulator.h"
struct float2 { float x, y; }; struct float4 { float x, y, z, w; };
#define memory (self->block->shared.data() + 16)
#define __expf expf
#define bits __float_as_uint
#define number __uint_as_float
static float2 make_float2(float a, float b) { return {a, b}; }
static uint32 __float_as_uint(float f) { uint32 v; memcpy(&v, &f, 4); return v; }
static float __uint_as_float(uint32 f) { float v; memcpy(&v, &f, 4); return v; }
static float __saturatef(float f) { return f > 0 ? (f < 1 ? f : 1) : 0; }
static float __fdividef(float a, float b) { return a / b; }
static float to_float(half_t h) { return f16(h); }
static half_t to_half(float f) { return h16(f); }
static uint32 pack(float a, float b) { return two(h16(a), h16(b)); }
static float low_half(uint32 v) { return f16(v & 0xffff); }
static float high_half(uint32 v) { return f16(v >> 16); }
static void unpack(const uint4& p, float (&v)[8]) { const uint32 w[4] = {p.x, p.y, p.z, p.w}; for (int i = 0; i < 4; i++) v[2 * i] = low_half(w[i]), v[2 * i + 1] = high_half(w[i]); }
static uint4 packed(const float (&v)[8]) { return make_uint4(pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7])); }
static uint32 multiply_add_saturated(uint32 a, uint32 b, uint32 c) { const uint32 v = multiply_add(a, b, c); return pack(__saturatef(low_half(v)), __saturatef(high_half(v))); }
static void aligned(const void* p) { if ((uint64)p & 15) fail("align 16"); }
static uint4 load16(const half_t* from) { aligned(from); return *(const uint4*)from; }
static uint4 constant16(const half_t* from) { return load16(from); }
static void store16(half_t* to, const uint4& v) { aligned(to); *(uint4*)to = v; }
template <class T> static T shared_(uint32 a) { if (a % sizeof(T)) fail("align shared"); T v; memcpy(&v, at(self->block, a, sizeof(T)), sizeof(T)); return v; }
template <class T> static void to_shared_(uint32 a, const T& v) { if (a % sizeof(T)) fail("align shared"); memcpy(at(self->block, a, sizeof(T)), &v, sizeof(T)); }
static uint32 shared4(uint32 a) { return shared_<uint32>(a); }
static uint4 shared16(uint32 a) { return shared_<uint4>(a); }
static float2 shared_pair(uint32 a) { const uint2 v = shared_<uint2>(a); return {number(v.x), number(v.y)}; }
static void to_shared16(uint32 a, const uint4& v) { to_shared_(a, v); }
typedef std::vector<std::function<void()>> Copies;
static std::vector<Copies> groups[1024]; static Copies newest[1024];
static void copy16(uint32 to, const void* from, bool inside) { if (to & 15) fail("align 16"); if (inside) aligned(from); uint8* out = at(self->block, to, 16); newest[self->tid].push_back([=] { inside ? (void)memcpy(out, from, 16) : (void)memset(out, 0, 16); }); }
static void end_of_group() { groups[self->tid].push_back(newest[self->tid]); newest[self->tid].clear(); }
template <int N> static void wait_for_groups() { auto& q = groups[self->tid]; while (q.size() > N) { for (auto& copy : q.front()) copy(); q.erase(q.begin()); } }
static uint32 words[1024];
template <class F> static uint32 shuffled(int key, uint32 v, F from) { // `from`: of a lane
  const int first = self->tid & ~31; words[self->tid] = v; static uint32 out[1024];
  meet(key + first / 32, 32, [&] { for (int l = 0; l < 32; l++) { const int f = from(l); out[first + l] = words[first + (f < 0 || f > 31 ? l : f)]; } });
  return out[self->tid];
}
static float __shfl_xor_sync(uint32, float v, int by) { return number(shuffled(5000, bits(v), [=](int l) { return l ^ by; })); }
static uint32 from_before(uint32 v, int by) { return shuffled(5100, v, [=](int l) { return l - by; }); }
static uint32 from_behind(uint32 v, int by) { return shuffled(5200, v, [=](int l) { return l + by; }); }
static void load_matrices(uint32 (&r)[4], uint32 address) {
  const int first = self->tid & ~31; Args* args = args_of[0] + first; args[self->tid - first].address = address;
  meet(6000 + first, 32, [&] { for (int l = 0; l < 32; l++) for (int m = 0; m < 4; m++) args[l].r[m] = shared_<uint32>(args[m * 8 + l / 4].address + l % 4 * 4); });
  for (int m = 0; m < 4; m++) r[m] = args_of[0][self->tid].r[m];
}
static uint32 rights[1024][2];
static void multiply(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) {
  const int first = self->tid & ~31; args_of[0][self->tid].a = a; args_of[0][self->tid].d = d; rights[self->tid][0] = b0; rights[self->tid][1] = b1;
  meet(7000 + first, 32, [&] {
    float A[16][16], B[16][8]; const Args* args = args_of[0] + first;
    for (int l = 0; l < 32; l++) for (int e = 0; e < 2; e++) {
      for (int q = 0; q < 4; q++) A[l / 4 + (q & 1) * 8][2 * (l % 4) + e + (q >> 1) * 8] = f16(args[l].a[q] >> 16 * e & 0xffff);
      for (int q = 0; q < 2; q++) B[2 * (l % 4) + e + q * 8][l / 4] = f16(rights[first + l][q] >> 16 * e & 0xffff);
    }
    for (int l = 0; l < 32; l++) for (int e = 0; e < 4; e++) for (int k = 0; k < 16; k++) args[l].d[e] += A[l / 4 + (e >> 1) * 8][k] * B[k][2 * (l % 4) + (e & 1)];
  });
}
static void product(uint32 (&d)[2], const uint32 (&a)[4], uint32 b0, uint32 b1, uint32 c0, uint32 c1) {
  float sums[4] = {low_half(c0), high_half(c0), low_half(c1), high_half(c1)};
  multiply(sums, a, b0, b1);
  d[0] = pack(sums[0], sums[1]), d[1] = pack(sums[2], sums[3]);
}

// What chain.cu uses of a GPU, for a processor of x86-64: every thread of a cluster is a fiber, warps run in random order,
// copies end at random times. It finds wrong places, counts and parities, and waits without end; it knows nothing of the order
// in which memory is seen, nor of registers.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>
#include <functional>
#include <random>
#include <map>
#include <set>
typedef unsigned char uint8; typedef unsigned short half_t; typedef unsigned int uint32; typedef unsigned long long uint64;
#define DEVICE static inline
#define __device__
#define __forceinline__ inline
#define __global__ static
#define __grid_constant__
#define __launch_bounds__(...)
struct uint2 { uint32 x, y; }; struct alignas(16) uint4 { uint32 x, y, z, w; };
static inline uint2 make_uint2(uint32 a, uint32 b) { return {a, b}; }
static inline uint4 make_uint4(uint32 a, uint32 b, uint32 c, uint32 d) { return {a, b, c, d}; }
struct Divider { uint32 factor, shift; int divisor; };
static inline int quotient(int n, const Divider& by) { return by.factor ? (int)((uint32)(((uint64)(uint32)n * by.factor) >> 32) >> by.shift) : n; }
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
struct alignas(64) TensorMap { uint64 address; long long sizes[4]; long long pitches[4]; int box[4]; uint8 rest[128 - 8 - 32 - 32 - 16]; };
static_assert(sizeof(TensorMap) == 128);

// --- fibers
extern "C" void emu_switch(void** from, void* to);
asm(R"(
.text
.globl emu_switch
emu_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");
struct Barrier { int count = 0, pending = 0; long long tx = 0; int phase = 0; bool made = false; };
struct Meet { int arrived = 0; int generation = 0; };
struct Block { std::vector<uint8> shared; std::map<uint32, Barrier> barriers; std::map<int, Meet> meets; int index; };
struct Fiber { void* sp; std::vector<uint8> stack; int tid; Block* block; bool done = false; const char* where = ""; uint32 what = 0; int parity = 0; };
struct Args { const uint32* a; float* d; uint64 desc; int add; uint32 address, r[4]; };
static Fiber* self; static void* main_sp; static std::function<void()> body; static bool progress; static std::mt19937 rng(1);
static std::vector<Block>* cluster; static int grid_size, block_size, cluster_size, shared_size = 232448;
static Args args_of[4][1024];
struct Later { std::function<void()> act; }; static std::vector<Later> later;
static void yield_() { emu_switch(&self->sp, main_sp); }
static void fail(const char* text) { fprintf(stderr, "EMU: %s (thread %d block %d at %s %u)\n", text, self ? self->tid : -1, self ? self->block->index : -1, self ? self->where : "", self ? self->what : 0); fflush(stderr); abort(); }
static int rank_() { return self->block - cluster->data(); }
template <class F> static void meet(int key, int need, F action) {
  Meet& m = self->block->meets[key]; const int g = m.generation;
  if (++m.arrived == need) { m.arrived = 0, m.generation++; action(); progress = true; return; }
  progress = true;
  while (m.generation == g) { self->where = "meet"; self->what = key; yield_(); }
}
struct ThreadIdx { struct { operator uint32() const { return self->tid; } } x; } threadIdx;
struct BlockIdx { struct { operator uint32() const { return self->block->index; } } x; } blockIdx;
struct GridDim { struct { operator uint32() const { return grid_size; } } x; } gridDim;
static void __syncthreads() { meet(1, block_size, [] {}); }
static void __syncwarp() { meet(1000 + self->tid / 32, 32, [] {}); }
static void named_barrier(int id, int count) { meet(100 + id, count, [] {}); }
static uint8 memory[16];
static uint32 shared_address(const void*) { return 16; }
static uint8* at(Block* b, uint32 a, int n) { if (a + n > b->shared.size()) fail("shared out of range"); return b->shared.data() + a; }
static Barrier& bar(Block* b, uint32 a) { Barrier& x = b->barriers[a]; if (!x.made) fail("no barrier"); return x; }
static void check(Barrier& x) { if (x.pending < 0) fail("too many arrivals"); if (x.pending == 0 && x.tx == 0) x.phase ^= 1, x.pending = x.count; progress = true; }
static void barrier_init(uint32 a, int n) { Barrier& x = self->block->barriers[a]; if (x.made) fail("barrier twice"); x.count = x.pending = n; x.made = true; }
static void barriers_are_ready() {}
static void arrive(uint32 a) { Barrier& x = bar(self->block, a); x.pending--; check(x); }
static void arrive_at(uint32 a, int r) { Barrier& x = bar(&(*cluster)[r], a); x.pending--; check(x); }
static void arrive_expecting(uint32 a, int bytes) { Barrier& x = bar(self->block, a); x.tx += bytes; x.pending--; check(x); }
static void wait(uint32 a, int parity) { Barrier& x = bar(self->block, a); while (x.phase == parity) { self->where = "wait"; self->what = a; self->parity = parity; yield_(); } progress = true; }
static void publish_stores() {}
static int cluster_rank() { return rank_(); }
static std::map<int, Meet> cluster_meets; static void cluster_all() { Meet& m = cluster_meets[0]; int g = m.generation; progress = true; if (++m.arrived == block_size * cluster_size) { m.arrived = 0; m.generation++; return; } while (m.generation == g) { self->where = "cluster"; yield_(); } }
static void cluster_sync() { cluster_all(); }
static void cluster_leave() { cluster_all(); }
static void let_later_kernels_start() {} 
static void wait_for_earlier_kernels() {}
template <int N> static void more_registers() {} 
template <int N> static void fewer_registers() {}
static uint64 operand(uint32 address) { if (address & 1023) fail("operand not aligned"); return (uint64)((address & 0x3ffff) >> 4) | (1ull << 16) | (64ull << 32) | (1ull << 62); }
static void products_begin() {} static void products_end() {} template <int N> static void products_wait() {}
static float f16(half_t h) { _Float16 v; memcpy(&v, &h, 2); return (float)v; }
static half_t h16(double d) { _Float16 v = (_Float16)d; half_t h; memcpy(&h, &v, 2); return h; }
static uint32 two(half_t a, half_t b) { return a | (uint32)b << 16; }
static uint32 multiply_add(uint32 a, uint32 b, uint32 c) { return two(h16((double)f16(a & 0xffff) * f16(b & 0xffff) + f16(c & 0xffff)), h16((double)f16(a >> 16) * f16(b >> 16) + f16(c >> 16))); }
static uint32 positive(uint32 v) { auto p = [](half_t h) -> half_t { float f = f16(h); return f > 0 ? h : 0; }; return two(p(v & 0xffff), p(v >> 16)); }
static uint32 positive_multiply_add(uint32 a, uint32 b, uint32 c) { return positive(multiply_add(a, b, c)); }
static uint32 at_most(uint32 v, uint32 high) { auto m = [](half_t a, half_t b) { return f16(b) < f16(a) ? b : a; }; return two(m(v & 0xffff, high & 0xffff), m(v >> 16, high >> 16)); }
static uint32 positive_pack(float low, float high) { return positive(two(h16(low), h16(high))); }
static uint2 multiply_add(const uint2& a, const uint2& b, const uint2& c) { return {multiply_add(a.x, b.x, c.x), multiply_add(a.y, b.y, c.y)}; }
static uint2 ended(const uint2& a, const uint2& b, const uint2& c, uint32 high) { return {at_most(positive_multiply_add(a.x, b.x, c.x), high), at_most(positive_multiply_add(a.y, b.y, c.y), high)}; }
static uint2 shared8(uint32 a) { if (a & 7) fail("align 8"); uint2 v; memcpy(&v, at(self->block, a, 8), 8); return v; }
static void to_shared8(uint32 a, const uint2& v) { if (a & 7) fail("align 8"); memcpy(at(self->block, a, 8), &v, 8); }
static uint32 kept(uint32 v) { return v; }
static void complete(Block* b, uint32 a, int bytes) { Barrier& x = bar(b, a); x.tx -= bytes; check(x); }
static void load_tile(uint32 to, const TensorMap& map, int x, int y, int z, int w, uint32 barrier) {
  if (to & 127) fail("tma align"); Block* b = self->block; const TensorMap* m = &map;
  later.push_back({[=] {
    int at0[4] = {x, y, z, w}; uint8* out = at(b, to, m->box[0] * m->box[1] * m->box[2] * m->box[3] * 2); 
    for (int d = 0; d < m->box[3]; d++) for (int c = 0; c < m->box[2]; c++) for (int bb = 0; bb < m->box[1]; bb++) for (int a = 0; a < m->box[0]; a++, out += 2) {
      long long i[4] = {at0[0] + a, at0[1] + bb, at0[2] + c, at0[3] + d}; bool in = true; for (int k = 0; k < 4; k++) in &= i[k] >= 0 && i[k] < m->sizes[k];
      half_t v = 0; if (in) memcpy(&v, (uint8*)m->address + i[0] * 2 + i[1] * m->pitches[1] + i[2] * m->pitches[2] + i[3] * m->pitches[3], 2); memcpy(out, &v, 2); }
    complete(b, barrier, m->box[0] * m->box[1] * m->box[2] * m->box[3] * 2); }});
}
static void bulk_copy_to(int rank, uint32 place, int bytes, uint32 barrier) { Block *b = self->block, *o = &(*cluster)[rank]; if (o == b) fail("copy to itself");
  for (int part = 0; part < 2; part++) { const uint32 from = place + part * bytes / 2; later.push_back({[=] { memcpy(at(o, from, bytes / 2), at(b, from, bytes / 2), bytes / 2); complete(o, barrier, bytes / 2); }}); } }
template <int N> static void wgmma_of_registers(float (&d)[N / 2], const uint32 (&a)[4], uint64 desc, int add) {
  const int r = rank_(), g = self->tid / 128; args_of[r][self->tid] = {a, d, desc, add, 0, {}};
  meet(2000 + g, 128, [&] {
    Block* b = self->block; const uint32 start = (desc & 0x3fff) << 4; static float B[N][16];
    for (int n = 0; n < N; n++) for (int k = 0; k < 16; k++) { uint32 ad = start + n * 128 + k * 2; ad ^= ((ad >> 7) & 7) << 4; half_t h; memcpy(&h, at(b, ad, 2), 2); B[n][k] = f16(h); }
    for (int t = 0; t < 128; t++) { Args& x = args_of[r][g * 128 + t]; if (x.desc != desc) fail("descriptors differ"); const int w = t / 32, l = t % 32; 
      float A[2][16]; (void)w; static float rows[64][16];
      for (int q = 0; q < 4; q++) for (int e = 0; e < 2; e++) rows[w * 16 + l / 4 + (q & 1) * 8][2 * (l % 4) + e + (q >> 1) * 8] = f16(e ? x.a[q] >> 16 : x.a[q] & 0xffff);
      if (t == 127) for (int u = 0; u < 128; u++) { Args& y = args_of[r][g * 128 + u]; const int uw = u / 32, ul = u % 32; for (int j = 0; j < N / 8; j++) for (int e = 0; e < 4; e++) { const int row = uw * 16 + ul / 4 + (e >> 1) * 8, col = j * 8 + 2 * (ul % 4) + (e & 1); float s = y.add ? y.d[j * 4 + e] : 0; for (int k = 0; k < 16; k++) s += rows[row][k] * B[col][k]; y.d[j * 4 + e] = s; } } }
  });
}
static void store_turned(uint32 address, uint32 a, uint32 b, uint32 c, uint32 d) {
  const int r = rank_(), w = self->tid / 32; args_of[r][self->tid] = {nullptr, nullptr, 0, 0, address, {a, b, c, d}};
  meet(3000 + w, 32, [&] { for (int m = 0; m < 4; m++) { std::set<uint32> banks; for (int row = 0; row < 8; row++) { uint32 to = args_of[r][w * 32 + m * 8 + row].address; banks.insert(to / 16 % 8); half_t out[8]; for (int e = 0; e < 8; e++) { uint32 v = args_of[r][w * 32 + e * 4 + row / 2].r[m]; out[e] = row & 1 ? v >> 16 : v & 0xffff; } memcpy(at(self->block, to, 16), out, 16); } if (banks.size() != 8) fail("stmatrix conflicts"); } });
}
template <int SLOTS> struct Turn { int slot, parity; void advance() { if (++slot == SLOTS) slot = 0, parity ^= 1; } };

static void entry() { body(); self->done = true; progress = true; for (;;) yield_(); }
static void run_cluster(int first, int seed) {
  static std::vector<Fiber> fibers; std::vector<Block> blocks(cluster_size); cluster = &blocks; cluster_meets.clear(); later.clear(); rng.seed(seed);
  fibers.resize(cluster_size * block_size);
  for (int b = 0; b < cluster_size; b++) { blocks[b].shared.assign(shared_size, 0xff); blocks[b].index = first + b; }
  for (size_t i = 0; i < fibers.size(); i++) { Fiber& f = fibers[i]; f.stack.resize(32768); f.tid = i % block_size; f.block = &blocks[i / block_size]; f.done = false;
    uint64 top = ((uint64)f.stack.data() + f.stack.size()) & ~63ull; void** sp = (void**)(top - 8); *--sp = (void*)entry; for (int k = 0; k < 6; k++) *--sp = nullptr; f.sp = sp; }
  std::vector<int> order(fibers.size() / 32); for (size_t i = 0; i < order.size(); i++) order[i] = i;
  size_t left = fibers.size(); int quiet = 0;
  while (left) {
    progress = false; std::shuffle(order.begin(), order.end(), rng);
    for (int w : order) { if (rng() % 4 == 0) continue; for (int l = 0; l < 32; l++) { Fiber& f = fibers[w * 32 + l]; if (f.done) continue; self = &f; emu_switch(&main_sp, f.sp); if (f.done) left--; } }
    self = &fibers[0];
    for (size_t i = 0; i < later.size();) { if (rng() % 3 == 0) { later[i].act(); later[i] = later.back(); later.pop_back(); progress = true; } else i++; }
    quiet = progress ? 0 : quiet + 1;
    if (quiet > 50 && later.empty()) { for (auto& f : fibers) if (!f.done && f.tid % 32 == 0) fprintf(stderr, "stuck block %d warp %d %s %u parity %d\n", f.block->index, f.tid / 32, f.where, f.what, f.parity); abort(); }
  }
  if (!later.empty()) { fprintf(stderr, "copies left\n"); abort(); }
}

// The front of MobileNet v1 in one kernel, for sm_80 and later: bytes, normalisation, 3x3 of stride 2, depthwise 3x3 and
// 1x1, depthwise 3x3 of stride 2 and 1x1, all ending in relu6. What lies between stays in registers: 8.6 MB a picture of
// 300x300 that never reach the GPU's memory, and little of it shared memory. The front of MobileNet v2 (TILES2 is 0) ends
// with the first 1x1, and that with nothing.
//
// A warp walks down a strip of 30 (or 14) pixels of the last map, of 60 (28) where no second depthwise convolution halves
// it, a row of 64 (32) of the first convolution's at a time. A group of four threads has 8 (4) neighbouring pixels, a thread
// of them two channels in every 8: what one product leaves in a thread is what the next one takes there, and of a depthwise
// window only the pixels of the two neighbouring groups are not the thread's own. Rows of a window are sums that wait for
// the rows to come.
//
// Numbers between the ends are a sixth of the network's, and products with them 64 times that: relu6 is then what
// saturating instructions do. x - 128 is exact in fp16; the first bias holds the rest of the normalisation, and a border
// is the byte that is zero after it.
#include "common.cuh"

struct Stem {
  const uint4* pictures;  // table of `Picture` (image.cu), of which only the address matters here
  const uint4* weights;   // `Weights`, as they lie in shared memory
  half_t* target;
  long long target_image;
  int units, height, width, columns, target_stride;  // pieces of strips; of the source; channels stored
  int down;                                          // rows of a piece of the last map
  uint32 border;                                     // twice, fp16
  Divider of_picture, of_row;                        // pieces of a picture; strips
};

constexpr int WARPS = 4, RING = 8;  // rows of bytes at hand

template <int TILES1, int TILES2, int TILES3>  // 8 channels each: after the first, the second, the last product
struct Weights {
  uint4 first[TILES1][32];         // of a lane: two steps of K
  uint4 depthwise1[TILES1][4][3];  // of a lane's channels and a row of the window: three weights; start, bias, bias
  uint4 point1[TILES2][32];
  uint4 depthwise2[TILES2][4][3];
  uint4 point2[TILES3][2][32];     // four steps of K
  float2 bias2[TILES3][4];         // of a lane's two channels
};

template <int TILES1, int TILES3>
struct Weights<TILES1, 0, TILES3> {
  uint4 first[TILES1][32];
  uint4 depthwise1[TILES1][4][3];
  uint4 point2[TILES3][32];  // two steps of K
  float2 bias2[TILES3][4];
};

constexpr uint32 ONE = 0x3c003c00u, SIXTY_FOURTH = 0x24002400u;

// The product of a 16 x 16 and a 16 x 8 matrix, added to c
DEVICE void multiply(float (&d)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1, float c0, float c1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
               : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "f"(c0), "f"(c1), "f"(c0), "f"(c1));
}

// The same in fp16
DEVICE void multiply(uint32 (&d)[2], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1, uint32 c0, uint32 c1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%8, %9};"
               : "=r"(d[0]), "=r"(d[1]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "r"(c0), "r"(c1));
}

DEVICE uint32 relu6_pair(float a, float b) {
  uint32 d;
  asm("cvt.rn.relu.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(b), "f"(a));
  asm("min.f16x2 %0, %0, %1;" : "+r"(d) : "r"(0x46004600u));
  return d;
}

// From shared memory each time: held in registers they would leave none.
DEVICE uint4 reload(const void* from) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(shared_address(from)));
  return v;
}

DEVICE uint2 reload8(const void* from) {
  uint2 v;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(shared_address(from)));
  return v;
}

// In one piece, which the compiler does not always see.
DEVICE void store_whole(half_t* to, const uint4& v) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

DEVICE void store_half(half_t* to, uint32 a, uint32 b) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(a), "r"(b) : "memory");
}

DEVICE uint32 two_bytes(uint32 address, uint32 apart) {
  half_t v;
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(address));
  uint32 both = __byte_perm(v, 0x64646464u, apart);  // 0x6400 | x is 1024 + x
  asm("sub.f16x2 %0, %0, %1;" : "+r"(both) : "r"(0x64806480u));
  return both;
}

// Blocks of a multiprocessor; `two`: as MobileNet v2 begins.
DEVICE constexpr int resident(int sixteens, bool two) { return !two ? 2 : sixteens == 4 ? 3 : 4; }

// SIXTEENS: of a strip's pixels after the first convolution
template <int TILES1, int TILES2, int TILES3, int SIXTEENS>
__global__ void __launch_bounds__(WARPS * 32, resident(SIXTEENS, !TILES2)) stem(const __grid_constant__ Stem p) {
  using Held = Weights<TILES1, TILES2, TILES3>;
  constexpr int EACH = 2 * SIXTEENS, PITCH = 96 * SIXTEENS + 4;  // pixels of a thread; bytes of a row
  constexpr int STRIDE = TILES2 ? 2 : 1;                               // of the last depthwise convolution
  constexpr int ACROSS = TILES2 ? 8 * SIXTEENS - 2 : 16 * SIXTEENS - 4;  // pixels of a strip of the last map
  extern __shared__ __align__(128) uint8 memory[];
  const Held& w = *(const Held*)memory;
  const int thread = threadIdx.x, warp = __shfl_sync(~0u, thread >> 5, 0), lane = thread & 31, g = lane >> 2, t = lane & 3;
  for (int i = thread; i < (int)sizeof(Held) / 16; i += WARPS * 32) ((uint4*)memory)[i] = p.weights[i];
  let_later_kernels_start();
  wait_for_earlier_kernels();
  __syncthreads();
  const int unit = blockIdx.x * WARPS + warp;
  if (unit >= p.units) return;
  const int image = quotient(unit, p.of_picture), rest = unit - image * p.of_picture.divisor;
  const int piece = quotient(rest, p.of_row), strip = rest - piece * p.of_row.divisor;
  const int row_bytes = 3 * p.width, height1 = p.height / 2, height2 = height1 / STRIDE, width2 = p.width / (2 * STRIDE);
  // The last strip ends with the map; what it has in common with the one before it is stored once.
  const int x2 = min(strip * ACROSS, width2 - ACROSS), stored = strip * ACROSS - x2;
  const int y2 = piece * p.down, y2_end = min(y2 + p.down, height2);
  // Pixel l = EACH * g + i of a row is column STRIDE * x2 - 2 + l of the first convolution's map; the last map's pixel o has
  // the window that starts at l = 2o + 2, or is l = o + 2. Column -1 is l = 1, and the first one beyond the right border the last but one l.
  const bool beyond = x2 + ACROSS == width2 && g == 7;
  const uint32 second = x2 == 0 && g == 0 ? 0u : ~0u, last_but_one = beyond ? 0u : ~0u;
  auto inside = [&](int i) { return i == 1 ? second : i == EACH - 2 ? last_but_one : ~0u; };
  const uint32 ring = shared_address(memory + sizeof(Held) + warp * RING * PITCH);

  // --- rows of bytes, brought two rows of the first convolution ahead; without the first word, which no pixel needs
  const uint8* pixels = *(const uint8* const*)(p.pictures + 2 * image);
  constexpr int WORDS = (96 * SIXTEENS + 127) / 128;  // of a lane
  int words[WORDS];                                   // what a border cuts off may be anything
#pragma unroll
  for (int e = 0; e < WORDS; e++) words[e] = min(max(6 * STRIDE * x2 - 8 + 4 * lane + 128 * e, 0), row_bytes - 4);
  auto row_of = [&](int row) { return (uint32)((row & (RING - 1)) * PITCH); };
  auto bring = [&](int row) {
    if (row < p.height)
#pragma unroll
      for (int e = 0; e < WORDS; e++)
        if (e < WORDS - 1 || SIXTEENS == 4 || lane < 16)
          asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(ring + row_of(row) + 4 * lane + 128 * e),
                       "l"(pixels + (uint32)(row * row_bytes + words[e])) : "memory");
  };
  const int first_row = max(STRIDE * y2 - 1, 0);
  bring(2 * first_row), bring(2 * first_row + 1), bring(2 * first_row + 2);
  end_of_group();
  bring(2 * first_row + 3), bring(2 * first_row + 4);
  end_of_group();

  // Depthwise rows that have had two rows of their window, and one; and the last, complete.
  uint32 near[TILES1][EACH], far[TILES1][EACH], done[TILES1][EACH];
  const uint32 apart = __shfl_sync(~0u, 0x4140u, 0);  // a constant that the compiler is not to make again for each use
  const uint32 corner = ring - 4 + 6 * EACH * g + 2 * t;

  // Row `y` of the first convolution joins the depthwise rows around it; the one above it is complete then.
  auto advance = [&](int y) {
    if (y >= height1) {
#pragma unroll
      for (int j = 0; j < TILES1; j++)
#pragma unroll
        for (int i = 0; i < EACH; i++) done[j][i] = multiply_add_saturated(near[j][i], ONE, 0u);
      return;
    }
    wait_for_groups<1>();
    __syncwarp();
    bring(2 * y + 5), bring(2 * y + 6);
    end_of_group();
    // K in pairs, four of a thread: pair t of the three rows, and the last number of row t.
    uint32 a[4][EACH];
    const uint32 top = corner + row_of(2 * y), middle = corner + row_of(2 * y + 1), bottom = corner + row_of(2 * y + 2);
    const uint32 last = ring + 4 + 6 * EACH * g + row_of(2 * y + min(t, 2));
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      a[0][i] = two_bytes(top + 6 * i, apart), a[1][i] = two_bytes(middle + 6 * i, apart);
      a[2][i] = two_bytes(bottom + 6 * i, apart), a[3][i] = two_bytes(last + 6 * i, apart);
    }
    if (y == height1 - 1) {
#pragma unroll
      for (int i = 0; i < EACH; i++) a[2][i] = p.border, a[3][i] = t == 2 ? p.border : a[3][i];
    }
#pragma unroll
    for (int k = 0; k < 4; k++)
      if (beyond && (k == 3 || t == 3)) a[k][EACH - 3] = p.border;  // of the column before
#pragma unroll
    for (int pair = 0; pair < TILES1; pair += 2) {  // two tiles at once: a product waits for the one before it
      constexpr int TILES = TILES1 > 1 ? 2 : 1;
      uint32 d[TILES][SIXTEENS][2];
      uint4 b[TILES];
#pragma unroll
      for (int e = 0; e < TILES; e++) b[e] = reload(&w.first[min(pair + e, TILES1 - 1)][lane]);
#pragma unroll
      for (int e = 0; e < TILES; e++)
#pragma unroll
        for (int m = 0; m < SIXTEENS; m++)
          if (pair + e < TILES1) multiply(d[e][m], a[0][2 * m], a[0][2 * m + 1], a[1][2 * m], a[1][2 * m + 1], b[e].x, b[e].y, 0u, 0u);
#pragma unroll
      for (int e = 0; e < TILES; e++)
#pragma unroll
        for (int m = 0; m < SIXTEENS; m++)
          if (pair + e < TILES1)
            multiply(d[e][m], a[2][2 * m], a[2][2 * m + 1], a[3][2 * m], a[3][2 * m + 1], b[e].z, b[e].w, d[e][m][0], d[e][m][1]);
#pragma unroll
      for (int j = pair; j < min(pair + TILES, TILES1); j++) {
        const uint4 w0 = reload(&w.depthwise1[j][t][0]), w1 = reload(&w.depthwise1[j][t][1]), w2 = reload(&w.depthwise1[j][t][2]);
        uint32 v[EACH + 2];  // with the pixels beside them
#pragma unroll
        for (int i = 0; i < EACH; i++) v[i + 1] = multiply_add_saturated(d[j - pair][i / 2][i % 2], inside(i) & SIXTY_FOURTH, inside(i) & w1.w);
        v[0] = __shfl_up_sync(~0u, v[EACH], 4), v[EACH + 1] = __shfl_down_sync(~0u, v[1], 4);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
          done[j][i] = multiply_add_saturated(w2.z, v[i + 2], multiply_add(w2.y, v[i + 1], multiply_add(w2.x, v[i], near[j][i])));
          near[j][i] = multiply_add(w1.z, v[i + 2], multiply_add(w1.y, v[i + 1], multiply_add(w1.x, v[i], far[j][i])));
          far[j][i] = multiply_add(w0.z, v[i + 2], multiply_add(w0.y, v[i + 1], multiply_add(w0.x, v[i], w0.w)));
        }
      }
    }
  };

#pragma unroll
  for (int j = 0; j < TILES1; j++) {
    const uint4 w0 = reload(&w.depthwise1[j][t][0]);
#pragma unroll
    for (int i = 0; i < EACH; i++) near[j][i] = far[j][i] = w0.w;
  }

  if constexpr (TILES2 == 0) {
    constexpr int TOGETHER = 2 * TILES3;  // channels of a thread: neighbours
    auto store = [&](int y) {
      half_t* target = p.target + image * p.target_image + (long long)(y * width2 + x2 + EACH * g - 2) * p.target_stride + TOGETHER * t;
      uint4 b[TILES3];
      uint2 bias[TILES3];
#pragma unroll
      for (int n = 0; n < TILES3; n++) b[n] = reload(&w.point2[n][lane]), bias[n] = reload8(&w.bias2[n][t]);
      auto of = [&](int tile, int i) { return tile < TILES1 ? done[tile < TILES1 ? tile : 0][i] : 0u; };
#pragma unroll
      for (int m = 0; m < SIXTEENS; m++) {
        float d[TILES3][4];
#pragma unroll
        for (int n = 0; n < TILES3; n++)
          multiply(d[n], of(0, 2 * m), of(0, 2 * m + 1), of(1, 2 * m), of(1, 2 * m + 1), b[n].x, b[n].y, __uint_as_float(bias[n].x), __uint_as_float(bias[n].y));
        const uint32 more[4] = {of(2, 2 * m), of(2, 2 * m + 1), of(3, 2 * m), of(3, 2 * m + 1)};
        if (TILES1 > 2)
#pragma unroll
          for (int n = 0; n < TILES3; n++) multiply(d[n], more, b[n].z, b[n].w);
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const int i = 2 * m + half;
          uint32 results[TILES3];
#pragma unroll
          for (int n = 0; n < TILES3; n++) results[n] = limited(pack(d[n][2 * half], d[n][2 * half + 1]), 0xfbfffbffu, 0x7bff7bffu);
          if ((uint32)(EACH * g + i - 2 - stored) < (uint32)(ACROSS - stored) && TOGETHER * t < p.columns) {
            half_t* to = target + (long long)i * p.target_stride;
            if (TILES3 == 4) store_whole(to, make_uint4(results[0], results[1], results[TILES3 / 2], results[TILES3 - 1]));
            else store_half(to, results[0], results[1]);
          }
        }
      }
    };
    for (int y = first_row; y <= y2_end; y++) {
      advance(y);
      if (y > y2) store(y - 1);
    }
  } else {
    // Sums of the row of stride 2, and the last that was whole. A row of the 1x1 is the middle of one, or the end of one and
    // the beginning of the next.
    uint32 sums[TILES2][SIXTEENS], whole[TILES2][SIXTEENS];
    auto point = [&](bool ends) {
      auto of = [&](int tile, int i) { return tile < TILES1 ? done[tile < TILES1 ? tile : 0][i] : 0u; };
#pragma unroll
      for (int pair = 0; pair < TILES2; pair += 2) {
        uint32 d[2][SIXTEENS][2];
        const uint4 b[2] = {reload(&w.point1[pair][lane]), reload(&w.point1[pair + 1][lane])};
#pragma unroll
        for (int e = 0; e < 2; e++)
#pragma unroll
          for (int m = 0; m < SIXTEENS; m++)
            multiply(d[e][m], of(0, 2 * m), of(0, 2 * m + 1), of(1, 2 * m), of(1, 2 * m + 1), b[e].x, b[e].y, 0u, 0u);
        if (TILES1 > 2)
#pragma unroll
          for (int e = 0; e < 2; e++)
#pragma unroll
            for (int m = 0; m < SIXTEENS; m++)
              multiply(d[e][m], of(2, 2 * m), of(2, 2 * m + 1), of(3, 2 * m), of(3, 2 * m + 1), b[e].z, b[e].w, d[e][m][0], d[e][m][1]);
#pragma unroll
        for (int j = pair; j < pair + 2; j++) {
          const uint4 by = reload(&w.depthwise2[j][t][ends ? 2 : 1]);
          uint32 v[EACH + 1];
#pragma unroll
          for (int i = 0; i < EACH; i++)
            v[i] = multiply_add_saturated(d[j - pair][i / 2][i % 2], inside(i) & SIXTY_FOURTH, inside(i) & by.w);
          v[EACH] = __shfl_down_sync(~0u, v[0], 4);
          auto window = [&](int i, const uint4& w, uint32 sum) {
            return multiply_add(w.y, v[2 * i + 1], multiply_add(w.x, v[2 * i], sum));
          };
          if (!ends) {
#pragma unroll
            for (int i = 0; i < SIXTEENS; i++) sums[j][i] = multiply_add(by.z, v[2 * i + 2], window(i, by, sums[j][i]));
          } else {
            const uint4 w0 = reload(&w.depthwise2[j][t][0]);
#pragma unroll
            for (int i = 0; i < SIXTEENS; i++) {
              whole[j][i] = multiply_add_saturated(by.z, v[2 * i + 2], window(i, by, sums[j][i]));
              sums[j][i] = multiply_add(w0.z, v[2 * i + 2], window(i, w0, w0.w));
            }
          }
        }
      }
    };

    // What the 1x1 needs of a row that lies below the map: nothing but its end.
    auto end_sums = [&] {
#pragma unroll
      for (int j = 0; j < TILES2; j++)
#pragma unroll
        for (int i = 0; i < SIXTEENS; i++) whole[j][i] = multiply_add_saturated(sums[j][i], ONE, 0u);
    };

    auto store = [&](int y) {
      half_t* target = p.target + image * p.target_image + (long long)(y * width2 + x2 + SIXTEENS * g - 1) * p.target_stride + 8 * t;
#pragma unroll
      for (int q = 0; q < TILES3 / 4; q++) {
        uint4 results[SIXTEENS];
        float d[4][SIXTEENS / 2][4];
#pragma unroll
        for (int half = 0; half < (TILES2 > 4 ? 2 : 1); half++) {  // of K
          uint4 b[4];
          uint2 bias[4];
#pragma unroll
          for (int n = 0; n < 4; n++) {
            b[n] = reload(&w.point2[q * 4 + n][half][lane]);
            if (half == 0) bias[n] = reload8(&w.bias2[q * 4 + n][t]);
          }
#pragma unroll
          for (int tile = 4 * half; tile < min(4 * half + 4, TILES2); tile += 2)
#pragma unroll
            for (int n = 0; n < 4; n++)
#pragma unroll
              for (int m = 0; m < SIXTEENS / 2; m++) {
                const uint32 a[4] = {whole[tile][2 * m], whole[tile][2 * m + 1], whole[tile + 1][2 * m], whole[tile + 1][2 * m + 1]};
                const uint32 low = tile & 2 ? b[n].z : b[n].x, high = tile & 2 ? b[n].w : b[n].y;
                if (tile == 0) multiply(d[n][m], a[0], a[1], a[2], a[3], low, high, __uint_as_float(bias[n].x), __uint_as_float(bias[n].y));
                else multiply(d[n][m], a, low, high);
              }
        }
#pragma unroll
        for (int i = 0; i < SIXTEENS; i++)
#pragma unroll
          for (int n = 0; n < 4; n++) (&results[i].x)[n] = relu6_pair(d[n][i / 2][i % 2 * 2], d[n][i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int i = 0; i < SIXTEENS; i++)
          if ((uint32)(SIXTEENS * g + i - 1 - stored) < (uint32)(ACROSS - stored) && 32 * q + 8 * t < p.columns)
            store_whole(target + (long long)i * p.target_stride + 32 * q, results[i]);
      }
    };

    for (int y = first_row; y <= 2 * y2_end + 1; y++) {
      advance(y);
      const int row = y - 1 - 2 * y2;
      if (row < 0) continue;
      if (row & 1) {
        point(false);
      } else {
        if (y <= height1) point(true);
        else end_sums();
        if (row > 0) store(y2 + row / 2 - 1);
      }
    }  }
}

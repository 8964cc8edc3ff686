// A depthwise convolution of 3x3 or 5x5 and the mean of what it makes, in one kernel, if need be with the 1x1 before it: the
// front of an inverted residual with squeeze-excite (MobileNet v3). A block has WIDE channels of a whole picture: the wide map
// lies in shared memory with its border, so that nothing of it goes through the cache, and the mean needs no other block.
#include "excite.cuh"

struct Squeezed {
  const half_t* source;
  const uint2* expand;        // [slab][eights of WIDE][steps][32 lanes]: a lane's four numbers of K
  const float* expand_bias;   // [slab][WIDE], as `weights` and `bias`
  const float* weights;       // [slab][window][WIDE]
  const float* bias;
  half_t* target;
  half_t* mean;
  long long source_image, target_image, mean_image;
  int channels, source_channels, height, width, source_stride;  // channels of the wide map
  int target_height, target_width, target_stride, pad_y, pad_x;
  int rows, columns;  // of the map with its border in shared memory
  int units;          // pieces of the target, of DOWN x ALONG pixels
  Finish first, second;
  Divider of_slab, of_row, of_strip;  // slabs of a picture; source pixels of a row; units beside each other
};

constexpr int ALONG = 5;  // neighbouring pixels of a thread: an odd number, for two threads' lie in different banks then

// STEPS: of K, 16 channels of the source each; 0: the source is the wide map. DOWN: rows of a thread's piece
template <int WINDOW, int STRIDE, int STEPS, int WIDE, int DOWN, int THREADS>
__global__ void __launch_bounds__(THREADS, 512 / THREADS) squeezed(const __grid_constant__ Squeezed p) {
  constexpr int TILES = WIDE / 8, GROUP = WIDE < 32 ? WIDE : 32, OWN = GROUP / 4;  // neighbouring channels of a thread
  constexpr int PAIRS = WIDE / 2, AT_ONCE = THREADS / PAIRS, WARPS = THREADS / 32, PIXEL = WIDE * 2;
  constexpr int HELD = STEPS ? STEPS : 1;
  extern __shared__ __align__(16) uint8 memory[];
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31, g = lane >> 2, t = lane & 3;
  const uint32 windows = shared_address(memory), totals = windows + (WINDOW * WINDOW + 1) * WIDE * 4, map = totals + THREADS * 8;
  const int image = quotient(blockIdx.x, p.of_slab), slab = blockIdx.x - image * p.of_slab.divisor;
  let_later_kernels_start();
  for (int i = thread; i < WINDOW * WINDOW * WIDE / 4; i += THREADS)
    to_shared16(windows + i * 16, ((const uint4*)(p.weights + slab * WINDOW * WINDOW * WIDE))[i]);
  for (int i = thread; i < WIDE / 4; i += THREADS)
    to_shared16(windows + WINDOW * WINDOW * WIDE * 4 + i * 16, ((const uint4*)(p.bias + slab * WIDE))[i]);
  for (int i = thread; i < p.rows * p.columns * (PIXEL / 16); i += THREADS) to_shared16(map + i * 16, make_uint4(0, 0, 0, 0));

  const half_t* source = p.source + image * p.source_image;
  const int pixels = p.height * p.width;
  // Where a pixel of the source lies, if anything reads it. Of stride 2, even columns come first: so a window's neighbours do.
  auto place = [&](int pixel, bool& inside) {
    const int row = quotient(pixel, p.of_row), y = row + p.pad_y, x = pixel - row * p.width + p.pad_x;
    inside = pixel < pixels && y < p.rows && x < p.columns;
    return map + (y * p.columns + (STRIDE == 2 ? (x >> 1) + (x & 1) * (p.columns >> 1) : x)) * PIXEL;
  };
  if (STEPS == 0) {
    __syncthreads();
    wait_for_earlier_kernels();
    for (int i = thread; i < pixels * (PIXEL / 16); i += THREADS) {
      const int pixel = i / (PIXEL / 16), chunk = i % (PIXEL / 16);
      bool inside;
      const uint32 to = place(pixel, inside) + chunk * 16;
      if (inside) copy16(to, source + (long long)pixel * p.source_stride + slab * WIDE + chunk * 8, slab * WIDE + chunk * 8 < p.channels);
    }
    end_of_group();
    wait_for_groups<0>();
  } else {
    uint2 weights[TILES][HELD];
    float bias[WIDE / 4];
#pragma unroll
    for (int j = 0; j < TILES; j++)
#pragma unroll
      for (int step = 0; step < STEPS; step++) weights[j][step] = p.expand[((slab * TILES + j) * STEPS + step) * 32 + lane];
#pragma unroll
    for (int i = 0; i < WIDE / 4; i++) bias[i] = p.expand_bias[slab * WIDE + i / OWN * GROUP + t * OWN + i % OWN];
    __syncthreads();
    wait_for_earlier_kernels();
    // Eight neighbouring channels of a pixel for two steps, then four for the last; where K has them, says `pack_expand`.
    auto bring = [&](uint2 (&to)[2][HELD], int tile) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int pixel = tile * 16 + half * 8 + g;
        const half_t* from = source + (long long)pixel * p.source_stride;
#pragma unroll
        for (int step = 0; step < STEPS; step += 2) {
          const int channel = step * 16 + (step + 1 < STEPS ? 8 : 4) * t;
          const bool inside = pixel < pixels && channel < p.source_channels;
          if (step + 1 < STEPS) {
            const uint4 v = inside ? load16(from + channel) : make_uint4(0, 0, 0, 0);
            to[half][step] = make_uint2(v.x, v.y), to[half][step + 1 < STEPS ? step + 1 : 0] = make_uint2(v.z, v.w);
          } else {
            to[half][step] = inside ? *(const uint2*)(from + channel) : make_uint2(0, 0);
          }
        }
      }
    };
    uint2 next[2][HELD];
    bring(next, warp);
    for (int tile = warp; tile * 16 < pixels; tile += WARPS) {
      float sums[TILES][4];
#pragma unroll
      for (int j = 0; j < TILES; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) sums[j][e] = bias[j * 8 / GROUP * OWN + j % (GROUP / 8) * 2 + e % 2];
      uint32 left[HELD][4];
#pragma unroll
      for (int step = 0; step < STEPS; step++)
        left[step][0] = next[0][step].x, left[step][1] = next[1][step].x, left[step][2] = next[0][step].y, left[step][3] = next[1][step].y;
      bring(next, tile + WARPS);
#pragma unroll
      for (int step = 0; step < STEPS; step++)
#pragma unroll
        for (int j = 0; j < TILES; j++) multiply(sums[j], left[step], weights[j][step].x, weights[j][step].y);
      bool inside[2];
      const uint32 to[2] = {place(tile * 16 + g, inside[0]), place(tile * 16 + 8 + g, inside[1])};
#pragma unroll
      for (int group = 0; group < WIDE / GROUP; group++) {
        float values[2 * OWN];  // of both pixels
#pragma unroll
        for (int i = 0; i < 2 * OWN; i++) values[i] = sums[group * OWN / 2 + i % OWN / 2][i / OWN * 2 + i % 2];
        finish_all(values, p.first);
#pragma unroll
        for (int half = 0; half < 2; half++) {
          if (!inside[half]) continue;
          const float* of = values + half * OWN;
          const uint32 at = to[half] + (group * GROUP + t * OWN) * 2, a = pack(of[0], of[1]), b = pack(of[2], of[3]);
          if constexpr (OWN == 8) to_shared16(at, make_uint4(a, b, pack(of[4], of[5]), pack(of[6], of[7])));
          else to_shared8(at, make_uint2(a, b));
        }
      }
    }
  }
  __syncthreads();

  constexpr int COLUMNS = (ALONG - 1) * STRIDE + WINDOW, ROWS = (DOWN - 1) * STRIDE + WINDOW;
  const int pair = thread % PAIRS, channel = slab * WIDE + 2 * pair;
  float2 w[WINDOW * WINDOW], total = make_float2(0.f, 0.f);
#pragma unroll
  for (int k = 0; k < WINDOW * WINDOW; k++) w[k] = shared_pair(windows + k * WIDE * 4 + pair * 8);
  const float2 start = shared_pair(windows + WINDOW * WINDOW * WIDE * 4 + pair * 8);
  half_t* target = p.target + image * p.target_image + channel;
  for (int unit = thread / PAIRS; unit < p.units; unit += AT_ONCE) {
    const int piece = quotient(unit, p.of_strip), y0 = piece * DOWN, x0 = (unit - piece * p.of_strip.divisor) * ALONG;
    const uint32 from = map + (y0 * STRIDE * p.columns + x0) * PIXEL + pair * 4, odd = (p.columns >> 1) * PIXEL;
    float sums[DOWN * ALONG * 2];
#pragma unroll
    for (int i = 0; i < DOWN * ALONG * 2; i++) sums[i] = i % 2 ? start.y : start.x;
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
      float2 v[COLUMNS];
#pragma unroll
      for (int i = 0; i < COLUMNS; i++) {
        const uint32 both = shared4(from + row * p.columns * PIXEL + (STRIDE == 2 ? i / 2 * PIXEL + (i % 2 ? odd : 0u) : i * PIXEL));
        v[i] = make_float2(low_half(both), high_half(both));
      }
#pragma unroll
      for (int d = 0; d < DOWN; d++)
        if (row >= d * STRIDE && row < d * STRIDE + WINDOW) {
#pragma unroll
          for (int k = 0; k < WINDOW; k++)
#pragma unroll
            for (int i = 0; i < ALONG; i++) {
              float* sum = &sums[(d * ALONG + i) * 2];
              const float2& by = w[(row - d * STRIDE) * WINDOW + k];
              sum[0] = fmaf(by.x, v[i * STRIDE + k].x, sum[0]), sum[1] = fmaf(by.y, v[i * STRIDE + k].y, sum[1]);
            }
        }
    }
    finish_all(sums, p.second);
#pragma unroll
    for (int d = 0; d < DOWN; d++)
#pragma unroll
      for (int i = 0; i < ALONG; i++)
        if (y0 + d < p.target_height && x0 + i < p.target_width && channel < p.channels) {
          const float a = sums[(d * ALONG + i) * 2], b = sums[(d * ALONG + i) * 2 + 1];
          *(uint32*)(target + (long long)((y0 + d) * p.target_width + x0 + i) * p.target_stride) = pack(a, b);
          total.x += a, total.y += b;
        }
  }
  to_shared8(totals + thread * 8, make_uint2(bits(total.x), bits(total.y)));
  __syncthreads();
  if (thread < PAIRS && channel < p.channels) {
    for (int i = 1; i < AT_ONCE; i++) {
      const float2 more = shared_pair(totals + (i * PAIRS + thread) * 8);
      total.x += more.x, total.y += more.y;
    }
    const float count = (float)(p.target_height * p.target_width);
    *(uint32*)(p.mean + image * p.mean_image + channel) = pack(total.x / count, total.y / count);
  }
}

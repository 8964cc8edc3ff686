// The first convolution, of stride 2, from the bytes of pictures that have the network's size: normalised as they are
// read, to the very numbers that `resize_image` (image.cu) would have written, so that a border is zero after it. The
// bytes of a block's next tile are on their way while it multiplies.
#include "windows.cuh"

struct First {
  const uint4* pictures;  // table of `Picture` (image.cu), of which only the address matters here
  const uint4* weights;   // [step][pair of 8 columns][lane]
  const float* bias;
  half_t* target;
  long long target_image;
  int height, row_bytes, target_height, target_width, target_stride, columns, pad_y, pad_x, tiles;
  float factors[3], offsets[3];  // of a channel: byte * factor, rounded, + offset
  Finish finish;
  Divider of_across, of_image;  // tiles beside each other; tiles of a picture
};

// Blocks of a multiprocessor.
DEVICE constexpr int resident(int rows, int columns) { return rows > 3 || columns > 32 ? 3 : columns == 16 ? 8 : 6; }

// COLUMNS: 16, 32 or 64. END: 0 limits alone, 1 hard swish, 2 what `finish` says. SHIFT: pad_x. EVEN: channels are
// normalised alike.
template <int ROWS, int ALONG, int COLUMNS, int END, int SHIFT, bool EVEN>
__global__ void __launch_bounds__(128, resident(ROWS, COLUMNS)) first(const __grid_constant__ First p) {
  constexpr int PAIRS = (3 * ALONG + 1) / 2, STEPS = (ROWS * PAIRS + 7) / 8, N = COLUMNS / 8;  // pairs of a row of the window
  constexpr int HIGH = 14 + ROWS, PITCH = (3 * 15 + PAIRS + 1) / 2 * 2, QUADS = PITCH / 2;     // words, fours of a row
  constexpr int EACH = (HIGH * QUADS + 127) / 128, GROUP = N < 4 ? N : 4;                      // fours of a thread
  __shared__ __align__(16) uint4 weights[STEPS * (N / 2) * 32];
  __shared__ __align__(16) uint32 patches[2][HIGH * PITCH];
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5, g = lane >> 2, t = lane & 3;
  for (int i = thread; i < STEPS * (N / 2) * 32; i += 128) weights[i] = p.weights[i];
  float bias[GROUP * 2];
#pragma unroll
  for (int i = 0; i < GROUP * 2; i++) bias[i] = p.bias[t * GROUP * 2 + i];
  let_later_kernels_start();
  wait_for_earlier_kernels();

  int image, first_y, first_x;
  auto place = [&](int tile) {
    image = quotient(tile, p.of_image);
    const int rest = tile - image * p.of_image.divisor, down = quotient(rest, p.of_across);
    first_y = down * 8, first_x = (rest - down * p.of_across.divisor) * 16;
  };
  // A tile begins at a byte that divides by four but for SHIFT; so does a row of the picture.
  uint32 words[EACH][SHIFT ? 2 : 1];
  auto bring = [&] {
    const uint8* pixels = *(const uint8* const*)(p.pictures + 2 * image);
    const int top = 2 * first_y - p.pad_y, left = 6 * first_x - 4 * SHIFT;  // SHIFT bytes before the first one needed
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      const int i = thread + 128 * e, row = i / QUADS, y = top + row, at = left + 4 * (i - row * QUADS);
#pragma unroll
      for (int k = 0; k < (SHIFT ? 2 : 1); k++) {
        words[e][k] = 0;
        if (row < HIGH && (uint32)y < (uint32)p.height && (uint32)(at + 4 * k) < (uint32)p.row_bytes)
          words[e][k] = __ldg((const uint32*)(pixels + (long long)y * p.row_bytes + at + 4 * k));
      }
    }
  };
  auto normalise = [&](uint32* patch) {
    const int top = 2 * first_y - p.pad_y, left = 6 * first_x - 3 * SHIFT;
#pragma unroll
    for (int e = 0; e < EACH; e++) {
      const int i = thread + 128 * e, row = i / QUADS, quad = i - row * QUADS, y = top + row, at = left + 4 * quad;
      if (row >= HIGH) continue;
      const uint32 four = SHIFT ? __funnelshift_r(words[e][0], words[e][SHIFT ? 1 : 0], 8 * SHIFT) : words[e][0];
      float v[4];
#pragma unroll
      for (int b = 0; b < 4; b++) {
        const int c = EVEN ? 0 : (quad + b) % 3;
        v[b] = __uint_as_float(__byte_perm(four, 0x4b000000u, 0x7440 + b)) - 8388608.f;
        v[b] = __fadd_rn(__fmul_rn(v[b], p.factors[c]), p.offsets[c]);
        const bool inside = (uint32)(SHIFT ? at + b : at) < (uint32)p.row_bytes;
        if (!inside || (uint32)y >= (uint32)p.height) v[b] = 0.f;
      }
      *(uint2*)(patch + row * PITCH + 2 * quad) = make_uint2(pack(v[0], v[1]), pack(v[2], v[3]));
    }
  };

  int tile = blockIdx.x;
  if (tile >= p.tiles) return;
  place(tile);
  bring();
  const uint32 low = pack(p.finish.low, p.finish.low), high = pack(p.finish.high, p.finish.high);
  for (int turn = 0; tile < p.tiles; tile += gridDim.x, turn ^= 1) {
    uint32* patch = patches[turn];
    normalise(patch);
    const int y0 = first_y + warp * 2, x0 = first_x + g;
    half_t* target = p.target + image * p.target_image + (long long)(y0 * p.target_width + x0) * p.target_stride + t * 2 * GROUP;
    if (tile + (int)gridDim.x < p.tiles) {
      place(tile + gridDim.x);
      bring();
    }
    __syncthreads();  // one a tile: the patch before this one is written again only after the next
    float sums[2][N][4];
    sum_windows<ROWS, PAIRS, PITCH>(sums, patch + warp * 4 * PITCH + g * 3, weights);
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        if (y0 + m >= p.target_height || x0 + 8 * half >= p.target_width) continue;
        half_t* to = target + (m * p.target_width + 8 * half) * p.target_stride;
#pragma unroll
        for (int group = 0; group < N / GROUP; group++) {
          const int column = group * 32 + t * 2 * GROUP;
          if (column >= p.columns) continue;
          uint32 results[GROUP];
#pragma unroll
          for (int j = 0; j < GROUP; j++) {
            float v[2];
#pragma unroll
            for (int k = 0; k < 2; k++) {
              v[k] = sums[m][group * 4 + j][half * 2 + k] + (group ? p.bias[column + 2 * j + k] : bias[2 * j + k]);
              if (END == 1) v[k] = v[k] * hard_sigmoid(v[k]);
              if (END == 2) v[k] = finished(v[k], p.finish);
            }
            results[j] = pack(v[0], v[1]);
            if (END != 2) results[j] = limited(results[j], low, high);
          }
          if (GROUP == 4) *(uint4*)(to + group * 32) = make_uint4(results[0], results[1], results[GROUP / 2], results[GROUP - 1]);
          else *(uint2*)to = make_uint2(results[0], results[1]);
        }
      }
  }
}

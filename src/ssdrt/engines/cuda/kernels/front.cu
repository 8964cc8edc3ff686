// The first convolution: a window of stride 2 over 3 channels, whose pixels fill 8. Only the 3 go to shared memory, so that
// what a row of the window sees is one piece of neighbouring numbers, and K is a row after a row of them. A warp makes two
// rows of 16 pixels; a block keeps its weights, in the order of the registers that take them, for all its tiles.
#include "windows.cuh"

struct Front {
  const half_t* source;
  const uint4* weights;  // [step][pair of 8 columns][lane]
  const float* bias;
  half_t* target;
  long long source_image, target_image;
  int height, width, source_stride, target_height, target_width, target_stride, columns, pad_y, pad_x, tiles;
  Finish finish;
  Divider of_across, of_image;  // tiles beside each other; tiles of a picture
};

template <int ROWS, int ALONG, int COLUMNS>
__global__ void __launch_bounds__(128, 4) front(const __grid_constant__ Front p) {
  constexpr int PAIRS = (3 * ALONG + 1) / 2, STEPS = (ROWS * PAIRS + 7) / 8, N = COLUMNS / 8;  // pairs of a row of the window
  constexpr int HIGH = 14 + ROWS, WIDE = 30 + ALONG, PITCH = 3 * 15 + PAIRS;                   // words of a row
  __shared__ __align__(16) uint4 weights[STEPS * (N / 2) * 32];
  __shared__ __align__(16) uint32 patch[HIGH * PITCH];
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5, g = lane >> 2, t = lane & 3;
  for (int i = thread; i < STEPS * (N / 2) * 32; i += 128) weights[i] = p.weights[i];
  for (int i = thread; i < HIGH * PITCH; i += 128) patch[i] = 0;  // the last number of a row may be none of a pixel
  let_later_kernels_start();
  wait_for_earlier_kernels();
  for (int tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
    const int image = quotient(tile, p.of_image), place = tile - image * p.of_image.divisor;
    const int down = quotient(place, p.of_across), first_y = down * 8, first_x = (place - down * p.of_across.divisor) * 16;
    __syncthreads();
    const half_t* from = p.source + image * p.source_image;
    for (int i = thread; i < HIGH * WIDE; i += 128) {
      const int row = i / WIDE, column = i - row * WIDE;
      const int y = first_y * 2 - p.pad_y + row, x = first_x * 2 - p.pad_x + column;
      uint2 v = make_uint2(0, 0);
      if ((uint32)y < (uint32)p.height && (uint32)x < (uint32)p.width)
        v = *(const uint2*)(from + (long long)(y * p.width + x) * p.source_stride);
      half_t* to = (half_t*)patch + row * PITCH * 2 + column * 3;
      to[0] = (half_t)(v.x & 0xffff), to[1] = (half_t)(v.x >> 16), to[2] = (half_t)(v.y & 0xffff);
    }
    __syncthreads();
    float sums[2][N][4];
    sum_windows<ROWS, PAIRS, PITCH>(sums, patch + warp * 4 * PITCH + g * 3, weights);
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int y = first_y + warp * 2 + m, x = first_x + g + 8 * half;
        if (y >= p.target_height || x >= p.target_width) continue;
        half_t* to = p.target + image * p.target_image + (long long)(y * p.target_width + x) * p.target_stride;
#pragma unroll
        for (int group = 0; group < N / 4; group++) {
          const int column = group * 32 + t * 8;
          if (column >= p.columns) continue;
          const float4 b0 = *(const float4*)(p.bias + column), b1 = *(const float4*)(p.bias + column + 4);
          const float bias[8] = {b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w};
          float values[8];
#pragma unroll
          for (int i = 0; i < 8; i++)
            values[i] = finished(sums[m][group * 4 + i / 2][half * 2 + (i & 1)] + bias[i], p.finish);
          store16(to + column, packed(values));
        }
      }
  }
}

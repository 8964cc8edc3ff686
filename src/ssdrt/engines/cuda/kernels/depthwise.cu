// Depthwise convolutions, NHWC fp16 in and out. Limited by memory: a thread loads 16 bytes at a time and uses each of them
// for as many windows as it can.
#include "common.cuh"

struct Depthwise {
  const half_t* source;
  const void* weights;  // [window position][channels], numbers of the kind that is summed up
  const void* bias;
  half_t* target;
  long long source_image, target_image;
  int strips;  // of the batch: 8 channels of `ALONG` neighbouring pixels, or of `DOWN` rows of them
  int channels, height, width, target_height, target_width, source_stride, target_stride, pad_y, pad_x;
  Finish finish;
  Divider of_chunks, of_strips, of_rows;
};

// Neighbouring pixels of a row, 8 channels of each; zero beyond the borders.
template <int COLUMNS>
DEVICE void load_line(uint4 (&line)[COLUMNS], const Depthwise& p, const half_t* source, int x, int y) {
  const bool row_inside = (uint32)y < (uint32)p.height;
#pragma unroll
  for (int i = 0; i < COLUMNS; i++) {
    line[i] = make_uint4(0, 0, 0, 0);
    if (row_inside && (uint32)(x + i) < (uint32)p.width)
      line[i] = load16(source + (long long)(y * p.width + x + i) * p.source_stride);
  }
}

// Any window, fp32 sums.
template <int WINDOW_Y, int WINDOW_X, int STRIDE_Y, int STRIDE_X, int GAP_Y, int GAP_X, int ALONG>
__global__ void __launch_bounds__(128) depthwise(const __grid_constant__ Depthwise p) {
  constexpr int COLUMNS = (ALONG - 1) * STRIDE_X + (WINDOW_X - 1) * GAP_X + 1;
  let_later_kernels_start();
  wait_for_earlier_kernels();
  const int strip = blockIdx.x * 128 + threadIdx.x;
  if (strip >= p.strips) return;
  const int rest = quotient(strip, p.of_chunks), channel = (strip - rest * p.of_chunks.divisor) * 8;
  const int row = quotient(rest, p.of_strips), x0 = (rest - row * p.of_strips.divisor) * ALONG;
  const int image = quotient(row, p.of_rows), y = row - image * p.of_rows.divisor;
  const half_t* source = p.source + image * p.source_image + channel;
  const int from_x = x0 * STRIDE_X - p.pad_x;
  float sums[ALONG][8];
  const float *bias = (const float*)p.bias + channel, *weights = (const float*)p.weights + channel;
  const float4 b0 = *(const float4*)bias, b1 = *(const float4*)(bias + 4);
#pragma unroll
  for (int i = 0; i < ALONG; i++) {
    sums[i][0] = b0.x, sums[i][1] = b0.y, sums[i][2] = b0.z, sums[i][3] = b0.w;
    sums[i][4] = b1.x, sums[i][5] = b1.y, sums[i][6] = b1.z, sums[i][7] = b1.w;
  }
#pragma unroll
  for (int wy = 0; wy < WINDOW_Y; wy++) {
    const int from_y = y * STRIDE_Y - p.pad_y + wy * GAP_Y;
    const bool row_inside = (uint32)from_y < (uint32)p.height;
    uint4 line[COLUMNS];
#pragma unroll
    for (int i = 0; i < COLUMNS; i++) {
      line[i] = make_uint4(0, 0, 0, 0);
      if (row_inside && (uint32)(from_x + i) < (uint32)p.width)
        line[i] = load16(source + (long long)(from_y * p.width + from_x + i) * p.source_stride);
    }
#pragma unroll
    for (int wx = 0; wx < WINDOW_X; wx++) {
      const float* at = weights + (wy * WINDOW_X + wx) * p.channels;
      const float4 w0 = *(const float4*)at, w1 = *(const float4*)(at + 4);
      const float w[8] = {w0.x, w0.y, w0.z, w0.w, w1.x, w1.y, w1.z, w1.w};
#pragma unroll
      for (int i = 0; i < ALONG; i++) {
        float v[8];
        unpack(line[i * STRIDE_X + wx * GAP_X], v);
#pragma unroll
        for (int e = 0; e < 8; e++) sums[i][e] = fmaf(w[e], v[e], sums[i][e]);
      }
    }
  }
  half_t* target = p.target + image * p.target_image + (long long)(y * p.target_width + x0) * p.target_stride + channel;
#pragma unroll
  for (int i = 0; i < ALONG; i++)
    if (x0 + i < p.target_width) {
      finish_all(sums[i], p.finish);
      store16(target + (long long)i * p.target_stride, packed(sums[i]));
    }
}

// 3x3 that ends in limits, fp16 sums as in hopper.cu: ALONG x DOWN pixels a thread.
template <int STRIDE, int ALONG, int DOWN>
__global__ void __launch_bounds__(128) depthwise_halves(const __grid_constant__ Depthwise p) {
  constexpr int COLUMNS = (ALONG - 1) * STRIDE + 3, ROWS = (DOWN - 1) * STRIDE + 3;
  let_later_kernels_start();
  const int strip = blockIdx.x * 128 + threadIdx.x;
  if (strip >= p.strips) return;
  const int rest = quotient(strip, p.of_chunks), channel = (strip - rest * p.of_chunks.divisor) * 8;
  const int row = quotient(rest, p.of_strips), x0 = (rest - row * p.of_strips.divisor) * ALONG;
  const int image = quotient(row, p.of_rows), y0 = (row - image * p.of_rows.divisor) * DOWN;
  const half_t* source = p.source + image * p.source_image + channel;
  const int from_x = x0 * STRIDE - p.pad_x, from_y = y0 * STRIDE - p.pad_y;
  uint4 weights[9], sums[DOWN][ALONG];
#pragma unroll
  for (int k = 0; k < 9; k++) weights[k] = load16((const half_t*)p.weights + k * p.channels + channel);
  const uint4 bias = load16((const half_t*)p.bias + channel);
#pragma unroll
  for (int d = 0; d < DOWN; d++)
#pragma unroll
    for (int i = 0; i < ALONG; i++) sums[d][i] = bias;
  wait_for_earlier_kernels();
#pragma unroll
  for (int y = 0; y < ROWS; y++) {
    uint4 line[COLUMNS];
    load_line(line, p, source, from_x, from_y + y);
#pragma unroll
    for (int d = 0; d < DOWN; d++)
      if (y >= d * STRIDE && y < d * STRIDE + 3) {
#pragma unroll
        for (int i = 0; i < ALONG; i++)
#pragma unroll
          for (int x = 0; x < 3; x++) multiply_add(sums[d][i], weights[(y - d * STRIDE) * 3 + x], line[i * STRIDE + x]);
      }
  }
  const uint32 low = pack(p.finish.low, p.finish.low), high = pack(p.finish.high, p.finish.high);
  half_t* target = p.target + image * p.target_image + (long long)(y0 * p.target_width + x0) * p.target_stride + channel;
#pragma unroll
  for (int d = 0; d < DOWN; d++)
#pragma unroll
    for (int i = 0; i < ALONG; i++)
      if (y0 + d < p.target_height && x0 + i < p.target_width)
        store16(target + (long long)(d * p.target_width + i) * p.target_stride, limited(sums[d][i], low, high));
}

// 3x3 and 5x5 with any end: a window's row is summed up in fp16, its rows in fp32. ALONG x DOWN pixels a thread.
template <int WINDOW, int STRIDE, int ALONG, int DOWN>
__global__ void __launch_bounds__(128) depthwise_rows(const __grid_constant__ Depthwise p) {
  constexpr int COLUMNS = (ALONG - 1) * STRIDE + WINDOW, ROWS = (DOWN - 1) * STRIDE + WINDOW;
  let_later_kernels_start();
  const int strip = blockIdx.x * 128 + threadIdx.x;
  if (strip >= p.strips) return;
  const int rest = quotient(strip, p.of_chunks), channel = (strip - rest * p.of_chunks.divisor) * 8;
  const int row = quotient(rest, p.of_strips), x0 = (rest - row * p.of_strips.divisor) * ALONG;
  const int image = quotient(row, p.of_rows), y0 = (row - image * p.of_rows.divisor) * DOWN;
  const half_t* source = p.source + image * p.source_image + channel;
  const half_t* weights = (const half_t*)p.weights + channel;
  const int from_x = x0 * STRIDE - p.pad_x, from_y = y0 * STRIDE - p.pad_y;
  float sums[DOWN][ALONG][8];
  unpack(load16((const half_t*)p.bias + channel), sums[0][0]);
#pragma unroll
  for (int d = 0; d < DOWN; d++)
#pragma unroll
    for (int i = 0; i < ALONG; i++)
#pragma unroll
      for (int e = 0; e < 8; e++) sums[d][i][e] = sums[0][0][e];
  wait_for_earlier_kernels();
#pragma unroll
  for (int y = 0; y < ROWS; y++) {
    uint4 line[COLUMNS];
    load_line(line, p, source, from_x, from_y + y);
#pragma unroll
    for (int d = 0; d < DOWN; d++)
      if (y >= d * STRIDE && y < d * STRIDE + WINDOW) {
        uint4 part[ALONG];
#pragma unroll
        for (int i = 0; i < ALONG; i++) part[i] = make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int x = 0; x < WINDOW; x++) {
          const uint4 weight = load16(weights + ((y - d * STRIDE) * WINDOW + x) * p.channels);
#pragma unroll
          for (int i = 0; i < ALONG; i++) multiply_add(part[i], weight, line[i * STRIDE + x]);
        }
#pragma unroll
        for (int i = 0; i < ALONG; i++) {
          float values[8];
          unpack(part[i], values);
#pragma unroll
          for (int e = 0; e < 8; e++) sums[d][i][e] += values[e];
        }
      }
  }
  half_t* target = p.target + image * p.target_image + (long long)(y0 * p.target_width + x0) * p.target_stride + channel;
#pragma unroll
  for (int d = 0; d < DOWN; d++)
#pragma unroll
    for (int i = 0; i < ALONG; i++)
      if (y0 + d < p.target_height && x0 + i < p.target_width) {
        finish_all(sums[d][i], p.finish);
        store16(target + (long long)(d * p.target_width + i) * p.target_stride, packed(sums[d][i]));
      }
}

// What follows the mean of squeeze-excite in one kernel: its two products, the map times what they make, and the 1x1 behind it,
// with what is added. A block has some pixels of a picture; it makes the picture's factors anew and multiplies the weights of
// the 1x1 by them, which are fewer than the pixels' numbers. For sm_80 and later.
#include "excite.cuh"

struct Excited {
  const half_t* source;
  const half_t* mean;
  const half_t* squeeze;  // [hidden][channels up to a multiple of 8]
  const half_t* excite;   // [channels][hidden]
  const float* squeeze_bias;
  const float* excite_bias;
  const uint4* weights;  // [steps of K][PAIRS][32 lanes]: of two eights of columns
  const float* bias;     // [16 * PAIRS]
  const half_t* residual;
  half_t* target;
  long long source_image, mean_image, residual_image, target_image;
  int channels, hidden, columns, steps;  // steps of K, of 16 channels
  int pixels, rows;                      // of a picture; of a block
  int source_stride, residual_stride, target_stride;
  Finish first, second, finish;
  Divider of_picture, of_row;  // blocks of a picture; 16 bytes of a pixel
};

// made[j] = the end of (weights[j] . of) + bias[j]; eight threads a sum. Both vectors are of whole eights.
DEVICE void products(float* made, int count, const float* of, int length, const half_t* weights, const float* bias, const Finish& end) {
  const int part = threadIdx.x & 7;
#pragma unroll 4
  for (int j = threadIdx.x >> 3; j < (count + 31) / 32 * 32; j += 32) {
    float sum = 0.f;
    if (j < count) {
#pragma unroll 4
      for (int i = part * 8; i < length; i += 64) {
        float w[8];
        unpack(constant16(weights + j * length + i), w);
#pragma unroll
        for (int e = 0; e < 8; e++) sum = fmaf(w[e], of[i + e], sum);
      }
    }
#pragma unroll
    for (int apart = 4; apart > 0; apart >>= 1) sum += __shfl_xor_sync(~0u, sum, apart);
    if (j < count && part == 0) made[j] = finished(sum + bias[j], end);
  }
}

// PAIRS: of eights of columns
template <int PAIRS>
__global__ void __launch_bounds__(256, PAIRS <= 3 ? 4 : 2) excited(const __grid_constant__ Excited p) {
  extern __shared__ __align__(16) uint8 memory[];
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31, g = lane >> 2, t = lane & 3;
  const int filled = p.steps * 16, pitch = filled * 2 + 16;  // bytes: eight rows' lie in different banks
  float *factors = (float*)memory, *means = factors + filled, *hidden = means + filled;
  const uint32 weights = shared_address(memory) + (2 * filled + (p.hidden + 3) / 4 * 4) * 4, map = weights + p.steps * PAIRS * 512;
  const int image = quotient(blockIdx.x, p.of_picture), first = (blockIdx.x - image * p.of_picture.divisor) * p.rows;
  const int rows = min(p.rows, p.pixels - first);
  let_later_kernels_start();
  wait_for_earlier_kernels();
  const half_t* source = p.source + image * p.source_image + (long long)first * p.source_stride;
  for (int i = thread; i < rows * 2 * p.steps; i += 256) {
    const int row = quotient(i, p.of_row), channel = (i - row * 2 * p.steps) * 8;
    copy16(map + row * pitch + channel * 2, source + (long long)row * p.source_stride + channel, channel < p.channels);
  }
  end_of_group();
  for (int i = thread; i < filled; i += 256) {
    means[i] = i < p.channels ? to_float(p.mean[image * p.mean_image + i]) : 0.f;
    factors[i] = 0.f;
  }
  __syncthreads();
  products(hidden, p.hidden, means, p.channels, p.squeeze, p.squeeze_bias, p.first);
  __syncthreads();
  products(factors, p.channels, hidden, p.hidden, p.excite, p.excite_bias, p.second);
  __syncthreads();
  for (int i = thread; i < p.steps * PAIRS * 32; i += 256) {
    const float* by = factors + i / (PAIRS * 32) * 16 + 2 * (i & 3);
    float w[8];
    unpack(p.weights[i], w);
#pragma unroll
    for (int e = 0; e < 8; e++) w[e] *= by[(e & 1) + (e & 2) * 4];
    to_shared16(weights + i * 16, packed(w));
  }
  wait_for_groups<0>();
  __syncthreads();
  for (int tile = warp; tile * 16 < rows; tile += 8) {
    float sums[2 * PAIRS][4];
#pragma unroll
    for (int n = 0; n < 2 * PAIRS; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) sums[n][e] = 0.f;
    const uint32 row = map + (tile * 16 + (lane & 15)) * pitch + (lane >> 4) * 16;
    for (int step = 0; step < p.steps; step++) {
      uint32 left[4];
      load_matrices(left, row + step * 32);
#pragma unroll
      for (int pair = 0; pair < PAIRS; pair++) {
        const uint4 w = shared16(weights + ((step * PAIRS + pair) * 32 + lane) * 16);
        multiply(sums[2 * pair], left, w.x, w.y);
        multiply(sums[2 * pair + 1], left, w.z, w.w);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int pixel = tile * 16 + half * 8 + g;
      if (pixel >= rows) continue;
#pragma unroll
      for (int pair = 0; pair < PAIRS; pair++) {
        const int column = pair * 16 + t * 4;
        if (column >= p.columns) continue;
        const float4 bias = *(const float4*)(p.bias + column);
        float values[4] = {sums[2 * pair][2 * half] + bias.x, sums[2 * pair][2 * half + 1] + bias.y,
                           sums[2 * pair + 1][2 * half] + bias.z, sums[2 * pair + 1][2 * half + 1] + bias.w};
        if (p.residual) {
          const uint2 more = *(const uint2*)(p.residual + image * p.residual_image + (long long)(first + pixel) * p.residual_stride + column);
          values[0] += low_half(more.x), values[1] += high_half(more.x), values[2] += low_half(more.y), values[3] += high_half(more.y);
        }
        finish_all(values, p.finish);
        *(uint2*)(p.target + image * p.target_image + (long long)(first + pixel) * p.target_stride + column) =
            make_uint2(pack(values[0], values[1]), pack(values[2], values[3]));
      }
    }
  }
}

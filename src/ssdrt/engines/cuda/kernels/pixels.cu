// Steps that are no product: pools, enlargements, elementwise operations. A thread makes 8 channels of a pixel.
#include "common.cuh"

struct Pixels {
  const half_t* source;
  const half_t* other;  // second operand, or null
  half_t* target;
  const int* sources;        // channel of the source of each of the target's, -1 for none; null: the same
  const int* other_sources;  // likewise
  const float* first;        // one number, or one a channel (by_channel)
  const float* second;
  long long source_image, other_image, target_image;
  int work;  // 16-byte accesses of the target, over the batch
  int height, width, source_stride, target_height, target_width, target_stride, other_width, other_stride;
  int window_y, window_x, stride_y, stride_x, pad_y, pad_x;
  int top, left, operation, by_channel;
  float fill, third;
  float scale_y, scale_x, shift, rounding;  // of an enlargement
  Divider of_chunks, of_row, of_image;
};

struct Place {
  int image, y, x, channel;
};

DEVICE Place place_of(const Pixels& p, int i) {
  const int rest = quotient(i, p.of_chunks), channel = (i - rest * p.of_chunks.divisor) * 8;
  const int row = quotient(rest, p.of_row), x = rest - row * p.of_row.divisor;
  const int image = quotient(row, p.of_image);
  return {image, row - image * p.of_image.divisor, x, channel};
}

DEVICE void store_at(const Pixels& p, const Place& at, const float (&values)[8]) {
  store16(p.target + at.image * p.target_image + (long long)(at.y * p.target_width + at.x) * p.target_stride + at.channel,
          packed(values));
}

template <bool LARGEST>
__global__ void __launch_bounds__(128) pool(const __grid_constant__ Pixels p) {
  let_later_kernels_start();
  wait_for_earlier_kernels();
  const int i = blockIdx.x * 128 + threadIdx.x;
  if (i >= p.work) return;
  const Place at = place_of(p, i);
  const half_t* source = p.source + at.image * p.source_image + at.channel;
  float result[8];
#pragma unroll
  for (int e = 0; e < 8; e++) result[e] = LARGEST ? -65504.f : 0.f;
  int count = 0;
  for (int wy = 0; wy < p.window_y; wy++)
    for (int wx = 0; wx < p.window_x; wx++) {
      const int y = at.y * p.stride_y - p.pad_y + wy, x = at.x * p.stride_x - p.pad_x + wx;
      if ((uint32)y >= (uint32)p.height || (uint32)x >= (uint32)p.width) continue;
      float v[8];
      unpack(load16(source + (long long)(y * p.width + x) * p.source_stride), v);
      count++;
#pragma unroll
      for (int e = 0; e < 8; e++) result[e] = LARGEST ? fmaxf(result[e], v[e]) : result[e] + v[e];
    }
  if (!LARGEST) {
#pragma unroll
    for (int e = 0; e < 8; e++) result[e] = result[e] / (float)max(count, 1);
  }
  store_at(p, at, result);
}

// A block takes CHUNKS chunks (of 8 channels) of a picture; its threads share out the pixels of a chunk.
template <int CHUNKS>
__global__ void __launch_bounds__(512) global_pool(const __grid_constant__ Pixels p) {
  constexpr int LANES = 512 / CHUNKS, ROWS = 64 / CHUNKS;
  __shared__ float partial[LANES][CHUNKS * 8 + 1], second[ROWS][CHUNKS * 8];
  let_later_kernels_start();
  wait_for_earlier_kernels();
  const int chunk = threadIdx.x % CHUNKS, lane = threadIdx.x / CHUNKS, image = blockIdx.y;
  const int channel = (blockIdx.x * CHUNKS + chunk) * 8, channels = p.of_chunks.divisor * 8;
  float sums[8] = {0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
  const int pixels = p.height * p.width;
  if (channel < channels) {
    const half_t* source = p.source + image * p.source_image + channel;
#pragma unroll 8
    for (int i = lane; i < pixels; i += LANES) {
      float v[8];
      unpack(load16(source + (long long)i * p.source_stride), v);
#pragma unroll
      for (int e = 0; e < 8; e++) sums[e] += v[e];
    }
  }
#pragma unroll
  for (int e = 0; e < 8; e++) partial[lane][chunk * 8 + e] = sums[e];
  __syncthreads();
  const int column = threadIdx.x % (CHUNKS * 8), row = threadIdx.x / (CHUNKS * 8);
  float sum = 0.f;
  for (int i = row; i < LANES; i += ROWS) sum += partial[i][column];
  second[row][column] = sum;
  __syncthreads();
  if (threadIdx.x < CHUNKS * 8) {
    sum = 0.f;
    for (int i = 0; i < ROWS; i++) sum += second[i][column];
    const int to = blockIdx.x * CHUNKS * 8 + column;
    if (to < channels) p.target[image * p.target_image + to] = to_half(sum / (float)pixels);
  }
}

// Source of row or column `i`, and how far it lies towards the next one.
DEVICE float source_of(const Pixels& p, int i, float scale) {
  return __fsub_rn(__fmul_rn(__fadd_rn((float)i, p.shift), scale), p.shift);
}

template <bool BILINEAR>
__global__ void __launch_bounds__(128) enlarge(const __grid_constant__ Pixels p) {
  let_later_kernels_start();
  wait_for_earlier_kernels();
  const int i = blockIdx.x * 128 + threadIdx.x;
  if (i >= p.work) return;
  const Place at = place_of(p, i);
  const half_t* source = p.source + at.image * p.source_image + at.channel;
  auto load = [&](int y, int x, float (&v)[8]) {
    y = min(max(y, 0), p.height - 1), x = min(max(x, 0), p.width - 1);
    unpack(load16(source + (long long)(y * p.width + x) * p.source_stride), v);
  };
  float result[8];
  if (BILINEAR) {
    const float y = source_of(p, at.y, p.scale_y), x = source_of(p, at.x, p.scale_x);
    const float low_y = floorf(y), low_x = floorf(x);
    float a[8], b[8], c[8], d[8];
    load((int)low_y, (int)low_x, a), load((int)low_y, (int)low_x + 1, b);
    load((int)low_y + 1, (int)low_x, c), load((int)low_y + 1, (int)low_x + 1, d);
#pragma unroll
    for (int e = 0; e < 8; e++) {
      const float above = a[e] + (b[e] - a[e]) * (x - low_x), below = c[e] + (d[e] - c[e]) * (x - low_x);
      result[e] = above + (below - above) * (y - low_y);
    }
  } else {
    const float y = __fadd_rn(__fmul_rn(__fadd_rn((float)at.y, p.shift), p.scale_y), p.rounding);
    const float x = __fadd_rn(__fmul_rn(__fadd_rn((float)at.x, p.shift), p.scale_x), p.rounding);
    load((int)floorf(y), (int)floorf(x), result);
  }
  store_at(p, at, result);
}

// The codes are those of `OPERATIONS` in pixels.py.
__global__ void __launch_bounds__(128) elementwise(const __grid_constant__ Pixels p) {
  let_later_kernels_start();
  wait_for_earlier_kernels();
  const int i = blockIdx.x * 128 + threadIdx.x;
  if (i >= p.work) return;
  const Place at = place_of(p, i);
  const int y = at.y + p.top, x = at.x + p.left;
  float a[8], b[8];
#pragma unroll
  for (int e = 0; e < 8; e++) a[e] = p.fill, b[e] = 0.f;
  if ((uint32)y < (uint32)p.height && (uint32)x < (uint32)p.width) {
    const half_t* source = p.source + at.image * p.source_image + (long long)(y * p.width + x) * p.source_stride;
    if (!p.sources) {
      unpack(load16(source + at.channel), a);
    } else {
#pragma unroll
      for (int e = 0; e < 8; e++) {
        const int from = p.sources[at.channel + e];
        if (from >= 0) a[e] = to_float(source[from]);
      }
    }
  }
  if (p.other) {
    const int place = p.other_width ? at.y * p.other_width + at.x : 0;  // width 0: one pixel for all
    const half_t* other = p.other + at.image * p.other_image + (long long)place * p.other_stride;
    if (!p.other_sources) {
      unpack(load16(other + at.channel), b);
    } else {
#pragma unroll
      for (int e = 0; e < 8; e++) {
        const int from = p.other_sources[at.channel + e];
        if (from >= 0) b[e] = to_float(other[from]);
      }
    }
  }
#pragma unroll
  for (int e = 0; e < 8; e++) {
    const int parameter = p.by_channel ? at.channel + e : 0;
    const float v = a[e], gate = fminf(fmaxf(v + 3.f, 0.f), 6.f) * (1.f / 6.f);
    float r = v;
    switch (p.operation) {
      case 1: r = fmaxf(v, 0.f); break;
      case 2: r = fminf(fmaxf(v, 0.f), 6.f); break;
      case 3: r = sigmoid(v); break;
      case 4: r = gate; break;
      case 5: r = v * gate; break;
      case 6: r = v * sigmoid(v); break;
      case 7: r = __fadd_rn(__fmul_rn(v, p.first[parameter]), p.second[parameter]); break;
      case 8: r = fminf(fmaxf(v, p.first[0]), p.second[0]); break;
      case 9: {
        const float low = p.first[0], clipped = fminf(fmaxf(v, low), p.second[0]);
        const float zero = floorf(__fadd_rn(__fdiv_rn(-low, p.third), 0.5f));
        const float steps = __fadd_rn(__fsub_rn(__fdiv_rn(__fsub_rn(clipped, low), p.third), zero), 0.5f);
        r = __fmul_rn(floorf(steps), p.third);
        break;
      }
      case 10: r = v + b[e]; break;
      case 11: r = v * b[e]; break;
    }
    if (p.sources && p.sources[at.channel + e] < 0) r = 0.f;
    a[e] = fminf(fmaxf(r, -65504.f), 65504.f);
  }
  store_at(p, at, a);
}

// Every pixel of a picture times the one pixel of another.
__global__ void __launch_bounds__(128) scaled(const __grid_constant__ Pixels p) {
  let_later_kernels_start();
  wait_for_earlier_kernels();
  uint4 sources[4], others[4];
  half_t* targets[4];
#pragma unroll
  for (int turn = 0; turn < 4; turn++) {
    const int i = blockIdx.x * 512 + turn * 128 + threadIdx.x;
    targets[turn] = nullptr;
    if (i >= p.work) continue;
    const Place at = place_of(p, i);
    const int place = at.y * p.width + at.x;
    sources[turn] = load16(p.source + at.image * p.source_image + (long long)place * p.source_stride + at.channel);
    others[turn] = load16(p.other + at.image * p.other_image + at.channel);
    targets[turn] = p.target + at.image * p.target_image + (long long)place * p.target_stride + at.channel;
  }
#pragma unroll
  for (int turn = 0; turn < 4; turn++) {
    if (!targets[turn]) continue;
    float a[8], b[8];
    unpack(sources[turn], a), unpack(others[turn], b);
#pragma unroll
    for (int e = 0; e < 8; e++) a[e] = fminf(fmaxf(a[e] * b[e], -65504.f), 65504.f);
    store16(targets[turn], packed(a));
  }
}

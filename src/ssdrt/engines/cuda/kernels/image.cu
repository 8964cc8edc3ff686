// The network's input: pictures of bytes or of numbers, resized as the graph does it, normalised, as fp16 in 8 channels,
// of which three are used.
#include "common.cuh"

struct Picture {  // one of a batch; bytes lie in C order, RGB
  const uint8* pixels;
  int height, width;          // of the picture
  int new_height, new_width;  // after resizing; what is left of the input is filled
  float scale_y, scale_x;     // source pixels a new pixel
};

struct Image {
  const void* source;  // bytes or floats (batch, height, width, 3)
  const Picture* pictures;
  half_t* target;
  long long target_image;
  int work;  // pixels of the batch
  int width, target_stride;
  int operations;      // of the normalisation, in order; code 0 mul, 1 add, 2 sub, 3 div
  int codes[4];
  float operands[4][3];
  float filling[3];
  float shift, rounding;
  int nearest;
  Divider of_image, of_row;
};

DEVICE void store_pixel(const Image& p, int i, float (&rgb)[3]) {
  float values[8] = {0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
#pragma unroll
  for (int c = 0; c < 3; c++) {
    float v = rgb[c];
#pragma unroll
    for (int k = 0; k < 4; k++)
      if (k < p.operations) {
        const float by = p.operands[k][c];
        v = p.codes[k] == 0 ? __fmul_rn(v, by) : p.codes[k] == 1 ? __fadd_rn(v, by) : p.codes[k] == 2 ? __fsub_rn(v, by) : __fdiv_rn(v, by);
      }
    values[c] = v;
  }
  const int image = quotient(i, p.of_image), place = i - image * p.of_image.divisor;
  store16(p.target + image * p.target_image + (long long)place * p.target_stride, packed(values));
}

template <bool BYTES>
__global__ void __launch_bounds__(256) read_image(const __grid_constant__ Image p) {
  let_later_kernels_start();
  wait_for_earlier_kernels();
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i >= p.work) return;
  float rgb[3];
#pragma unroll
  for (int c = 0; c < 3; c++)
    rgb[c] = BYTES ? (float)((const uint8*)p.source)[3ll * i + c] : ((const float*)p.source)[3ll * i + c];
  store_pixel(p, i, rgb);
}

DEVICE float position(const Image& p, int i, float scale) {
  return __fsub_rn(__fmul_rn(__fadd_rn((float)i, p.shift), scale), p.shift);
}

// ResizeBilinear and ResizeNearestNeighbor (preprocess.py), one thread a pixel of the input; every picture has its size.
__global__ void __launch_bounds__(256) resize_image(const __grid_constant__ Image p) {
  let_later_kernels_start();
  wait_for_earlier_kernels();
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i >= p.work) return;
  const int image = quotient(i, p.of_image), place = i - image * p.of_image.divisor;
  const int y = quotient(place, p.of_row), x = place - y * p.of_row.divisor;
  const Picture picture = p.pictures[image];
  float rgb[3] = {p.filling[0], p.filling[1], p.filling[2]};
  if (y < picture.new_height && x < picture.new_width) {
    if (picture.new_height == picture.height && picture.new_width == picture.width) {
      const uint8* from = picture.pixels + 3ll * (y * picture.width + x);
#pragma unroll
      for (int c = 0; c < 3; c++) rgb[c] = (float)from[c];
    } else if (p.nearest) {
      const int from_y = min((int)floor((double)__fmul_rn(__fadd_rn((float)y, p.shift), picture.scale_y) + p.rounding), picture.height - 1);
      const int from_x = min((int)floor((double)__fmul_rn(__fadd_rn((float)x, p.shift), picture.scale_x) + p.rounding), picture.width - 1);
      const uint8* from = picture.pixels + 3ll * (from_y * picture.width + from_x);
#pragma unroll
      for (int c = 0; c < 3; c++) rgb[c] = (float)from[c];
    } else {
      const float at_y = position(p, y, picture.scale_y), at_x = position(p, x, picture.scale_x);
      const float floor_y = floorf(at_y), floor_x = floorf(at_x);
      const int bottom = min((int)ceilf(at_y), picture.height - 1), right = min((int)ceilf(at_x), picture.width - 1);
      const int top = min(max((int)floor_y, 0), bottom), left = min(max((int)floor_x, 0), right);
      const float lerp_y = __fsub_rn(at_y, floor_y), lerp_x = __fsub_rn(at_x, floor_x);
      const uint8* above = picture.pixels + 3ll * top * picture.width;
      const uint8* below = picture.pixels + 3ll * bottom * picture.width;
#pragma unroll
      for (int c = 0; c < 3; c++) {
        const float a = above[3 * left + c], b = above[3 * right + c], d = below[3 * left + c], e = below[3 * right + c];
        const float high = __fadd_rn(__fmul_rn(__fsub_rn(b, a), lerp_x), a);
        const float low = __fadd_rn(__fmul_rn(__fsub_rn(e, d), lerp_x), d);
        rgb[c] = __fadd_rn(high, __fmul_rn(__fsub_rn(low, high), lerp_y));
      }
    }
  }
  store_pixel(p, i, rgb);
}

// From pinned memory of the host to the GPU, without a copy node: for one picture the node costs more than its bytes. How
// many pieces there are is said by the launch: blocks that asked the host for it waited for each other, a microsecond each.
struct Fetch {
  const uint4* source;
  uint4* target;
  long long count;
};

__global__ void __launch_bounds__(256) fetch(const __grid_constant__ Fetch p) {
  let_later_kernels_start();
  wait_for_earlier_kernels();
  const int i = blockIdx.x * 256 + threadIdx.x;
  if (i >= p.count) return;
  uint4 v;
  asm volatile("ld.global.cv.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p.source + i));
  p.target[i] = v;
}

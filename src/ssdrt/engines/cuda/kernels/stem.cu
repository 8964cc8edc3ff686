// The front of MobileNet v1 in one kernel, for sm_80 and later: bytes, normalisation, 3x3 of stride 2 (up to 32 channels),
// depthwise 3x3 and 1x1 (64), depthwise 3x3 of stride 2 and 1x1 (128), all ending in relu6. What lies between stays in
// shared memory: 8.6 MB a picture of 300x300 that never reach the GPU's memory.
//
// A tile is 15 x 5 pixels of the last. x - 128 is exact in fp16; the first bias holds the rest of the normalisation, and a
// border is the byte that is zero after it.
#include "hopper.cuh"

struct Stem {
  const uint4* pictures;  // table of `Picture` (image.cu), of which only the address matters here
  half_t* target;
  const uint4 *first, *point1, *point2;           // fragments: (4 tiles, 32 lanes), (8, 32), (16, 2, 32)
  const uint4 *depthwise1, *start1, *depthwise2, *start2;  // [9][32], [32], [9][64], [64] fp16
  const float *first_bias, *bias1, *bias2;        // 32, 64, 128
  long long target_image;
  int tiles, height, width, columns, target_stride;  // of the source; channels stored
  uint32 border;                                     // twice, fp16
  Divider of_picture, of_row;                        // tiles of a picture, of a row
};

constexpr int DOWN = 5, ACROSS = 15;
constexpr int IMAGE_ROWS = 4 * DOWN + 7, FIRST_ROWS = 2 * DOWN + 3, MIDDLE_ROWS = 2 * DOWN + 1;
constexpr int IMAGE_PITCH = 416;
// Two areas, used in turn: image or middle; first or the last depthwise's sums. Then the weights.
constexpr int AREA1 = MIDDLE_ROWS * 32 * 128, AREA2 = (FIRST_ROWS + 1) * 34 * 64;
constexpr int MIDDLE = 0, FIRST = (AREA1 + 127) / 128 * 128, W_POINT1 = FIRST + (AREA2 + 127) / 128 * 128;
constexpr int W_POINT2 = W_POINT1 + 4096, W_DEPTHWISE1 = W_POINT2 + 16384, W_START1 = W_DEPTHWISE1 + 576;
constexpr int W_DEPTHWISE2 = W_START1 + 64, W_START2 = W_DEPTHWISE2 + 1152, W_BIAS1 = W_START2 + 128, W_BIAS2 = W_BIAS1 + 256;
constexpr int TOTAL = W_BIAS2 + 512;
static_assert(IMAGE_ROWS * IMAGE_PITCH <= AREA1 && ((ACROSS * DOWN + 15) / 16) * 16 * 128 <= AREA2, "areas");

DEVICE uint32 relu_pair(float a, float b) {
  uint32 d;
  asm("cvt.rn.relu.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(b), "f"(a));
  asm("min.f16x2 %0, %0, %1;" : "+r"(d) : "r"(0x46004600u));
  return d;
}

DEVICE uint4 relu6(const uint4& v) { return limited(v, 0u, 0x46004600u); }

DEVICE uint32 shared4(uint32 address) {
  uint32 v;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(address));
  return v;
}

DEVICE void start_with(float (&d)[4], float a, float b) { d[0] = d[2] = a, d[1] = d[3] = b; }

DEVICE void multiply(float (&d)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1) {
  const uint32 a[4] = {a0, a1, a2, a3};
  multiply(d, a, b0, b1);
}

DEVICE void biases(uint32 address, float (&b)[8]) {
  const uint4 low = shared16(address), high = shared16(address + 16);
  b[0] = __uint_as_float(low.x), b[1] = __uint_as_float(low.y), b[2] = __uint_as_float(low.z), b[3] = __uint_as_float(low.w);
  b[4] = __uint_as_float(high.x), b[5] = __uint_as_float(high.y), b[6] = __uint_as_float(high.z), b[7] = __uint_as_float(high.w);
}

// 64-byte pixels of the first convolution, two in 128 bytes, swapped in every other pair.
DEVICE uint32 first_place(int pixel) { return (uint32)((pixel >> 1) * 128 + (((pixel ^ (pixel >> 1)) & 1) << 6)); }

__global__ void __launch_bounds__(256, 2) stem(const __grid_constant__ Stem p) {
  extern __shared__ __align__(128) uint8 memory[];
  const uint32 base = shared_address(memory);
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31, g = lane >> 2, t = lane & 3;
  auto bring = [&](int to, const void* from, int bytes) {
    for (int i = thread; i < bytes / 16; i += 256) *(uint4*)(memory + to + i * 16) = ((const uint4*)from)[i];
  };
  bring(W_POINT1, p.point1, 4096), bring(W_POINT2, p.point2, 16384);
  bring(W_DEPTHWISE1, p.depthwise1, 576), bring(W_START1, p.start1, 64);
  bring(W_DEPTHWISE2, p.depthwise2, 1152), bring(W_START2, p.start2, 128);
  bring(W_BIAS1, p.bias1, 256), bring(W_BIAS2, p.bias2, 512);
  uint4 first[4];
  float first_bias[8];
#pragma unroll
  for (int j = 0; j < 4; j++) first[j] = p.first[j * 32 + lane];
#pragma unroll
  for (int i = 0; i < 8; i++) first_bias[i] = p.first_bias[8 * t + i];
  int window[4];  // bytes from a pixel's corner to the pair of numbers at K = 2t + 8i, which is (row * 10 + 3 * column + c)
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int k = 2 * t + 8 * i;
    window[i] = k < 30 ? ((k / 10) * (IMAGE_PITCH / 2) + k % 10) * 2 : 0;
  }
  const int row_bytes = p.width * 3, height1 = p.height / 2, width1 = p.width / 2, height2 = p.height / 4, width2 = p.width / 4;
  let_later_kernels_start();
  wait_for_earlier_kernels();
  constexpr int ROWS_OF_WARP = (IMAGE_ROWS + 7) / 8;
  uint32 words[ROWS_OF_WARP][2];
  auto fetch = [&](int tile) {
    const int image = quotient(tile, p.of_picture), rest = tile - image * p.of_picture.divisor;
    const int tile_y = quotient(rest, p.of_row), tile_x = rest - tile_y * p.of_row.divisor;
    const uint8* pixels = *(const uint8* const*)(p.pictures + 2 * image);
    const int y0 = 4 * tile_y * DOWN - 2 + warp, x0 = 12 * ACROSS * tile_x - 8 + 4 * lane;
#pragma unroll
    for (int i = 0; i < ROWS_OF_WARP; i++) {
      const int y = y0 + 8 * i;
      const bool inside = y >= 0 && y < p.height && warp + 8 * i < IMAGE_ROWS;
      const uint8* from = pixels + (long long)y * row_bytes + x0;
      words[i][0] = inside && x0 >= 0 && x0 < row_bytes ? *(const uint32*)from : 0;
      words[i][1] = inside && lane < 19 && x0 + 128 < row_bytes ? *(const uint32*)(from + 128) : 0;
    }
  };
  if (blockIdx.x < p.tiles) fetch(blockIdx.x);
  const int start_pixel = warp * 16 + g, start_row = start_pixel / 33, start_column = start_pixel - start_row * 33;
  const int chunk = thread & 7;
  for (int tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
    const int image = quotient(tile, p.of_picture), rest = tile - image * p.of_picture.divisor;
    const int tile_y = quotient(rest, p.of_row), tile_x = rest - tile_y * p.of_row.divisor;
    const int y2 = tile_y * DOWN, x2 = tile_x * ACROSS;  // first pixel of the tile in the last convolution's map
    // The windows of the first convolution reach one pixel of the last map further than the tile.
    const bool far_edge = y2 + DOWN + 1 >= height2 || x2 + ACROSS + 1 >= width2, edge = y2 == 0 || x2 == 0 || far_edge;
    {  // bytes to x - 128: 0x6400 | x is 1024 + x
      const int y0 = 4 * y2 - 2 + warp, x0 = 12 * x2 - 8 + 4 * lane;
#pragma unroll
      for (int i = 0; i < ROWS_OF_WARP; i++)
        if (warp + 8 * i < IMAGE_ROWS) {
#pragma unroll
          for (int e = 0; e < 2; e++)
            if (e == 0 || lane < 19) {
              uint32 low = __byte_perm(words[i][e], 0x64646464, 0x4140), high = __byte_perm(words[i][e], 0x64646464, 0x4342);
              asm("sub.f16x2 %0, %0, %1;" : "+r"(low) : "r"(0x64806480u));
              asm("sub.f16x2 %0, %0, %1;" : "+r"(high) : "r"(0x64806480u));
              if (far_edge && (y0 + 8 * i >= p.height || x0 + 128 * e >= row_bytes)) low = high = p.border;
              *(uint2*)(memory + MIDDLE + (warp + 8 * i) * IMAGE_PITCH + lane * 8 + e * 256) = make_uint2(low, high);
            }
        }
    }
    __syncthreads();
    {  // first convolution
      int row_a = start_row, column_a = start_column;
      for (int m = warp; m < (FIRST_ROWS * 33 + 15) / 16; m += 8) {
        int row_b = row_a, column_b = column_a + 8;
        if (column_b >= 33) column_b -= 33, row_b++;
        const bool real_a = row_a < FIRST_ROWS, real_b = row_b < FIRST_ROWS;
        const uint32 from_a = base + MIDDLE + (real_a ? row_a : 0) * 2 * IMAGE_PITCH + column_a * 12 + 4;
        const uint32 from_b = base + MIDDLE + (real_b ? row_b : 0) * 2 * IMAGE_PITCH + column_b * 12 + 4;
        uint32 a[8];
#pragma unroll
        for (int i = 0; i < 4; i++) a[2 * i] = shared4(from_a + window[i]), a[2 * i + 1] = shared4(from_b + window[i]);
        uint4 result_a, result_b;
        uint32 *to_a = &result_a.x, *to_b = &result_b.x;
#pragma unroll
        for (int j = 0; j < 4; j++) {
          float d[4];
          start_with(d, first_bias[2 * j], first_bias[2 * j + 1]);
          multiply(d, a[0], a[1], a[2], a[3], first[j].x, first[j].y);
          multiply(d, a[4], a[5], a[6], a[7], first[j].z, first[j].w);
          to_a[j] = relu_pair(d[0], d[1]), to_b[j] = relu_pair(d[2], d[3]);
        }
        if (edge) {  // the border of the depthwise convolution is zero
          const uint4 zero = make_uint4(0, 0, 0, 0);
          if ((uint32)(2 * y2 - 1 + row_a) >= (uint32)height1 || (uint32)(2 * x2 - 1 + column_a) >= (uint32)width1) result_a = zero;
          if ((uint32)(2 * y2 - 1 + row_b) >= (uint32)height1 || (uint32)(2 * x2 - 1 + column_b) >= (uint32)width1) result_b = zero;
        }
        if (real_a) shared16(base + FIRST + first_place(row_a * 34 + column_a) + t * 16, result_a);
        if (real_b) shared16(base + FIRST + first_place(row_b * 34 + column_b) + t * 16, result_b);
        row_a += 3, column_a += 29;
        if (column_a >= 33) column_a -= 33, row_a++;
      }
    }
    __syncthreads();
    if (tile + gridDim.x < p.tiles) fetch(tile + gridDim.x);
    {  // depthwise in registers, which are the fragments that the 1x1 takes
      constexpr int EACH = (MIDDLE_ROWS + 3) / 4;
      const int half = warp & 1, row0 = (warp >> 1) * EACH, rows = min(EACH, MIDDLE_ROWS - row0);
      if (rows > 0) {
        uint4 sums[EACH][2];
        {
          uint4 w[9];
#pragma unroll
          for (int k = 0; k < 9; k++) w[k] = shared16(base + W_DEPTHWISE1 + k * 64 + t * 16);
          const uint4 start = shared16(base + W_START1 + t * 16);
          const int pair = row0 * 17 + 8 * half + g;
          const uint32 even = base + FIRST + pair * 128 + ((pair & 1) << 6) + t * 16, odd = even ^ 64u;
#pragma unroll
          for (int i = 0; i < EACH; i++) sums[i][0] = sums[i][1] = start;
#pragma unroll
          for (int j = 0; j < EACH + 2; j++)
            if (j < rows + 2) {
              const uint32 here = ((j & 1) ? odd : even) + j * 2176, there = ((j & 1) ? even : odd) + j * 2176;
              const uint4 v[4] = {shared16(here), shared16(there), shared16(there + 128), shared16(here + 128)};
#pragma unroll
              for (int i = 0; i < EACH; i++) {
                const int wy = j - i;
                if (wy >= 0 && wy < 3)
#pragma unroll
                  for (int wx = 0; wx < 3; wx++) {
                    multiply_add(sums[i][0], w[wy * 3 + wx], v[wx]);
                    multiply_add(sums[i][1], w[wy * 3 + wx], v[wx + 1]);
                  }
              }
            }
#pragma unroll
          for (int i = 0; i < EACH; i++) sums[i][0] = relu6(sums[i][0]), sums[i][1] = relu6(sums[i][1]);
        }
#pragma unroll
        for (int q = 0; q < 2; q++) {
          uint4 b[4];
#pragma unroll
          for (int j = 0; j < 4; j++) b[j] = shared16(base + W_POINT1 + ((q * 4 + j) * 32 + lane) * 16);
          float bias[8];
          biases(base + W_BIAS1 + (q * 32 + 8 * t) * 4, bias);
#pragma unroll
          for (int i = 0; i < EACH; i++)
            if (i < rows) {
              uint4 result_a, result_b;
              uint32 *to_a = &result_a.x, *to_b = &result_b.x;
#pragma unroll
              for (int j = 0; j < 4; j++) {
                float d[4];
                start_with(d, bias[2 * j], bias[2 * j + 1]);
                multiply(d, sums[i][0].x, sums[i][1].x, sums[i][0].y, sums[i][1].y, b[j].x, b[j].y);
                multiply(d, sums[i][0].z, sums[i][1].z, sums[i][0].w, sums[i][1].w, b[j].z, b[j].w);
                to_a[j] = relu_pair(d[0], d[1]), to_b[j] = relu_pair(d[2], d[3]);
              }
              const int row = row0 + i, x = 16 * half + 2 * g;
              if (far_edge) {
                const uint4 zero = make_uint4(0, 0, 0, 0);
                const int y1 = 2 * y2 + row, x1 = 2 * x2 + x;
                if (y1 >= height1 || x1 >= width1) result_a = zero;
                if (y1 >= height1 || x1 + 1 >= width1) result_b = zero;
              }
              const uint32 to = base + MIDDLE + (row * 32 + x) * 128 + (((q * 4 + t) ^ ((g & 1) << 2)) << 4);
              shared16(to, result_a), shared16(to + 128, result_b);
            }
        }
      }
    }
    __syncthreads();
    {  // depthwise of stride 2, rows of 128 bytes, swizzled
      uint4 w[9];
#pragma unroll
      for (int k = 0; k < 9; k++) w[k] = shared16(base + W_DEPTHWISE2 + k * 128 + chunk * 16);
      const uint4 start = shared16(base + W_START2 + chunk * 16);
#pragma unroll
      for (int i = 0; i < (ACROSS * DOWN + 31) / 32; i++) {
        const int pixel = (thread >> 3) + 32 * i;
        if (pixel < ACROSS * DOWN) {
          const int y = pixel / ACROSS, x = pixel - y * ACROSS;
          uint4 sum = start;
          const uint32 left = base + MIDDLE + (y * 64 + 2 * x) * 128 + ((chunk ^ ((x & 1) << 2)) << 4), right = (left + 256) ^ 64u;
#pragma unroll
          for (int k = 0; k < 3; k++) {
            multiply_add(sum, w[k * 3], shared16(left + k * 4096)), multiply_add(sum, w[k * 3 + 1], shared16(left + k * 4096 + 128));
            multiply_add(sum, w[k * 3 + 2], shared16(right + k * 4096));
          }
          shared16(base + FIRST + pixel * 128 + ((chunk ^ (pixel & 7)) << 4), relu6(sum));
        }
      }
    }
    __syncthreads();
    {  // last 1x1
      constexpr int TILES = (ACROSS * DOWN + 15) / 16, EACH = (TILES + 1) / 2;
      const int quarter = warp & 3, side = warp >> 2, column = quarter * 32 + 8 * t;
      uint4 b[4][2];
#pragma unroll
      for (int j = 0; j < 4; j++)
#pragma unroll
        for (int k = 0; k < 2; k++) b[j][k] = shared16(base + W_POINT2 + (((quarter * 4 + j) * 2 + k) * 32 + lane) * 16);
      float bias[8];
      biases(base + W_BIAS2 + column * 4, bias);
      for (int m = side * EACH; m < min(TILES, side * EACH + EACH); m++) {
        uint32 a[4][4];
#pragma unroll
        for (int s = 0; s < 4; s++) {
          const int row = m * 16 + (lane & 15), c = s * 2 + (lane >> 4);
          load_matrices(a[s], base + FIRST + row * 128 + ((c ^ (row & 7)) << 4));
        }
        uint4 result_a, result_b;
        uint32 *to_a = &result_a.x, *to_b = &result_b.x;
#pragma unroll
        for (int j = 0; j < 4; j++) {
          float d[4];
          start_with(d, bias[2 * j], bias[2 * j + 1]);
          multiply(d, a[0], b[j][0].x, b[j][0].y), multiply(d, a[1], b[j][0].z, b[j][0].w);
          multiply(d, a[2], b[j][1].x, b[j][1].y), multiply(d, a[3], b[j][1].z, b[j][1].w);
          to_a[j] = relu_pair(d[0], d[1]), to_b[j] = relu_pair(d[2], d[3]);
        }
        half_t* target = p.target + image * p.target_image + column;
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const int pixel = m * 16 + g + 8 * half, y = pixel / ACROSS, x = pixel - y * ACROSS;
          if (pixel < ACROSS * DOWN && y2 + y < height2 && x2 + x < width2 && column < p.columns)
            store16(target + (long long)((y2 + y) * width2 + x2 + x) * p.target_stride, half ? result_b : result_a);
        }
      }
    }
  }
}

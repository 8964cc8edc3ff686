// Dense convolutions as matrix products: pixels times channels. NHWC fp16 in and out, fp32 sums.
//
// The K dimension is the list of 8-channel chunks of all window positions, 4 chunks (32 numbers) a step. Weights lie as
// [step][column][4 chunks], chunk c of column n at place c ^ ((n >> 1) & 3), so that a tile is one piece of memory, already
// swizzled for ldmatrix. Columns of each 32 are permuted so that the 8 sums that a thread has of a row are neighbours
// (packing.py), and one 16-byte store takes them.
#include "sums.cuh"

struct Convolution {
  const half_t* source;
  const uint4* weights;
  const float* bias;
  const half_t* residual;  // or null
  half_t* target;
  long long source_image, target_image, residual_image;  // elements from one picture to the next
  int pixels, columns, steps, chunks;                     // output pixels of the batch; physical channels; K
  int height, width, source_stride, chunks_of_pixel;      // of the source; chunks_of_pixel: of one window position
  int window_width, stride_y, stride_x, pad_y, pad_x, gap_y, gap_x;
  int target_stride, residual_stride, residual_width, residual_shift;
  int packed_columns, column_tiles, parts, part_steps;
  Finish finish;
  Divider of_image, of_row, of_tile, of_pixel, of_window;
};

// A block makes ROWS pixels x COLUMNS channels, a warp WARP_ROWS x WARP_COLUMNS of them. POINT: a 1x1 window without
// strides or borders.
template <int ROWS, int COLUMNS, int WARP_ROWS, int WARP_COLUMNS, int SLOTS, bool POINT>
__global__ void __launch_bounds__((ROWS / WARP_ROWS) * (COLUMNS / WARP_COLUMNS) * 32)
    convolution(const __grid_constant__ Convolution p) {
  constexpr int THREADS = (ROWS / WARP_ROWS) * (COLUMNS / WARP_COLUMNS) * 32;
  constexpr int A_LOADS = ROWS * 4 / THREADS, B_LOADS = COLUMNS * 4 / THREADS;
  static_assert(A_LOADS * THREADS == ROWS * 4 && B_LOADS * THREADS == COLUMNS * 4, "every thread loads as much");
  constexpr int A_BYTES = ROWS * 64, B_BYTES = COLUMNS * 64;
  extern __shared__ __align__(128) uint8 memory[];
  const uint32 a_slots = shared_address(memory), b_slots = a_slots + SLOTS * A_BYTES;
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  const int tile = blockIdx.x, row_tile = quotient(tile, p.of_tile), column_tile = tile - row_tile * p.column_tiles;
  let_later_kernels_start();

  const int chunk = thread & 3;
  const half_t* images[A_LOADS];
  int ys[A_LOADS], xs[A_LOADS];
#pragma unroll
  for (int i = 0; i < A_LOADS; i++) {
    const int pixel = row_tile * ROWS + (thread >> 2) + i * (THREADS / 4);
    const int image = quotient(pixel, p.of_image), place = pixel - image * p.of_image.divisor;
    images[i] = p.source + image * p.source_image;
    if (POINT) {
      images[i] += (long long)place * p.source_stride;
      ys[i] = pixel < p.pixels ? 0 : -1;
      xs[i] = 0;
    } else {
      const int y = quotient(place, p.of_row), x = place - y * p.of_row.divisor;
      ys[i] = pixel < p.pixels ? y * p.stride_y - p.pad_y : -(1 << 28);
      xs[i] = x * p.stride_x - p.pad_x;
    }
  }
  int at = chunk, window_x = 0, window_y = 0;  // the chunk that this thread loads next, and its window position
  const uint4* next_weights = p.weights + (long long)column_tile * COLUMNS * 4 + thread;
  auto load = [&](int step) {
    const uint32 a = a_slots + (step % SLOTS) * A_BYTES, b = b_slots + (step % SLOTS) * B_BYTES;
    if (!POINT) {
      while (at >= p.chunks_of_pixel) {
        at -= p.chunks_of_pixel;
        if (++window_x == p.window_width) {
          window_x = 0;
          window_y++;
        }
      }
    }
    const bool exists = step * 4 + chunk < p.chunks;
    const int dy = window_y * p.gap_y, dx = window_x * p.gap_x;
#pragma unroll
    for (int i = 0; i < A_LOADS; i++) {
      const int row = (thread >> 2) + i * (THREADS / 4);
      const uint32 to = a + row * 64 + ((chunk ^ ((row >> 1) & 3)) << 4);
      if (POINT) {
        const bool inside = exists && ys[i] == 0;
        copy16(to, inside ? images[i] + at * 8 : p.source, inside);
      } else {
        const int y = ys[i] + dy, x = xs[i] + dx;
        const bool inside = exists && (uint32)y < (uint32)p.height && (uint32)x < (uint32)p.width;
        copy16(to, inside ? images[i] + (long long)(y * p.width + x) * p.source_stride + at * 8 : p.source, inside);
      }
    }
#pragma unroll
    for (int i = 0; i < B_LOADS; i++) copy16(b + (thread + i * THREADS) * 16, next_weights + i * THREADS, true);
    next_weights += p.packed_columns * 4;
    at += 4;
  };

  constexpr int M = WARP_ROWS / 16, N = WARP_COLUMNS / 8;
  const int first_row = (warp / (COLUMNS / WARP_COLUMNS)) * WARP_ROWS;
  const int first_column = (warp % (COLUMNS / WARP_COLUMNS)) * WARP_COLUMNS;
  float sums[M][N][4];
#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) sums[m][n][e] = 0.f;

  wait_for_earlier_kernels();
#pragma unroll
  for (int step = 0; step < SLOTS - 1; step++) {
    if (step < p.steps) load(step);
    end_of_group();
  }
  for (int step = 0; step < p.steps; step++) {
    wait_for_groups<SLOTS - 2>();
    __syncthreads();
    if (step + SLOTS - 1 < p.steps) load(step + SLOTS - 1);
    end_of_group();
    const uint32 a = a_slots + (step % SLOTS) * A_BYTES, b = b_slots + (step % SLOTS) * B_BYTES;
#pragma unroll
    for (int k = 0; k < 2; k++) {
      uint32 left[M][4], right[N / 2][4];
#pragma unroll
      for (int m = 0; m < M; m++) {
        const int row = first_row + m * 16 + (lane & 15), c = k * 2 + (lane >> 4);
        load_matrices(left[m], a + row * 64 + ((c ^ ((row >> 1) & 3)) << 4));
      }
#pragma unroll
      for (int n = 0; n < N / 2; n++) {
        const int row = first_column + n * 16 + (lane & 7) + ((lane >> 4) << 3), c = k * 2 + ((lane >> 3) & 1);
        load_matrices(right[n], b + row * 64 + ((c ^ ((row >> 1) & 3)) << 4));
      }
#pragma unroll
      for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++) multiply(sums[m][n], left[m], right[n / 2][(n & 1) * 2], right[n / 2][(n & 1) * 2 + 1]);
    }
  }
  wait_for_groups<0>();

#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int pixel = row_tile * ROWS + first_row + m * 16 + (lane >> 2) + half * 8;
#pragma unroll
      for (int group = 0; group < WARP_COLUMNS / 32; group++) {
        const int column = column_tile * COLUMNS + first_column + group * 32 + (lane & 3) * 8;
        if (pixel < p.pixels && column < p.columns) {
          float values[8];
#pragma unroll
          for (int i = 0; i < 8; i++) values[i] = sums[m][group * 4 + i / 2][half * 2 + (i & 1)];
          store_sums(p, values, pixel, column);
        }
      }
    }
}

// For few pixels: a block makes TILES * 16 pixels x 32 channels; its 8 warps share out the K steps, and read both operands
// straight into registers, so nothing waits for a pipeline to fill. With `parts` > 1 a cluster of that many blocks shares
// them out once more and adds up through distributed shared memory (sm_90).
template <int TILES>
__global__ void __launch_bounds__(256, 2) few_pixels(const __grid_constant__ Convolution p) {
  constexpr int PITCH = 36;  // floats of a row: 4 rows apart are 16 bytes apart in the banks
  __shared__ __align__(16) float partial[8][TILES * 16][PITCH];
  __shared__ __align__(16) float total[TILES * 16][PITCH];
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5, g = lane >> 2, t = lane & 3;
  const int part = blockIdx.x % p.parts, tile = blockIdx.x / p.parts;
  const int row_tile = quotient(tile, p.of_tile), column_tile = tile - row_tile * p.column_tiles;
  let_later_kernels_start();

  const half_t* images[TILES][2];
  int ys[TILES][2], xs[TILES][2];
#pragma unroll
  for (int m = 0; m < TILES; m++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const int pixel = (row_tile * TILES + m) * 16 + g + 8 * h;
      const int image = quotient(pixel, p.of_image), place = pixel - image * p.of_image.divisor;
      const int y = quotient(place, p.of_row), x = place - y * p.of_row.divisor;
      images[m][h] = p.source + image * p.source_image;
      ys[m][h] = pixel < p.pixels ? y * p.stride_y - p.pad_y : -(1 << 28);
      xs[m][h] = x * p.stride_x - p.pad_x;
    }
  float sums[TILES][4][4];
#pragma unroll
  for (int m = 0; m < TILES; m++)
#pragma unroll
    for (int n = 0; n < 4; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) sums[m][n][e] = 0.f;

  const int first = min(part * p.part_steps, p.steps), end = min(first + p.part_steps, p.steps);
  // what this thread finishes: 8 columns of a row
  const int share = TILES * 64 / p.parts, item = part * share + thread % share;
  const float4* biases = (const float4*)(p.bias + column_tile * 32 + (item & 3) * 8);
  const float4 b0 = biases[0], b1 = biases[1];
  // column 8 * n + g of this tile; its chunk t is swizzled by (g >> 1) & 3, whatever n is
  const uint4* weights = p.weights + ((long long)column_tile * 32 + g) * 4 + (t ^ ((g >> 1) & 3));
  bool waited = false;
  for (int step0 = first + warp; step0 < end; step0 += 16) {
    uint4 right[2][4], left[2][TILES][2];
#pragma unroll
    for (int u = 0; u < 2; u++)
#pragma unroll
      for (int n = 0; n < 4; n++)
        if (step0 + 8 * u < end) right[u][n] = weights[(long long)(step0 + 8 * u) * p.packed_columns * 4 + n * 32];
    if (!waited) wait_for_earlier_kernels();
    waited = true;
#pragma unroll
    for (int u = 0; u < 2; u++)
      if (step0 + 8 * u < end) {
        const int chunk = (step0 + 8 * u) * 4 + t;
        const int window = quotient(chunk, p.of_pixel), at = chunk - window * p.chunks_of_pixel;
        const int window_y = quotient(window, p.of_window), window_x = window - window_y * p.window_width;
#pragma unroll
        for (int m = 0; m < TILES; m++)
#pragma unroll
          for (int h = 0; h < 2; h++) {
            const int y = ys[m][h] + window_y * p.gap_y, x = xs[m][h] + window_x * p.gap_x;
            const bool inside = chunk < p.chunks && (uint32)y < (uint32)p.height && (uint32)x < (uint32)p.width;
            left[u][m][h] = make_uint4(0, 0, 0, 0);
            if (inside) left[u][m][h] = load16(images[m][h] + (long long)(y * p.width + x) * p.source_stride + at * 8);
          }
      }
#pragma unroll
    for (int u = 0; u < 2; u++)
      if (step0 + 8 * u < end)
#pragma unroll
        for (int m = 0; m < TILES; m++) {
          // A thread's 16 bytes are channels 8t..8t+7: which K they are called does not matter while both sides agree.
          const uint4 &low = left[u][m][0], &high = left[u][m][1];
          const uint32 a0[4] = {low.x, high.x, low.y, high.y}, a1[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
          for (int n = 0; n < 4; n++) {
            multiply(sums[m][n], a0, right[u][n].x, right[u][n].y);
            multiply(sums[m][n], a1, right[u][n].z, right[u][n].w);
          }
        }
  }
  if (!waited) wait_for_earlier_kernels();
#pragma unroll
  for (int m = 0; m < TILES; m++)
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
      for (int n = 0; n < 4; n += 2)
        *(float4*)&partial[warp][m * 16 + g + 8 * h][8 * t + 2 * n] =
            make_float4(sums[m][n][2 * h], sums[m][n][2 * h + 1], sums[m][n + 1][2 * h], sums[m][n + 1][2 * h + 1]);
  __syncthreads();
  for (int i = thread; i < TILES * 16 * 8; i += 256) {
    const int row = i >> 3, column = (i & 7) * 4;
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int w = 0; w < 8; w++) {
      const float4 v = *(const float4*)&partial[w][row][column];
      sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
    }
    *(float4*)&total[row][column] = sum;
  }
#if __CUDA_ARCH__ >= 900
  if (p.parts > 1)
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
  else
#endif
    __syncthreads();
  // Every block of the cluster finishes its share of the rows.
  if (thread < share) {
    const int row = item >> 2, column = (item & 3) * 8;
    float values[8] = {b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w};
#if __CUDA_ARCH__ >= 900
    float4 parts[8][2];
#pragma unroll
    for (int other = 0; other < 8; other++)
      if (other < p.parts) {
        uint32 from;
        asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(from) : "r"(shared_address(&total[row][column])), "r"(other));
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float4& v = parts[other][e];
          asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                       : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                       : "r"(from + e * 16));
        }
      }
#pragma unroll
    for (int other = 0; other < 8; other++)
      if (other < p.parts) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
          const float4& v = parts[other][e];
          values[4 * e] += v.x, values[4 * e + 1] += v.y, values[4 * e + 2] += v.z, values[4 * e + 3] += v.w;
        }
      }
#else
#pragma unroll
    for (int e = 0; e < 8; e++) values[e] += total[row][column + e];
#endif
    const int pixel = row_tile * TILES * 16 + row, to = column_tile * 32 + column;
    if (pixel < p.pixels && to < p.columns) finish_sums(p, values, pixel, to);
  }
#if __CUDA_ARCH__ >= 900
  // Keeps this block's shared memory until the others have read it; no memory is ordered by it.
  __syncwarp();
  if (p.parts > 1) asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
#endif
}

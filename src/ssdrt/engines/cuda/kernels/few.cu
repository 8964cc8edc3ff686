// A depthwise 3x3 and the 1x1 behind it as one kernel, for few pixels (sm_90).
//
// A cluster, of two blocks or more, makes TILES * 16 pixels x 64 channels of each of its blocks. Every block computes the
// depthwise sums of a share of the channels, slices of 64, and sends them to all; then each has all of A in shared memory,
// and its columns of B in registers, which it fetched before the kernel ahead of it had ended. The 8 warps are 2 halves of the
// columns x 4 shares of K. Weights lie as convolution.cu describes.
#include "hopper.cuh"

struct Few {
  const half_t* source;
  const half_t* depthwise_weights;  // [9][channels]
  const half_t* depthwise_bias;
  const uint4* weights;
  const float* bias;
  half_t* target;
  long long source_image, target_image;
  int pixels, columns, steps, slices, chunks;  // output pixels of the batch; 32, 64 and 8 channels
  int height, width, source_stride, stride_y, stride_x, pad_y, pad_x;
  int target_stride, packed_columns, column_tiles, parts;  // column tiles of a whole cluster; blocks of a cluster
  uint32 depthwise_low, depthwise_high, low, high;         // limits of the depthwise sums and of the others, twice each
  Divider of_image, of_row, of_tile;
};

// Where everything lies in shared memory; few_shared() in tactics.py is its size.
template <int TILES>
struct Places {
  static constexpr int ROWS = TILES * 16, SLICE = ROWS * 128, PITCH = 68;  // floats of a row of partial sums
  static constexpr int WINDOW = 10 * 128;                                  // of a slice: nine weights and the bias
  int a, windows, bias, full, size;  // partial sums [4][ROWS][PITCH] come first; full is a barrier

  constexpr __device__ Places(int slices, int parts)
      : a(4 * ROWS * PITCH * 4), windows(a + slices * SLICE), bias(windows + ((slices - 1) / parts + 1) * WINDOW),
        full(bias + 256), size(full + 16) {}
};

// The two halves of a barrier of the whole cluster, which orders no memory.
DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); }
DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.aligned;" ::: "memory"); }

DEVICE float4 shared_floats(uint32 address) {
  const uint4 v = shared16(address);
  return make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w));
}

// 16 bytes to the same place in a block of the cluster, counted by its barrier.
DEVICE void send(uint32 place, const uint4& v, uint32 barrier, int rank) {
  asm volatile(
      "{\n.reg .b32 to, there;\nmapa.shared::cluster.u32 to, %0, %6;\nmapa.shared::cluster.u32 there, %5, %6;\n"
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [to], {%1, %2, %3, %4}, [there];\n}" ::"r"(place),
      "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(barrier), "r"(rank) : "memory");
}

// TILES: of 16 pixels; STEPS: of 32 channels, of a warp. B of many channels leaves room for one block of a multiprocessor.
template <int TILES, int STEPS>
__global__ void __launch_bounds__(256, STEPS > 4 ? 1 : 2) few_separable(const __grid_constant__ Few p) {
  static_assert(TILES == 1 || TILES == 2, "a pass of the 256 threads makes 8 chunks of 32 pixels, of one slice or of two");
  using Here = Places<TILES>;
  constexpr int ROWS = Here::ROWS, SLICE = Here::SLICE, PITCH = Here::PITCH, WINDOW = Here::WINDOW;
  extern __shared__ __align__(128) uint8 memory[];
  float* partial = (float*)memory;  // [4][ROWS][PITCH]
  const Here places(p.slices, p.parts);
  const uint32 begin = shared_address(memory), a = begin + places.a, windows = begin + places.windows;
  const uint32 bias = begin + places.bias, full = begin + places.full;
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5, g = lane >> 2, t = lane & 3;
  const int rank = cluster_rank(), tile = blockIdx.x / p.parts;
  const int row_tile = quotient(tile, p.of_tile), column_tile = (tile - row_tile * p.column_tiles) * p.parts + rank;
  const int own = rank < p.slices ? (p.slices - 1 - rank) / p.parts + 1 : 0;  // slices that this block makes
  let_later_kernels_start();

  // Before the wait: weights, which no kernel writes, and everything that can be known.
  for (int i = thread; i < own * 80; i += 256) {
    const int k = (i % 80) >> 3, chunk = (rank + i / 80 * p.parts) * 8 + (i & 7);
    const half_t* from = k < 9 ? p.depthwise_weights + k * p.chunks * 8 : p.depthwise_bias;
    const bool exists = chunk < p.chunks;
    copy16(windows + i * 16, exists ? from + chunk * 8 : from, exists);
  }
  if (thread < 16) {
    const bool exists = column_tile * 64 + thread * 4 < p.columns;
    copy16(bias + thread * 16, exists ? p.bias + column_tile * 64 + thread * 4 : p.bias, exists);
  }
  end_of_group();
  const int half = warp & 1, quarter = warp >> 1;
  const bool makes = column_tile * 64 + half * 32 < p.columns;
  const uint4* weights = p.weights + ((long long)column_tile * 64 + half * 32 + g) * 4 + (t ^ ((g >> 1) & 3));
  uint4 right[STEPS][4];
#pragma unroll
  for (int s = 0; s < STEPS; s++)
#pragma unroll
    for (int n = 0; n < 4; n++) {
      right[s][n] = make_uint4(0, 0, 0, 0);
      if (makes && quarter + 4 * s < p.steps) right[s][n] = weights[(long long)(quarter + 4 * s) * p.packed_columns * 4 + n * 32];
    }
  if (thread == 0) {
    barrier_init(full, 1);
    barriers_are_ready();
    arrive_expecting(full, p.slices * SLICE);
  }
  // The window of this thread's pixel: where it begins, and which of its 9 places are inside.
  const int chunk = thread & 7, row = (thread >> 3) & (ROWS - 1);
  const int pixel = min(row_tile * ROWS + row, p.pixels - 1);
  const int image = quotient(pixel, p.of_image), place = pixel - image * p.of_image.divisor;
  const int target_y = quotient(place, p.of_row), target_x = place - target_y * p.of_row.divisor;
  const int y = target_y * p.stride_y - p.pad_y, x = target_x * p.stride_x - p.pad_x;
  long long start = image * p.source_image + (long long)(y * p.width + x) * p.source_stride + chunk * 8;
  int gap = p.source_stride, line = p.width * gap;
  uint32 inside = 0;
#pragma unroll
  for (int k = 0; k < 9; k++)
    inside |= (uint32)((uint32)(y + k / 3) < (uint32)p.height && (uint32)(x + k % 3) < (uint32)p.width) << k;
  uint4 v[9];
#pragma unroll
  for (int k = 0; k < 9; k++) v[k] = make_uint4(0, 0, 0, 0);
  const uint32 at = a + row * 128 + ((chunk ^ ((row & 1) << 2)) << 4);
  asm volatile("" : "+l"(start), "+r"(inside), "+r"(gap), "+r"(line));  // or the compiler leaves it for behind the wait
  wait_for_groups<0>();
  __syncthreads();
  cluster_arrive();  // every block's barrier is there
  cluster_wait();
  wait_for_earlier_kernels();

#pragma unroll 1
  for (int q = TILES == 1 ? thread >> 7 : 0; q < own; q += 3 - TILES) {
    const int slice = rank + q * p.parts;
    const bool exists = slice * 8 + chunk < p.chunks;
    const half_t* from = p.source + (start + slice * 64);
    if (exists) {
#pragma unroll
      for (int k = 0; k < 9; k++)
        if (inside >> k & 1) v[k] = load16(from + k / 3 * line + k % 3 * gap);
    }
    const uint32 window = windows + q * WINDOW + chunk * 16;
    uint4 sum = shared16(window + 9 * 128);
#pragma unroll
    for (int k = 0; k < 9; k++) multiply_add(sum, shared16(window + k * 128), v[k]);
    sum = limited(sum, p.depthwise_low, p.depthwise_high);
    if (!exists) sum = make_uint4(0, 0, 0, 0);
#pragma unroll 1
    for (int other = 0; other < p.parts; other++) send(at + slice * SLICE, sum, full, (rank + other) & (p.parts - 1));
  }
  wait(full, 0);
  __syncwarp();
  cluster_arrive();  // what was sent to this block is there; nobody leaves before all say so
  float sums[TILES][4][4];
#pragma unroll
  for (int m = 0; m < TILES; m++)
#pragma unroll
    for (int n = 0; n < 4; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) sums[m][n][e] = 0.f;
#pragma unroll
  for (int s = 0; s < STEPS; s++) {
    const int step = min(quarter + 4 * s, p.steps - 1);  // behind the last one, B is zero
    const uint32 from = a + (step >> 1) * SLICE + g * 128 + ((((step & 1) * 4 + t) ^ ((g & 1) << 2)) << 4);
#pragma unroll
    for (int m = 0; m < TILES; m++) {
      // A thread's 16 bytes are channels 8t..8t+7: which K they are called does not matter while both sides agree.
      const uint4 low = shared16(from + m * 2048), high = shared16(from + m * 2048 + 1024);
      const uint32 a0[4] = {low.x, high.x, low.y, high.y}, a1[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
      for (int n = 0; n < 4; n++) multiply(sums[m][n], a0, right[s][n].x, right[s][n].y);
#pragma unroll
      for (int n = 0; n < 4; n++) multiply(sums[m][n], a1, right[s][n].z, right[s][n].w);
    }
  }
#pragma unroll
  for (int m = 0; m < TILES; m++)
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
      for (int n = 0; n < 4; n += 2)
        *(float4*)&partial[(quarter * ROWS + m * 16 + g + 8 * h) * PITCH + half * 32 + 8 * t + 2 * n] =
            make_float4(sums[m][n][2 * h], sums[m][n][2 * h + 1], sums[m][n + 1][2 * h], sums[m][n + 1][2 * h + 1]);
  __syncthreads();
  if (thread < ROWS * 8) {  // this thread's chunk of columns, of its pixel
    const int side = chunk >> 2, column = column_tile * 64 + chunk * 8;
    // A side begins with the other half: no conflict of banks.
    float4 first = shared_floats(bias + chunk * 32 + side * 16), second = shared_floats(bias + chunk * 32 + 16 - side * 16);
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const float* from = partial + (k * ROWS + row) * PITCH + chunk * 8;
      const float4 v = *(const float4*)(from + side * 4), w = *(const float4*)(from + 4 - side * 4);
      first.x += v.x, first.y += v.y, first.z += v.z, first.w += v.w;
      second.x += w.x, second.y += w.y, second.z += w.z, second.w += w.w;
    }
    const float4 &low = side ? second : first, &high = side ? first : second;
    float values[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    if (row_tile * ROWS + row < p.pixels && column < p.columns)
      store16(p.target + image * p.target_image + (long long)place * p.target_stride + column, limited(packed(values), p.low, p.high));
  }
  __syncwarp();
  cluster_wait();
}

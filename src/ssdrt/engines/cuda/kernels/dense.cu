// For sm_90a: convolutions with a window as a matrix product. The copy engine walks the window positions of the whole batch
// in the order of the output pixels (its im2col mode): a step brings, for ROWS pixels, 64 channels of what one place of the
// window sees. Borders are its zeros, and no tile ends where a row or a picture does. Weights lie as those of hopper.cu.
#include "tile.cuh"

struct Dense {
  TensorMap map;  // of the source: (channels, width, height, pictures)
  const uint8* weights;
  const float* bias;
  const half_t* residual;  // or null
  half_t* target;
  long long target_image, residual_image;
  int pixels, columns, row_tiles, column_tiles;  // row tiles: of a cluster
  int chunks, window_height, window_width;       // steps of a window place
  int stride_y, stride_x, pad_y, pad_x, gap_y, gap_x;
  int target_stride, residual_stride, residual_width, residual_shift;
  Finish finish;
  Divider of_image, of_row, of_tile;
};

// 64 channels of so many pixels from (x, y) of a picture on, all seen (right, down) of their own places.
DEVICE void load_walk(uint32 to, const TensorMap& map, int channel, int x, int y, int image, int right, int down, uint32 barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(channel), "r"(x), "r"(y), "r"(image), "h"((unsigned short)right), "h"((unsigned short)down)
      : "memory");
}

// Global memory to the same place in every block of a cluster of two, and their barriers there.
DEVICE void bulk_copy_to_both(uint32 to, const void* from, int bytes, uint32 barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;" ::"r"(to),
      "l"(from), "r"(bytes), "r"(barrier), "h"((unsigned short)3)
      : "memory");
}

// KS products of 16 channels: 64 rows of A times COLUMNS columns of B.
template <int COLUMNS, int KS>
DEVICE void add_some(float (&sums)[COLUMNS / 2], uint32 a, uint32 b, bool first) {
  const uint64 left = operand(a), right = operand(b);
#pragma unroll
  for (int k = 0; k < KS; k++) {
    if constexpr (COLUMNS == 256) {
      wgmma<128>(*(float(*)[64])&sums[0], left + 2 * k, right + 2 * k, !first || k);
      wgmma<128>(*(float(*)[64])&sums[64], left + 2 * k, right + 2 * k + 1024, !first || k);
    } else {
      wgmma<COLUMNS>(sums, left + 2 * k, right + 2 * k, !first || k);
    }
  }
}

// A tile is HEIGHT * 128 pixels x COLUMNS channels: two warpgroups multiply HEIGHT * 64 pixels each, a thread behind
// them loads (of a third one, whose registers they take, if the block is alone on its multiprocessor). A ring of SLOTS steps; a block takes every tile of its turn. The last step of a window place has LAST sixteens of channels. A
// cluster of SHARING blocks has as many tiles of other pixels, and each block brings its share of their weights to all.
template <int COLUMNS, int HEIGHT, int SLOTS, int RESIDENT, int SHARING, int LAST, bool PLAIN>
__global__ void __launch_bounds__(RESIDENT == 1 ? 384 : 288, RESIDENT) dense(const __grid_constant__ Dense p) {
  constexpr int ROWS = HEIGHT * 128, A_BYTES = ROWS * 128, B_BYTES = COLUMNS * 128, PART = B_BYTES / SHARING;
  extern __shared__ __align__(1024) uint8 memory[];
  const uint32 base = (shared_address(memory) + 1023) & ~1023u;
  const uint32 a_slots = base, b_slots = a_slots + SLOTS * A_BYTES, bias = b_slots + SLOTS * B_BYTES;
  const int bias_count = p.column_tiles * COLUMNS;
  const uint32 full = bias + bias_count * 4, empty = full + SLOTS * 8;
  const int thread = threadIdx.x, group = thread >> 7, lane = thread & 31;
  if (thread == 0) {
    for (int i = 0; i < SLOTS; i++) barrier_init(full + i * 8, 1), barrier_init(empty + i * 8, 8 * SHARING);
    barriers_are_ready();
  }
  bias_to_shared(p, bias, bias_count, RESIDENT == 1 ? 384 : 288);
  if (SHARING > 1) cluster_sync();
  else __syncthreads();
  let_later_kernels_start();
  const int rank = SHARING > 1 ? cluster_rank() : 0, begin = blockIdx.x / SHARING, stride = gridDim.x / SHARING;
  const int tiles = p.row_tiles * p.column_tiles, steps = p.window_height * p.window_width * p.chunks;
  if (group == 2) {
    if constexpr (RESIDENT == 1) fewer_registers<40>();
    if (thread == 256) {
      int slot = 0, parity = 1;
      bool around = false, waited = false;
      for (int tile = begin; tile < tiles; tile += stride) {
        const int row_tile = quotient(tile, p.of_tile), column_tile = tile - row_tile * p.column_tiles;
        const int pixel = min((row_tile * SHARING + rank) * ROWS, p.pixels - 1);
        const int image = quotient(pixel, p.of_image), place = pixel - image * p.of_image.divisor;
        const int row = quotient(place, p.of_row);
        const int y = row * p.stride_y - p.pad_y, x = (place - row * p.of_row.divisor) * p.stride_x - p.pad_x;
        const uint8* weights = p.weights + (long long)column_tile * steps * B_BYTES + rank * PART;
        for (int down = 0; down < p.window_height; down++)
          for (int right = 0; right < p.window_width; right++)
            for (int chunk = 0; chunk < p.chunks; chunk++, weights += B_BYTES) {
              const uint32 ready = full + slot * 8, b = b_slots + slot * B_BYTES + rank * PART;
              if (around) wait(empty + slot * 8, parity);
              arrive_expecting(ready, A_BYTES + B_BYTES);
              if (SHARING > 1) bulk_copy_to_both(b, weights, PART, ready);
              else bulk_copy(b, weights, PART, ready);
              if (!waited) wait_for_earlier_kernels();
              waited = true;
              load_walk(a_slots + slot * A_BYTES, p.map, chunk * 64, x, y, image, right * p.gap_x, down * p.gap_y, ready);
              if (++slot == SLOTS) slot = 0, parity ^= 1, around = true;
            }
      }
    }
  } else {
    if constexpr (RESIDENT == 1) more_registers<232>();
    wait_for_earlier_kernels();
    const int warp = (thread >> 5) & 3;
    float sums[HEIGHT][COLUMNS / 2];
    int slot = 0, parity = 0, before = 0;
    auto release = [&](int done) {
      if (SHARING == 1) {
        if (lane == 0) arrive(empty + done * 8);
      } else if (lane < SHARING) {
        arrive_at(empty + done * 8, lane);
      }
    };
    for (int tile = begin; tile < tiles; tile += stride) {
      const int row_tile = quotient(tile, p.of_tile), column_tile = tile - row_tile * p.column_tiles;
      int chunk = 0;
      for (int step = 0; step < steps; step++) {
        wait(full + slot * 8, parity);
        const uint32 a = a_slots + slot * A_BYTES + group * 8192, b = b_slots + slot * B_BYTES;
        products_begin();
#pragma unroll
        for (int h = 0; h < HEIGHT; h++) add_some<COLUMNS, LAST>(sums[h], a + h * 16384, b, step == 0);
        const bool whole = ++chunk < p.chunks;
        if (!whole) chunk = 0;
        if (LAST < 4 && whole) {
#pragma unroll
          for (int h = 0; h < HEIGHT; h++) add_some<COLUMNS, 4 - LAST>(sums[h], a + h * 16384 + LAST * 32, b + LAST * 32, false);
        }
        products_end();
        if (step > 0) {
          products_wait<1>();
          release(before);
        }
        before = slot;
        if (++slot == SLOTS) slot = 0, parity ^= 1;
      }
      products_wait<0>();
      release(before);
#pragma unroll
      for (int h = 0; h < HEIGHT; h++) {
        const int pixel = (row_tile * SHARING + rank) * ROWS + h * 128 + group * 64 + warp * 16 + (lane >> 2);
        Place at[2];
#pragma unroll
        for (int half = 0; half < 2; half++)
          at[half] = place_of<PLAIN>(p, min(pixel + 8 * half, p.pixels - 1), pixel + 8 * half < p.pixels);
        store_tile<COLUMNS, PLAIN>(p, sums[h], bias + column_tile * COLUMNS * 4, at, column_tile * COLUMNS);
      }
    }
  }
  __syncwarp();
  if (SHARING > 1) cluster_leave();  // the other block may still send weights here, and arrive at the barriers
}

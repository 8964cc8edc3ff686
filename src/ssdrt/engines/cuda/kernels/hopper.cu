// For sm_90a: 1x1 convolutions, and depthwise 3x3 with the 1x1 behind it as one kernel. Weights lie as tiles of COLUMNS rows of
// 64 numbers, swizzled by 128 bytes as wgmma wants them, so that one plain bulk copy brings a tile.
#include "tile.cuh"

struct Product {
  TensorMap map;  // of the source: (channels, pixels), or (channels, width, rows of the batch)
  const uint8* weights;
  const float* bias;
  const half_t* depthwise_weights;  // [9][channels up to a multiple of 64]
  const half_t* depthwise_bias;
  const half_t* residual;
  half_t* target;
  long long target_image, residual_image;
  int pixels, columns, steps, row_tiles, column_tiles;  // steps of 64 channels; column tiles that one block, or cluster, sees
  int rows, width, depthwise_stride;                     // rows of the batch; numbers between window positions
  int target_stride, residual_stride, residual_width, residual_shift;
  uint32 depthwise_low, depthwise_high;  // limits of the depthwise sums, twice each
  Finish finish;
  Divider of_image, of_row, of_tile, of_height, of_strip;  // of_strip: tiles beside each other
};

// 128 pixels x COLUMNS channels a tile, a ring of SLOTS steps, two warpgroups that multiply, one warp that loads; a block
// takes every gridDim.x-th tile. RESIDENT blocks of a multiprocessor: of two, one stores while the other multiplies.
template <int COLUMNS, int SLOTS, int RESIDENT, bool PLAIN>
__global__ void __launch_bounds__(288, RESIDENT) product(const __grid_constant__ Product p) {
  constexpr int A_BYTES = 128 * 128, B_BYTES = COLUMNS * 128;
  extern __shared__ __align__(1024) uint8 memory[];
  const uint32 base = (shared_address(memory) + 1023) & ~1023u;
  const uint32 a_slots = base, b_slots = a_slots + SLOTS * A_BYTES, bias = b_slots + SLOTS * B_BYTES;
  const int bias_count = p.column_tiles * COLUMNS;
  const uint32 full = bias + bias_count * 4, empty = full + SLOTS * 8;
  const int thread = threadIdx.x, group = thread >> 7, lane = thread & 31;
  if (thread == 0) {
    for (int i = 0; i < SLOTS; i++) barrier_init(full + i * 8, 1), barrier_init(empty + i * 8, 8);
    barriers_are_ready();
  }
  bias_to_shared(p, bias, bias_count, 288);
  __syncthreads();
  let_later_kernels_start();
  const int tiles = p.row_tiles * p.column_tiles;
  if (group == 2) {
    if (lane == 0) {
      int slot = 0, parity = 1;
      bool waited = false;
      for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const int row_tile = quotient(tile, p.of_tile), column_tile = tile - row_tile * p.column_tiles;
        for (int step = 0; step < p.steps; step++) {
          wait(empty + slot * 8, parity);  // the first round passes: nobody has used the slots
          arrive_expecting(full + slot * 8, A_BYTES + B_BYTES);
          bulk_copy(b_slots + slot * B_BYTES, p.weights + ((long long)column_tile * p.steps + step) * B_BYTES, B_BYTES, full + slot * 8);
          if (!waited) wait_for_earlier_kernels();
          waited = true;
          load_tile(a_slots + slot * A_BYTES, p.map, step * 64, row_tile * 128, full + slot * 8);
          if (++slot == SLOTS) slot = 0, parity ^= 1;
        }
      }
    }
    return;
  }
  wait_for_earlier_kernels();
  const int warp = (thread >> 5) & 3;
  float sums[COLUMNS / 2];
  int slot = 0, parity = 0, before = 0;
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int row_tile = quotient(tile, p.of_tile), column_tile = tile - row_tile * p.column_tiles;
    for (int step = 0; step < p.steps; step++) {
      wait(full + slot * 8, parity);
      add_products<COLUMNS>(sums, a_slots + slot * A_BYTES + group * 8192, b_slots + slot * B_BYTES, step == 0);
      if (step > 0) {
        products_wait<1>();
        if (lane == 0) arrive(empty + before * 8);
      }
      before = slot;
      if (++slot == SLOTS) slot = 0, parity ^= 1;
    }
    products_wait<0>();
    if (lane == 0) arrive(empty + before * 8);
    Place at[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int pixel = row_tile * 128 + group * 64 + warp * 16 + (lane >> 2) + 8 * half;
      at[half] = place_of<PLAIN>(p, min(pixel, p.pixels - 1), pixel < p.pixels);
    }
    store_tile<COLUMNS, PLAIN>(p, sums, bias + column_tile * COLUMNS * 4, at, column_tile * COLUMNS);
  }
}

// A depthwise 3x3 of stride 1 and border 1, then a 1x1. A tile is 15 pieces of 2 rows x 4 pixels: 3 x 5 of them, 6 rows x
// 20 pixels, or, TALL, 5 x 3, 10 rows x 12 pixels. Rows run through the whole batch; where a picture ends inside a tile
// the window is cut there. Halos come by the copy engine, whose zeros are the border left and right.
template <bool TALL>
struct Tile {
  static constexpr int ALONG = TALL ? 3 : 5, DOWN = TALL ? 5 : 3, WIDTH = ALONG * 4, HEIGHT = DOWN * 2, PITCH = WIDTH + 2;
  static constexpr int HALO = PITCH * (HEIGHT + 2) * 128, HALO_SLOT = (HALO + 1023) / 1024 * 1024;
};

// PRODUCERS warpgroups make the depthwise sums into the A slots, two warpgroups multiply, one thread loads weights. A
// cluster of SHARING blocks has SHARING column tiles of the same pixels: each makes every SHARING-th step of A and copies
// it to the others.
template <bool TALL, int COLUMNS, int PRODUCERS, int SLOTS, int HALOS, int SHARING>
__global__ void __launch_bounds__((3 + PRODUCERS) * 128, 1) separable(const __grid_constant__ Product p) {
  using T = Tile<TALL>;
  constexpr int THREADS = (3 + PRODUCERS) * 128, A_BYTES = 128 * 128, B_BYTES = COLUMNS * 128;
  static_assert(HALOS % PRODUCERS == 0, "every producer has slots of its own");
  extern __shared__ __align__(1024) uint8 memory[];
  const uint32 base = (shared_address(memory) + 1023) & ~1023u;
  const uint32 a_slots = base, b_slots = a_slots + SLOTS * A_BYTES, halos = b_slots + SLOTS * B_BYTES;
  const uint32 zeros = halos + HALOS * T::HALO_SLOT, bias = zeros + 768, full = bias + 4096;
  const uint32 empty = full + SLOTS * 8, halo_full = empty + SLOTS * 8;
  const int thread = threadIdx.x, group = thread >> 7, lane = thread & 31;
  if (thread == 0) {
    for (int i = 0; i < SLOTS; i++) barrier_init(full + i * 8, 2), barrier_init(empty + i * 8, 8 * SHARING);
    for (int i = 0; i < HALOS; i++) barrier_init(halo_full + i * 8, 1);
    barriers_are_ready();
  }
  if (thread < 48) to_shared16(zeros + thread * 16, make_uint4(0, 0, 0, 0));
  bias_to_shared(p, bias, p.column_tiles * SHARING * COLUMNS, THREADS);
  if (SHARING > 1) cluster_sync();
  else __syncthreads();
  let_later_kernels_start();
  const int rank = SHARING > 1 ? cluster_rank() : 0, first = blockIdx.x / SHARING, stride = gridDim.x / SHARING;
  const int tiles = p.row_tiles * p.column_tiles, steps = p.steps;
  if (group == 2 + PRODUCERS) {
    fewer_registers<PRODUCERS == 1 ? 40 : 24>();
    if (thread == (2 + PRODUCERS) * 128) {
      int slot = 0, parity = 1, turn = 0;
      for (int tile = first; tile < tiles; tile += stride) {
        const int column_tile = (tile - quotient(tile, p.of_tile) * p.column_tiles) * SHARING + rank;
        const uint8* weights = p.weights + (long long)column_tile * steps * B_BYTES;
        for (int step = 0; step < steps; step++, turn++) {
          if (turn >= SLOTS) wait(empty + slot * 8, parity);
          const bool own = SHARING == 1 || step % SHARING == rank;
          arrive_expecting(full + slot * 8, B_BYTES + (own ? 0 : A_BYTES));
          bulk_copy(b_slots + slot * B_BYTES, weights + (long long)step * B_BYTES, B_BYTES, full + slot * 8);
          if (!own) arrive(full + slot * 8);
          if (++slot == SLOTS) slot = 0, parity ^= 1;
        }
      }
    }
  } else if (group >= 2) {
    more_registers<PRODUCERS == 1 ? 152 : 120>();
    const int mine = group - 2, t = thread & 127, chunk = t & 7, piece = t >> 3;
    const int real_piece = piece > 14 ? 14 : piece, piece_y = real_piece / T::ALONG, piece_x = real_piece % T::ALONG;
    // where the halo that is asked for next lies
    int next_tile = first, next_step = rank, next_slot = 0, next_x = 0, next_y = 0;
    auto next_place = [&]() {
      const int row_tile = quotient(next_tile, p.of_tile), y = quotient(row_tile, p.of_strip);
      next_x = (row_tile - y * p.of_strip.divisor) * T::WIDTH - 1, next_y = y * T::HEIGHT - 1;
    };
    auto advance = [&]() {
      if (++next_slot == HALOS) next_slot = 0;
      next_step += SHARING;
      if (next_step >= steps) next_step = rank, next_tile += stride, next_place();
    };
    auto ask = [&]() {
      arrive_expecting(halo_full + next_slot * 8, T::HALO);
      load_tile(halos + next_slot * T::HALO_SLOT, p.map, next_step * 64, next_x, next_y, halo_full + next_slot * 8);
#pragma unroll
      for (int i = 0; i < PRODUCERS; i++) advance();
    };
    wait_for_earlier_kernels();
    if (t == 0) {
      next_place();
      for (int i = 0; i < mine; i++) advance();
      for (int i = mine; i < HALOS && next_tile < tiles; i += PRODUCERS) ask();
    }
    int turn = 0, slot = 0, parity = 1, halo = 0, halo_parity = 0;
    for (int tile = first; tile < tiles; tile += stride) {
      const int row_tile = quotient(tile, p.of_tile), strip_y = quotient(row_tile, p.of_strip);
      const int row = strip_y * T::HEIGHT + piece_y * 2, height = p.of_height.divisor;
      const int y = row - quotient(row, p.of_height) * height, below = y + 1 == height ? 0 : y + 1;
      const bool has_above = y != 0, joined = y != height - 1, has_below = below != height - 1;
      const half_t* weights = p.depthwise_weights + chunk * 8;
      for (int step = 0; step < steps; step++, turn++) {
        const uint32 ready = full + slot * 8, freed = empty + slot * 8;
        const uint32 to = a_slots + slot * A_BYTES + piece * 8 * 128;
        const int slot_parity = parity, my_slot = slot;
        if (++slot == SLOTS) slot = 0, parity ^= 1;
        const bool own = SHARING == 1 || step % SHARING == rank;
        const bool my_turn = PRODUCERS == 1 || turn / SHARING % PRODUCERS == mine;
        const uint32 halo_at = halos + halo * T::HALO_SLOT, halo_ready = halo_full + halo * 8;
        const int my_halo_parity = halo_parity;
        if (own && ++halo == HALOS) halo = 0, halo_parity ^= 1;
        if (!own || !my_turn) {
          if (SLOTS % (PRODUCERS * SHARING) != 0 && turn >= SLOTS) wait(freed, slot_parity);
          continue;
        }
        uint4 w[9];
#pragma unroll
        for (int k = 0; k < 9; k++) w[k] = *(const uint4*)(weights + k * p.depthwise_stride + step * 64);
        const uint4 start = *(const uint4*)(p.depthwise_bias + chunk * 8 + step * 64);
        wait(halo_ready, my_halo_parity);
        const uint32 line = halo_at + (piece_y * 2 * T::PITCH + piece_x * 4) * 128 + chunk * 16;
        const uint32 above = has_above ? line : zeros + chunk * 16;
        const uint32 under = has_below ? line + 3 * T::PITCH * 128 : zeros + chunk * 16;
        uint4 a[4], b[4], v[6];
#pragma unroll
        for (int i = 0; i < 6; i++) v[i] = shared16(above + i * 128);
#pragma unroll
        for (int i = 0; i < 4; i++) {
          a[i] = b[i] = start;
          multiply_add(a[i], w[0], v[i]), multiply_add(a[i], w[1], v[i + 1]), multiply_add(a[i], w[2], v[i + 2]);
        }
#pragma unroll
        for (int i = 0; i < 6; i++) v[i] = shared16(line + (T::PITCH + i) * 128);
#pragma unroll
        for (int i = 0; i < 4; i++)
          multiply_add(a[i], w[3], v[i]), multiply_add(a[i], w[4], v[i + 1]), multiply_add(a[i], w[5], v[i + 2]);
        if (joined) {
#pragma unroll
          for (int i = 0; i < 4; i++)
            multiply_add(b[i], w[0], v[i]), multiply_add(b[i], w[1], v[i + 1]), multiply_add(b[i], w[2], v[i + 2]);
        }
#pragma unroll
        for (int i = 0; i < 6; i++) v[i] = shared16(line + (2 * T::PITCH + i) * 128);
        if (joined) {
#pragma unroll
          for (int i = 0; i < 4; i++)
            multiply_add(a[i], w[6], v[i]), multiply_add(a[i], w[7], v[i + 1]), multiply_add(a[i], w[8], v[i + 2]);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
          a[i] = limited(a[i], p.depthwise_low, p.depthwise_high);
          multiply_add(b[i], w[3], v[i]), multiply_add(b[i], w[4], v[i + 1]), multiply_add(b[i], w[5], v[i + 2]);
        }
#pragma unroll
        for (int i = 0; i < 6; i++) v[i] = shared16(under + i * 128);
#pragma unroll
        for (int i = 0; i < 4; i++) {
          multiply_add(b[i], w[6], v[i]), multiply_add(b[i], w[7], v[i + 1]), multiply_add(b[i], w[8], v[i + 2]);
          b[i] = limited(b[i], p.depthwise_low, p.depthwise_high);
        }
        if (turn >= SLOTS) wait(freed, slot_parity);
#pragma unroll
        for (int i = 0; i < 4; i++) {
          to_shared16(to + i * 128 + ((chunk ^ i) << 4), a[i]);
          to_shared16(to + (4 + i) * 128 + ((chunk ^ (4 + i)) << 4), b[i]);
        }
        publish_stores();
        asm volatile("bar.sync %0, 128;" ::"r"(1 + mine) : "memory");  // all have read the halo and written A
        if (t == 0) {
          arrive(ready);
          if (SHARING > 1) {
#pragma unroll
            for (int other = 1; other < SHARING; other++)
              bulk_copy_to((rank + other) % SHARING, a_slots + my_slot * A_BYTES, A_BYTES, ready);
          }
          if (next_tile < tiles) ask();
        }
      }
    }
  } else {
    more_registers<PRODUCERS == 1 ? 160 : 104>();
    const int warp = (thread >> 5) & 3;
    int turn = 0;
    float sums[COLUMNS / 2];
    auto release = [&](int done) {
      const uint32 freed = empty + done % SLOTS * 8;
      if (SHARING == 1) {
        if (lane == 0) arrive(freed);
      } else if (lane < SHARING) {
        arrive_at(freed, lane);
      }
    };
    for (int tile = first; tile < tiles; tile += stride) {
      const int row_tile = quotient(tile, p.of_tile), column_tile = (tile - row_tile * p.column_tiles) * SHARING + rank;
      const int strip_y = quotient(row_tile, p.of_strip), strip_x = row_tile - strip_y * p.of_strip.divisor;
      for (int step = 0; step < steps; step++, turn++) {
        const int slot = turn % SLOTS;
        wait(full + slot * 8, (turn / SLOTS) & 1);
        add_products<COLUMNS>(sums, a_slots + slot * A_BYTES + group * 8192, b_slots + slot * B_BYTES, step == 0);
        if (step > 0) {
          products_wait<1>();
          release(turn - 1);
        }
      }
      products_wait<0>();
      release(turn - 1);
      Place at[2];
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int m = group * 64 + warp * 16 + (lane >> 2) + 8 * half, piece = m >> 3;
        const int row = strip_y * T::HEIGHT + piece / T::ALONG * 2 + ((m >> 2) & 1);
        const int x = strip_x * T::WIDTH + piece % T::ALONG * 4 + (m & 3);
        const bool inside = piece < 15 && row < p.rows && x < p.width;
        at[half] = place_of<true>(p, inside ? row * p.width + x : 0, inside);
      }
      store_tile<COLUMNS, true>(p, sums, bias + column_tile * COLUMNS * 4, at, column_tile * COLUMNS);
    }
  }
  __syncwarp();
  if (SHARING > 1) cluster_leave();
}

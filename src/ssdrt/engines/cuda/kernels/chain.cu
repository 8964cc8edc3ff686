// A depthwise 3x3 of stride 1, a 1x1 and a depthwise 3x3 of stride 2 as one kernel for sm_90a. A block walks down strips of
// pictures; what lies between the three stays in rings of shared memory, and no row is made twice but where blocks meet.
#include "walk.cuh"

struct Chain {
  TensorMap map;         // of the source: (channels, width, height, pictures)
  const uint4* weights;  // of the 1x1: [128 of the target][64 of these][16 of the source][thread], as registers hold them
  const float* bias;
  const half_t *first_weights, *first_bias, *last_weights, *last_bias;  // [9][128 * SHARING], [128 * SHARING]
  half_t* target;
  long long target_image;
  int lines, height, width, target_height, target_width, target_stride, columns;  // lines: rows of all strips of the target
  int pad_y, pad_x, across;                                                       // across: pixels of a strip of the target
  uint32 first_high, high, last_high;                                             // upper limits, twice each; the lower is 0
  Divider of_height, of_strip;                                                    // rows of a strip; strips of a picture
};

// Rows of one strip that a block makes one after the other, and what it needs for them.
struct Run {
  int picture, x, y, count;  // of the target
  int left, low, high;       // of the 1x1: the first column, the first and the last row, both inside
};

DEVICE Run run_at(const Chain& p, int line, int end) {
  Run run;
  const int strip = quotient(line, p.of_height);
  run.picture = quotient(strip, p.of_strip);
  run.x = (strip - run.picture * p.of_strip.divisor) * p.across;
  run.y = line - strip * p.target_height;
  run.count = min(p.target_height - run.y, end - line);
  run.left = 2 * run.x - p.pad_x;
  run.low = max(2 * run.y - p.pad_y, 0);
  run.high = min(2 * (run.y + run.count) - p.pad_y, p.height - 1);
  return run;
}

// Where 8 bytes of a pixel lie in what is behind the 1x1: 16 bytes at a time are swapped by the piece that the pixel is in.
DEVICE uint32 place_in(int piece, int lane) { return (((lane >> 1) ^ (piece & 7)) << 4) + (lane & 1) * 8; }

// 128 channels a block: groups 0 and 1 multiply, 2 and 3 make the first depthwise sums, 4 the last, a thread of 5 loads. WIDTH
// columns and ROWS rows of the 1x1 are a step, 80 pixels, and its matrices stand on their sides: channels are the rows, so the
// weights stay in registers. A cluster of SHARING blocks has as many 128s of channels; each makes the first depthwise sums of
// its own and copies them to the other. INS, MIDDLES, OUTS: rows of the source, steps before and behind the 1x1 in rings.
template <int WIDTH, int ROWS, int SHARING, int INS, int MIDDLES, int OUTS>
__global__ void __launch_bounds__(768, 1) chain(const __grid_constant__ Chain p) {
  constexpr int PIXELS = WIDTH * ROWS, HALF = PIXELS * 128, PART = 2 * HALF, STEPS = 8 * SHARING, ALONG = WIDTH / 8;
  constexpr int IN_BYTES = (WIDTH + 2) * 256, MIDDLE_BYTES = SHARING * PART, OUT_BYTES = PIXELS * 256;
  extern __shared__ __align__(1024) uint8 memory[];
  const uint32 middles = (shared_address(memory) + 1023) & ~1023u, outs = middles + MIDDLES * MIDDLE_BYTES;
  const uint32 ins = outs + OUTS * OUT_BYTES, in_full = ins + INS * IN_BYTES, in_empty = in_full + INS * 8;
  const uint32 middle_full = in_empty + INS * 8, middle_empty = middle_full + MIDDLES * 8;
  const uint32 out_full = middle_empty + MIDDLES * 8, out_empty = out_full + OUTS * 8;
  const int group = threadIdx.x >> 7, lane = threadIdx.x & 31, warp = (threadIdx.x >> 5) & 3;
  if (threadIdx.x == 0) {
    for (int i = 0; i < INS; i++) barrier_init(in_full + i * 8, 1), barrier_init(in_empty + i * 8, 8);
    for (int i = 0; i < MIDDLES; i++) {
      barrier_init(middle_full + i * 8, SHARING == 1 ? 8 : 1);
      barrier_init(middle_empty + i * 8, 8 * SHARING);
    }
    for (int i = 0; i < OUTS; i++) barrier_init(out_full + i * 8, 8), barrier_init(out_empty + i * 8, 4);
    barriers_are_ready();
  }
  if (SHARING > 1) cluster_sync();
  else __syncthreads();
  let_later_kernels_start();
  const int rank = SHARING > 1 ? cluster_rank() : 0, mine = blockIdx.x / SHARING, clusters = gridDim.x / SHARING;
  const int begin = (int)((long long)p.lines * mine / clusters), end = (int)((long long)p.lines * (mine + 1) / clusters);
  if (group < 2) {
    more_registers<SHARING == 1 ? 104 : 136>();
    uint32 weights[STEPS][4];
#pragma unroll
    for (int k = 0; k < STEPS; k++) {
      const uint4 four = p.weights[((rank * 2 + group) * STEPS + k) * 128 + (threadIdx.x & 127)];
      weights[k][0] = four.x, weights[k][1] = four.y, weights[k][2] = four.z, weights[k][3] = four.w;
    }
    const float* bias = p.bias + rank * 128 + group * 64 + warp * 16 + (lane >> 2);
    const float bias0 = bias[0], bias1 = bias[8];
    const int chunk = group * 8 + warp * 2 + ((lane >> 3) & 1);
    // A row of the matrix that a lane stores is one of eight pixels that lie ALONG apart; the upper lanes have the next one.
    const uint32 above = lane >> 4, place = kept(outs + (lane & 7) * ALONG * 256 + ((chunk ^ (lane & 7)) << 4) + above * 256);
    Turn<MIDDLES> middle = {0, 0};
    Turn<OUTS> out = {0, 1};
    for (int line = begin; line < end;) {
      const Run run = run_at(p, line, end);
      line += run.count;
      uint32 highs[ALONG];  // 0 for columns beside the picture: they are the next window's border
#pragma unroll
      for (int j = 0; j < ALONG; j++) {
        const int x = run.left + 2 * (lane & 3) * ALONG + j;
        const uint32 low = (uint32)x < (uint32)p.width ? p.high & 0xffffu : 0, high = (uint32)(x + ALONG) < (uint32)p.width ? p.high : 0;
        highs[j] = kept(low | (high & 0xffff0000u));
      }
      for (int row = run.low; row <= run.high; row += ROWS) {
        wait(middle_full + middle.slot * 8, middle.parity);
        float sums[PIXELS / 2];
        products_begin();
        const uint64 pixels = operand(middles + middle.slot * MIDDLE_BYTES);
#pragma unroll
        for (int k = 0; k < STEPS; k++)
          wgmma_of_registers<PIXELS>(sums, weights[k], pixels + k / 4 * (HALF / 16) + k % 4 * 2, k > 0);
        products_end();
        products_wait<0>();
        if (SHARING == 1) {
          if (lane == 0) arrive(middle_empty + middle.slot * 8);
        } else if (lane < SHARING) {
          arrive_at(middle_empty + middle.slot * 8, lane);
        }
        middle.advance();
        wait(out_empty + out.slot * 8, out.parity);
        const uint32 to = place + out.slot * OUT_BYTES;
#pragma unroll
        for (int pair = 0; pair < PIXELS / 16; pair++) {
          const int one = pair * 2, other = one + 1;
          uint32 words[4];
#pragma unroll
          for (int i = 0; i < 2; i++) {
            const int block = one + i;
            words[2 * i] = at_most(positive_pack(sums[block * 4] + bias0, sums[block * 4 + 1] + bias0), highs[block % ALONG]);
            words[2 * i + 1] = at_most(positive_pack(sums[block * 4 + 2] + bias1, sums[block * 4 + 3] + bias1), highs[block % ALONG]);
          }
          const int first = (one / ALONG * WIDTH + one % ALONG) * 256, second = (other / ALONG * WIDTH + other % ALONG) * 256;
          store_turned(to + above * (second - first - 256) + first, words[0], words[1], words[2], words[3]);
        }
        __syncwarp();
        if (lane == 0) arrive(out_full + out.slot * 8);
        out.advance();
      }
    }
  } else if (group < 4) {
    if constexpr (SHARING == 1) more_registers<88>();
    else fewer_registers<64>();
    const int t = threadIdx.x - 256, piece = t >> 5;
    uint2 w[9];
#pragma unroll
    for (int k = 0; k < 9; k++) w[k] = *(const uint2*)(p.first_weights + (k * SHARING + rank) * 128 + lane * 4);
    const uint2 start = *(const uint2*)(p.first_bias + rank * 128 + lane * 4);
    // Pixel j of a piece is row j * 8 + piece of the products' operand: neighbours in a thread are 1024 bytes apart.
    const uint32 inside = piece * 128 + ((((lane >> 1) & 7) ^ piece) << 4) + (lane & 1) * 8;
    const uint32 place = kept(middles + (lane >> 4) * HALF + rank * PART + inside), source = kept(ins + piece * ALONG * 256 + lane * 8);
    Turn<INS> in = {0, 0};
    Turn<MIDDLES> middle = {0, 1};
    uint2 older[ALONG], newer[ALONG];  // sums of the row above the one that is read, and of this one
#pragma unroll
    for (int j = 0; j < ALONG; j++) older[j] = newer[j] = start;
    for (int line = begin; line < end;) {
      const Run run = run_at(p, line, end);
      line += run.count;
      const int rows = run.high - run.low + 1;
      for (int row = -2; row < rows; row++) {  // the one that is complete with what is read
        const bool ready = row >= 0;
        const int part = ROWS == 1 ? 0 : row & (ROWS - 1);
        if (ready && part == 0) wait(middle_empty + middle.slot * 8, middle.parity);
        wait(in_full + in.slot * 8, in.parity);
        const uint32 from = source + in.slot * IN_BYTES, to = place + middle.slot * MIDDLE_BYTES + part * WIDTH * 128;
        uint2 a = shared8(from), b = shared8(from + 256), c = shared8(from + 512);
#pragma unroll
        for (int j = 0; j < ALONG; j++) {
          const uint2 next = j + 1 < ALONG ? shared8(from + (j + 3) * 256) : c;
          const uint2 done = ended(w[8], c, multiply_add(w[7], b, multiply_add(w[6], a, older[j])), p.first_high);
          older[j] = multiply_add(w[5], c, multiply_add(w[4], b, multiply_add(w[3], a, newer[j])));
          newer[j] = multiply_add(w[2], c, multiply_add(w[1], b, multiply_add(w[0], a, start)));
          if (ready) to_shared8(to + j * 1024, done);
          a = b, b = c, c = next;
        }
        __syncwarp();
        if (lane == 0) arrive(in_empty + in.slot * 8);
        in.advance();
        if (ready && (part == ROWS - 1 || row == rows - 1)) {
          publish_stores();
          if (SHARING == 1) {
            __syncwarp();
            if (lane == 0) arrive(middle_full + middle.slot * 8);
          } else {
            asm volatile("bar.sync 1, 256;" ::: "memory");
            if (t == 0) {
              arrive_expecting(middle_full + middle.slot * 8, PART);
              bulk_copy_to(1 - rank, middles + middle.slot * MIDDLE_BYTES + rank * PART, PART, middle_full + middle.slot * 8);
            }
          }
          middle.advance();
        }
      }
    }
  } else if (group == 4) {
    fewer_registers<SHARING == 1 ? 72 : 56>();
    const int first_x = warp * ALONG;  // two pieces of the 1x1, and one pixel of the next
    uint2 w[9];
#pragma unroll
    for (int k = 0; k < 9; k++) w[k] = *(const uint2*)(p.last_weights + (k * SHARING + rank) * 128 + lane * 4);
    const uint2 start = *(const uint2*)(p.last_bias + rank * 128 + lane * 4);
    const int channel = rank * 128 + lane * 4;
    const uint32 source = outs + 2 * first_x * 256;
    const uint32 places[3] = {kept(place_in(2 * warp, lane)), kept(place_in(2 * warp + 1, lane)), kept(place_in(2 * warp + 2, lane))};
    Turn<OUTS> out = {0, 0};
    uint2 sums[ALONG];
#pragma unroll
    for (int j = 0; j < ALONG; j++) sums[j] = start;
    for (int line = begin; line < end;) {
      const Run run = run_at(p, line, end);
      line += run.count;
      const int x = run.x + first_x, last = channel < p.columns ? min(p.across - first_x, p.target_width - x) : 0;
      half_t* target = p.target + run.picture * p.target_image + channel + (long long)(run.y * p.target_width + x) * p.target_stride;
      int row = 2 * run.y - p.pad_y;
      uint32 from = 0;
      auto begin_row = [&]() {
        const int part = ROWS == 1 ? 0 : (row - run.low) & (ROWS - 1);
        if (part == 0) wait(out_full + out.slot * 8, out.parity);
        from = source + out.slot * OUT_BYTES + part * WIDTH * 256;
      };
      auto end_row = [&]() {
        if (ROWS == 1 || ((row - run.low) & (ROWS - 1)) == ROWS - 1 || row == run.high) {
          __syncwarp();
          if (lane == 0) arrive(out_empty + out.slot * 8);
          out.advance();
        }
      };
      auto at = [&](int i) { return shared8(from + places[i / ALONG] + i * 256); };
      for (int y = 0;; y++) {
        // the last row of one window, the first of the next
        const bool inside = row >= 0 && row < p.height;
        if (inside) begin_row();
        uint2 a = make_uint2(0, 0), b = a, c = a;
        half_t* to = target;
        if (inside) a = at(0);
#pragma unroll
        for (int j = 0; j < ALONG; j++) {
          if (inside) b = at(2 * j + 1), c = at(2 * j + 2);
          const uint2 done = ended(w[8], c, multiply_add(w[7], b, multiply_add(w[6], a, sums[j])), p.last_high);
          sums[j] = multiply_add(w[2], c, multiply_add(w[1], b, multiply_add(w[0], a, start)));
          a = c;
          if (y > 0 && j < last) *(uint2*)to = done;
          to += p.target_stride;
        }
        if (inside) end_row();
        if (y > 0) target += (long long)p.target_width * p.target_stride;
        if (y == run.count) break;
        row++;  // the one between them, which is inside
        begin_row();
        a = at(0);
#pragma unroll
        for (int j = 0; j < ALONG; j++) {
          b = at(2 * j + 1), c = at(2 * j + 2);
          sums[j] = multiply_add(w[5], c, multiply_add(w[4], b, multiply_add(w[3], a, sums[j])));
          a = c;
        }
        end_row();
        row++;
      }
    }
  } else {
    fewer_registers<24>();
    Turn<INS> in = {0, 1};
    wait_for_earlier_kernels();
    for (int line = begin; line < end && threadIdx.x == 640;) {
      const Run run = run_at(p, line, end);
      line += run.count;
      for (int row = run.low - 1; row <= run.high + 1; row++) {
        wait(in_empty + in.slot * 8, in.parity);
        arrive_expecting(in_full + in.slot * 8, IN_BYTES);
        load_tile(ins + in.slot * IN_BYTES, p.map, rank * 128, run.left - 1, row, run.picture, in_full + in.slot * 8);
        in.advance();
      }
    }
  }
  __syncwarp();
  if (SHARING > 1) cluster_leave();
}

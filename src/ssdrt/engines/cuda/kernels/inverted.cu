// An inverted residual of MobileNet v2 in one kernel: a 1x1 that widens and relu6, a depthwise 3x3 of stride 1 or 2 and
// relu6, a 1x1 that narrows, and the sum with what came in; or both with relu (MobileNet v3). Nothing of the wide maps
// leaves the registers.
//
// The warps of a block walk down one strip together, a row of the wide map at a time, each with its 48 of the hidden
// channels. A group of four threads has EACH neighbouring pixels, a thread of them two channels in every 8: what one
// product leaves in a thread is what the next one takes there, and of a depthwise window only the pixels of the two
// neighbouring groups are not the thread's own. Rows of a window are sums that wait for the rows to come. The warps'
// shares of a sum meet in shared memory, in fp32.
//
// Between the products numbers are a sixth of the network's: relu6 is then what saturating instructions do. What the
// first product makes is 64 times that; a factor of zero makes the border. With relu all are as they are.
#include "inverted.cuh"

struct Inverted {
  const half_t* source;
  const uint4* weights;  // `Weights`, as they lie in shared memory
  half_t* target;
  long long source_image, target_image;
  int height, width, target_height, target_width, source_stride, target_stride;
  int chunks, columns;  // eights of channels of the source; channels stored
  int pad_y, pad_x;
  int down;                     // rows of a piece of the target
  Divider of_picture, of_row;   // pieces of strips of a picture; strips
};

constexpr int TILES = 6;  // eights of hidden channels of a warp
constexpr uint32 ONE = 0x3c003c00u, SIXTY_FOURTH = 0x24002400u;

template <int STEPS, int WARPS>
struct Weights {
  uint4 depthwise[WARPS * TILES][4][3];    // of a lane's channels and a row of the window: three weights; start, bias, bias
  uint4 project[WARPS * TILES / 2][2][32]; // of a lane: two tiles of columns
  uint4 expand[WARPS * TILES][16 * STEPS]; // of a lane: STEPS steps of K
  uint4 bias[8];                           // of the columns, fp32
};

// Blocks of a multiprocessor.
DEVICE constexpr int resident(int stride, int warps) { return (stride == 2 ? 16 : 12) / warps; }

// The end of a sum: relu6 of sixths, or relu.
template <bool SIX>
DEVICE uint32 ended(uint32 a, uint32 b, uint32 c) {
  return SIX ? multiply_add_saturated(a, b, c) : positive_multiply_add(a, b, c);
}

// STEPS: of K, 16 channels of the source each; SIXTEENS: of a strip's pixels of the wide map; ADD: the source, too; SIX: relu6
template <int STEPS, int WARPS, int STRIDE, int SIXTEENS, bool ADD, bool SIX>
__global__ void __launch_bounds__(WARPS * 32, resident(STRIDE, WARPS)) inverted(const __grid_constant__ Inverted p) {
  using Held = Weights<STEPS, WARPS>;
  constexpr int EACH = 2 * SIXTEENS, MADE = EACH / STRIDE;  // pixels of a thread, of the wide map and of the target
  constexpr int ACROSS = STRIDE == 2 ? 8 * SIXTEENS - 1 : 16 * SIXTEENS - 2;  // pixels of a strip of the target
  constexpr int PIXEL = 32 * STEPS, ROW = 16 * SIXTEENS * PIXEL, RING = ADD ? 5 : 3;  // bytes; rows at hand
  constexpr int PRODUCTS = MADE / 2, COPIES = 32 * SIXTEENS * STEPS;
  static_assert(MADE % 2 == 0 && TILES % 2 == 0);
  extern __shared__ __align__(128) uint8 memory[];
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31, g = lane >> 2, t = lane & 3;
  const uint32 start = shared_address(memory);
  for (int i = thread; i < (int)sizeof(Held) / 16; i += WARPS * 32) to_shared16(start + 16 * i, p.weights[i]);
  let_later_kernels_start();
  const uint32 windows = start + (warp * TILES * 4 + t) * 48;
  const uint32 projects = start + sizeof(Held::depthwise) + (warp * TILES / 2 * 64 + lane) * 16;
  const uint32 expands = start + sizeof(Held::depthwise) + sizeof(Held::project) + (warp * TILES * 32 + lane) * 8 * STEPS;
  const uint32 biases = start + sizeof(Held) - sizeof(Held::bias) + 32 * t;
  const uint32 ring = start + sizeof(Held), meeting = ring + RING * ROW;

  const int unit = blockIdx.x;
  const int image = quotient(unit, p.of_picture), rest = unit - image * p.of_picture.divisor;
  const int piece = quotient(rest, p.of_row), strip = rest - piece * p.of_row.divisor;
  const int to_y = piece * p.down, rows = min(p.down, p.target_height - to_y);
  const int x0 = STRIDE == 2 ? 2 * strip * ACROSS - p.pad_x : strip * ACROSS - 1;  // of the wide map
  const int y0 = STRIDE * to_y - p.pad_y;
  const int wide_rows = STRIDE == 2 ? 2 * rows + 1 : rows + 2;
  const half_t* source = p.source + image * p.source_image;

  // Where chunk c (16 bytes) of pixel i of group `of` lies in a row: eight groups' are read at once, from different banks.
  auto place = [&](int of, int i, int c) {
    return (uint32)((i * 8 + of) * PIXEL + 16 * (c ^ (of >> (STEPS == 2 ? 1 : 2)) & (2 * STEPS - 1)));
  };

  // Row r of the strip. What is beyond a border may be anything.
  auto bring = [&](int r) {
    if (r < wide_rows) {
      const int y = min(max(y0 + r, 0), p.height - 1);
      const half_t* row = source + (long long)(y * p.width) * p.source_stride;
#pragma unroll
      for (int copy = 0; copy < (COPIES + WARPS * 32 - 1) / (WARPS * 32); copy++) {
        const int i = copy * WARPS * 32 + thread, pixel = i / (2 * STEPS), chunk = i % (2 * STEPS);
        const int x = min(max(x0 + pixel, 0), p.width - 1);
        if (COPIES % (WARPS * 32) == 0 || i < COPIES)
          copy16(ring + r % RING * ROW + place(pixel / EACH, pixel % EACH, chunk), row + x * p.source_stride + 8 * chunk, chunk < p.chunks);
      }
    }
    end_of_group();
  };

  uint32 inside = 0;  // a bit of each of the thread's pixels
#pragma unroll
  for (int i = 0; i < EACH; i++) inside |= (uint32)((uint32)(x0 + EACH * g + i) < (uint32)p.width) << i;

  // Depthwise rows that have had two rows of their window, and one; of stride 2 there is only `near`.
  uint32 near[TILES][MADE], far[TILES][MADE];
  float sums[PRODUCTS][4][4];

  // Row r of the wide map joins the depthwise rows around it. `ends`: one of them is complete, and multiplied.
  auto advance = [&](int r, bool ends) {
    const uint32 now_inside = (uint32)(y0 + r) < (uint32)p.height ? inside : 0u;
    uint32 a[SIXTEENS][STEPS][4], factor[EACH];
#pragma unroll
    for (int m = 0; m < SIXTEENS; m++)
#pragma unroll
      for (int step = 0; step < STEPS; step++)  // of a lane: the address of one of 8 groups' pixel 2 m or 2 m + 1, and half a step
        load_matrices(a[m][step], ring + r % RING * ROW + place(lane & 7, 2 * m + (lane >> 3 & 1), 2 * step + (lane >> 4)));
#pragma unroll
    for (int i = 0; i < EACH; i++) factor[i] = now_inside >> i & 1 ? SIX ? SIXTY_FOURTH : ONE : 0u;
    if (ends) {
#pragma unroll
      for (int m = 0; m < PRODUCTS; m++)
#pragma unroll
        for (int n = 0; n < 4; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) sums[m][n][e] = 0.f;
    }
#pragma unroll
    for (int pair = 0; pair < TILES; pair += 2) {
      uint32 done[2][MADE], d[2][SIXTEENS][2];
      uint4 w1[2];
#pragma unroll
      for (int e = 0; e < 2; e++) {  // two tiles at once: a product waits for the one before it
        w1[e] = shared16(windows + (pair + e) * 192 + 16);
        uint4 b;
        if (STEPS == 2) {
          b = shared16(expands + (pair + e) * 512);
        } else {
          const uint2 half = shared8(expands + (pair + e) * 256);
          b.x = half.x, b.y = half.y;
        }
#pragma unroll
        for (int m = 0; m < SIXTEENS; m++) {
          product(d[e][m], a[m][0], b.x, b.y, w1[e].w, w1[e].w);
          if (STEPS == 2) product(d[e][m], a[m][STEPS - 1], b.z, b.w, d[e][m][0], d[e][m][1]);
        }
      }
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const int j = pair + e;
        uint32 v[EACH + 2];  // with the pixels beside them
#pragma unroll
        for (int i = 0; i < EACH; i++) v[i + 1] = ended<SIX>(d[e][i / 2][i % 2], factor[i], 0u);
        v[EACH + 1] = from_behind(v[1], 4);
        if (STRIDE == 1) v[0] = from_before(v[EACH], 4);
        // Of row `w` of the window: what is added to `sum`, less the last product
        auto window = [&](int i, const uint4& w, uint32 sum) {
          const int at = STRIDE == 2 ? 2 * i + 1 : i;
          return multiply_add(w.y, v[at + 1], multiply_add(w.x, v[at], sum));
        };
        auto last = [&](int i) { return v[STRIDE == 2 ? 2 * i + 3 : i + 2]; };
        if (STRIDE == 1) {
          const uint4 w0 = shared16(windows + j * 192), w2 = shared16(windows + j * 192 + 32);
#pragma unroll
          for (int i = 0; i < MADE; i++) {
            done[e][i] = ended<SIX>(w2.z, last(i), window(i, w2, near[j][i]));
            near[j][i] = multiply_add(w1[e].z, last(i), window(i, w1[e], far[j][i]));
            far[j][i] = multiply_add(w0.z, last(i), window(i, w0, w0.w));
          }
        } else if (ends) {
          const uint4 w0 = shared16(windows + j * 192), w2 = shared16(windows + j * 192 + 32);
#pragma unroll
          for (int i = 0; i < MADE; i++) {
            done[e][i] = ended<SIX>(w2.z, last(i), window(i, w2, near[j][i]));
            near[j][i] = multiply_add(w0.z, last(i), window(i, w0, w0.w));
          }
        } else {
#pragma unroll
          for (int i = 0; i < MADE; i++) near[j][i] = multiply_add(w1[e].z, last(i), window(i, w1[e], near[j][i]));
        }
      }
      if (ends) {
#pragma unroll
        for (int two = 0; two < 2; two++) {
          const uint4 b = shared16(projects + (pair + two) * 512);
#pragma unroll
          for (int m = 0; m < PRODUCTS; m++) {
            const uint32 pixels[4] = {done[0][2 * m], done[0][2 * m + 1], done[1][2 * m], done[1][2 * m + 1]};
            multiply(sums[m][2 * two], pixels, b.x, b.y);
            multiply(sums[m][2 * two + 1], pixels, b.z, b.w);
          }
        }
      }
    }
  };

  // Where the shares of a row meet: two rows in turns, so that one barrier a row is enough
  auto share = [&](int y, int of, int i) { return meeting + (((y & 1) * WARPS + of) * MADE + i) * 1024 + lane * 16; };

  auto hand_over = [&](int y) {
#pragma unroll
    for (int i = 0; i < MADE; i++)
#pragma unroll
      for (int two = 0; two < 2; two++) {
        const float *low = &sums[i / 2][2 * two][i % 2 * 2], *high = &sums[i / 2][2 * two + 1][i % 2 * 2];
        to_shared16(share(y, warp, i) + 512 * two, make_uint4(bits(low[0]), bits(low[1]), bits(high[0]), bits(high[1])));
      }
  };

  // Row y of the piece, whose shares are all there; `r` is the row of the wide map at its middle.
  auto store = [&](int y, int r) {
    for (int i = warp; i < MADE; i += WARPS) {
      float sum[8];
#pragma unroll
      for (int of = -1; of < WARPS; of++)
#pragma unroll
        for (int two = 0; two < 2; two++) {
          const uint4 v = shared16(of < 0 ? biases + 16 * two : share(y, of, i) + 512 * two);
          const float values[4] = {number(v.x), number(v.y), number(v.z), number(v.w)};
#pragma unroll
          for (int e = 0; e < 4; e++) sum[4 * two + e] = of < 0 ? values[e] : sum[4 * two + e] + values[e];
        }
      if (ADD) {
        float own[8];
        unpack(shared16(ring + r % RING * ROW + place(g, i, t)), own);
#pragma unroll
        for (int e = 0; e < 8; e++) sum[e] += own[e];
      }
#pragma unroll
      for (int e = 0; e < 8; e++) sum[e] = fminf(fmaxf(sum[e], -65504.f), 65504.f);
      const int at = MADE * g + i - (STRIDE == 1), x = strip * ACROSS + at;
      if ((uint32)at < (uint32)ACROSS && x < p.target_width && 8 * t < p.columns)
        store16(p.target + image * p.target_image + (long long)((to_y + y) * p.target_width + x) * p.target_stride + 8 * t, packed(sum));
    }
  };

#pragma unroll
  for (int j = 0; j < TILES; j++)
#pragma unroll
    for (int i = 0; i < MADE; i++) near[j][i] = far[j][i] = 0u;  // of rows that are not stored
  wait_for_earlier_kernels();
  bring(0);
  bring(1);
  wait_for_groups<1>();
  __syncthreads();
  for (int r = 0; r < wide_rows; r++) {
    bring(r + 2);
    const int y = STRIDE == 2 ? r / 2 - 1 : r - 2;
    if (STRIDE == 1 || r % 2 == 0) {
      advance(r, true);
      if (y >= 0) hand_over(y);
    } else {
      advance(r, false);
    }
    wait_for_groups<1>();
    __syncthreads();
    if ((STRIDE == 1 || r % 2 == 0) && y >= 0) store(y, r - 1);
  }
}

// How tiles of the matrix unit's sums end: bias, residual, activation, store. P: a struct with those fields of `Product`
// that say where.
#pragma once
#include "hopper.cuh"

// Where a pixel of the batch is stored, and what is added to it.
struct Place {
  half_t* target;
  const half_t* residual;
  bool inside;
};

template <bool PLAIN, class P>
DEVICE Place place_of(const P& p, int image, int pixel, bool inside) {
  Place at = {p.target + image * p.target_image + (long long)pixel * p.target_stride, nullptr, inside};
  if (!PLAIN && p.residual) {
    const int y = quotient(pixel, p.of_row), x = pixel - y * p.of_row.divisor;
    const int from = (y >> p.residual_shift) * p.residual_width + (x >> p.residual_shift);
    at.residual = p.residual + image * p.residual_image + (long long)from * p.residual_stride;
  }
  return at;
}

template <bool PLAIN, class P>
DEVICE Place place_of(const P& p, int pixel_of_batch, bool inside) {
  const int image = quotient(pixel_of_batch, p.of_image);
  return place_of<PLAIN>(p, image, pixel_of_batch - image * p.of_image.divisor, inside);
}

// Bias, residual, activation and store of one warp's 16 rows, two a thread. The bias lies in shared memory and serves
// both. PLAIN: no residual, no factor, and an activation that is only limits.
template <int COLUMNS, bool PLAIN, class P>
DEVICE void store_tile(const P& p, const float (&sums)[COLUMNS / 2], uint32 bias, const Place (&at)[2], int first_column) {
  const int quarter = (threadIdx.x & 3) * 8;
  const uint32 low = pack(p.finish.low, p.finish.low), high = pack(p.finish.high, p.finish.high);
#pragma unroll
  for (int group = 0; group < COLUMNS / 32; group++) {
    const int column = first_column + group * 32 + quarter;
    const uint4 b0 = shared16(bias + (group * 32 + quarter) * 4), b1 = shared16(bias + (group * 32 + quarter) * 4 + 16);
    const float biases[8] = {__uint_as_float(b0.x), __uint_as_float(b0.y), __uint_as_float(b0.z), __uint_as_float(b0.w),
                             __uint_as_float(b1.x), __uint_as_float(b1.y), __uint_as_float(b1.z), __uint_as_float(b1.w)};
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float values[8];
#pragma unroll
      for (int i = 0; i < 8; i++) values[i] = sums[(group * 4 + i / 2) * 4 + half * 2 + (i & 1)] + biases[i];
      if (!at[half].inside || column >= p.columns) continue;
      if (PLAIN) {
        store16(at[half].target + column, limited(packed(values), low, high));
      } else {
        if (p.residual) {
          float others[8];
          unpack(load16(at[half].residual + column), others);
#pragma unroll
          for (int i = 0; i < 8; i++) values[i] += others[i];
        }
        finish_all(values, p.finish);
        store16(at[half].target + column, packed(values));
      }
    }
  }
}

template <class P>
DEVICE void bias_to_shared(const P& p, uint32 to, int count, int threads) {
  for (int i = threadIdx.x; i < count / 4; i += threads) to_shared16(to + i * 16, *(const uint4*)(p.bias + i * 4));
}

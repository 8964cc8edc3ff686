// How 8 sums of a thread end: bias, residual, activation, one 16-byte store. P: a struct with those fields of `Convolution`
// that say where.
#pragma once
#include "common.cuh"

// Adds the residual to 8 neighbouring sums of one output pixel, finishes and stores them.
template <class P>
DEVICE void finish_sums(const P& p, float (&sums)[8], int pixel, int column) {
  const int image = quotient(pixel, p.of_image), place = pixel - image * p.of_image.divisor;
  if (p.residual) {
    const int y = quotient(place, p.of_row), x = place - y * p.of_row.divisor;
    const int from = (y >> p.residual_shift) * p.residual_width + (x >> p.residual_shift);
    float others[8];
    unpack(load16(p.residual + image * p.residual_image + (long long)from * p.residual_stride + column), others);
#pragma unroll
    for (int i = 0; i < 8; i++) sums[i] += others[i];
  }
  finish_all(sums, p.finish);
  store16(p.target + image * p.target_image + (long long)place * p.target_stride + column, packed(sums));
}

template <class P>
DEVICE void store_sums(const P& p, float (&sums)[8], int pixel, int column) {
  const float4 b0 = *(const float4*)(p.bias + column), b1 = *(const float4*)(p.bias + column + 4);
  const float bias[8] = {b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w};
#pragma unroll
  for (int i = 0; i < 8; i++) sums[i] += bias[i];
  finish_sums(p, sums, pixel, column);
}

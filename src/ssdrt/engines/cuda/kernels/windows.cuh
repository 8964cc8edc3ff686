// Windows of stride 2 over the 3 channels of a picture, as one product: what a row of a window sees is one piece of numbers.
#pragma once
#include "common.cuh"

// A warp's sums of two rows of 16 pixels. `mine`: the thread's first word of a patch of PITCH words a row, PAIRS of which a
// row of the window sees. `weights`: [step][pair of 8 columns][lane], in shared memory.
template <int ROWS, int PAIRS, int PITCH, int N>
DEVICE void sum_windows(float (&sums)[2][N][4], const uint32* mine, const uint4* weights) {
  constexpr int STEPS = (ROWS * PAIRS + 7) / 8;
  const int lane = threadIdx.x & 31, t = lane & 3;
#pragma unroll
  for (int m = 0; m < 2; m++)
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) sums[m][n][e] = 0.f;
#pragma unroll
  for (int step = 0; step < STEPS; step++) {
    const int q0 = step * 8 + t, q1 = q0 + 4;  // pairs of this thread; those behind the last row have no weights
    const int r0 = min(q0 / PAIRS, ROWS - 1), r1 = min(q1 / PAIRS, ROWS - 1);
    const int at0 = r0 * PITCH + q0 % PAIRS, at1 = r1 * PITCH + q1 % PAIRS;
    uint32 left[2][4];
#pragma unroll
    for (int m = 0; m < 2; m++) {
      const uint32* row = mine + m * 2 * PITCH;
      left[m][0] = row[at0], left[m][1] = row[at0 + 24], left[m][2] = row[at1], left[m][3] = row[at1 + 24];
    }
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      const uint4 w = weights[(step * (N / 2) + n / 2) * 32 + lane];
#pragma unroll
      for (int m = 0; m < 2; m++) {
        multiply(sums[m][n], left[m], w.x, w.y);
        multiply(sums[m][n + 1], left[m], w.z, w.w);
      }
    }
  }
}

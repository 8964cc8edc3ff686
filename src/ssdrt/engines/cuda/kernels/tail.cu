// From logits or scores and box codes to detections: TensorFlow's non-maximum suppression, exactly, with its order of ties.
//
// TensorFlow runs one greedy NMS a class and keeps the best of what they leave. A box is dropped only by a kept box of its
// own class that stands earlier in (score descending, anchor ascending). Walking all candidates in (score descending, class
// ascending, anchor ascending) visits every class in that order, so every decision is the same, and TensorFlow's stable
// merge by score gives the same sequence: the walk may stop when enough are kept.
//
// `collect` lists the candidates above the run-time thresholds, and counts them by score; `tail` sorts a list and decides
// 256 at a time. A list that overflowed is made again inside `tail`, the best portion first: the counts say where it ends.
#include "common.cuh"

struct Options {  // in memory of the GPU, so that a captured graph obeys new ones
  float iou_threshold, low_score, low_logit;  // no candidate is below low_score; no logit below low_logit makes one
  int max_per_class, max_total, unused[3];
};

struct Tail {
  const half_t* logits;
  const void* codes;         // half_t, or float with the roundings of `postprocess`
  const float* scores;       // (batch, anchors, classes), 32-byte aligned, where scores are at hand; else null
  const float4* anchors;     // centre y, centre x, height, width
  const float* thresholds;   // one a class
  const Options* options;
  const float4* windows;     // one a picture: ymin, xmin, ymax, xmax
  uint64* lists;
  int* counts;       // one a picture, and BINS by score: zero before `collect`, and `tail` leaves them so
  int* histograms;
  float* found;  // a picture: boxes (most, 4) yxyx, scores (most,), classes (most,); its last two numbers: count, status
  long long logits_image, codes_image;
  int anchor_count, classes, row, box_row;
  int most, found_size, clip, drop_zero_area, change_frame, unused;  // clip: 0 never, 1 before, 2 after
  float scales[4];
  Divider of_units, of_anchors;
};

constexpr int THREADS = 512;
constexpr int CAPACITY = 2048;  // candidates of a list
constexpr int PORTION = 1024;   // of a list that is made again
constexpr int BLOCK = 256;      // candidates decided at a time
constexpr int WORDS = BLOCK / 32;
constexpr int KEPT = 512;  // boxes that can suppress; more, and the picture is left to the host (status 1)
constexpr int BINS = 2048;
constexpr int HASHES = 128;
constexpr int SIGMOID = 0, IDENTITY = 1, SCORES = 2, NUMBERS = 3;  // logits; scores at hand, to 1 or to anything
constexpr int ABOVE = 1 << 30;                                     // in a count: a score lies above what SCORES may be
template <int SOURCE> constexpr bool AT_HAND = SOURCE >= SCORES;

DEVICE float exact_sigmoid(float x) { return __frcp_rn(__fadd_rn(1.f, expf(-x))); }

// Integers that sort as the numbers do.
DEVICE uint32 ordered(float score) {
  const uint32 bits = __float_as_uint(score);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// Sorts as (score, then the smaller `index` first).
DEVICE uint64 key_of(float score, uint32 index) { return ((uint64)ordered(score) << 32) | (0xffffffffu - index); }

DEVICE float score_of(uint64 key) {
  const uint32 ordered = (uint32)(key >> 32);
  return __uint_as_float(ordered >> 31 ? ordered & 0x7fffffffu : ~ordered);
}

// Keys from `base` on, in BINS bins of 2^shift keys.
struct Range {
  uint64 base;
  int shift;
};

// Of all candidates; the bins that `collect` counts.
template <int SOURCE>
DEVICE Range whole_range(const Options& options) {
  constexpr bool unlimited = SOURCE == IDENTITY || SOURCE == NUMBERS;
  const uint32 low = ordered(options.low_score), top = ordered(unlimited ? __int_as_float(0x7f800000) : 1.f);
  const uint32 above = top > low ? (top - low) / BINS : 0;
  return {(uint64)low << 32, 32 + (above ? 32 - __clz(above) : 0)};
}

struct Candidate {
  int anchor, kind;
};

template <bool AGNOSTIC>
DEVICE Candidate candidate_of(const Tail& p, uint64 key) {
  const uint32 index = 0xffffffffu - (uint32)key;
  if (AGNOSTIC) return {(int)(index >> 12), 4095 - (int)(index & 4095)};
  const int kind = quotient((int)index, p.of_anchors);
  return {(int)index - kind * p.anchor_count, kind};
}

// Calls use(key) for every candidate of the units first, first + stride, ... that is not below `low`, a logit or a score; a
// unit is 8 columns of an anchor, or 8 scores in a row, whose they may be (`of_units` divides by classes then), or,
// class-agnostic, all columns of an anchor, of which the best counts. AHEAD units (8 at most) are looked at at once; what
// may be a candidate is read again.
template <int SOURCE, bool AGNOSTIC, int AHEAD, class Use>
DEVICE void visit(const Tail& p, int image, int first, int stride, float low, Use use) {
  const int units_of_anchor = (p.classes + 7) / 8, pairs = p.anchor_count * p.classes;
  const half_t* logits = p.logits + image * p.logits_image;
  const float* scores = p.scores + (AT_HAND<SOURCE> ? (long long)image * pairs : 0);
  const int skipped = AT_HAND<SOURCE> ? (int)((uint64)scores >> 2 & 7) : 0;  // another picture's, of the first unit
  const int units = AT_HAND<SOURCE> ? (pairs + skipped + 7) / 8 : p.anchor_count * units_of_anchor;
  auto scored = [&](int anchor, int column) {
    if (SOURCE == NUMBERS) return scores[(long long)anchor * p.classes + column] + 0.f;  // -0 is as good as 0
    if (SOURCE == SCORES) return scores[(long long)anchor * p.classes + column];
    const float logit = to_float(logits[(long long)anchor * p.row + column]);
    return SOURCE == SIGMOID ? exact_sigmoid(logit) : logit;
  };
  auto in_a_row = [&](int unit) {  // one bit a score
    const float4* from = (const float4*)(scores - skipped) + 2 * unit;
    const float4 a = from[0], b = from[1];
    const float values[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
    const int start = 8 * unit - skipped;
    uint32 found = 0;
#pragma unroll
    for (int e = 0; e < 8; e++) found |= (uint32)(values[e] >= low) << e;
    if (start < 0) found &= ~0u << -start;
    return found & ((1u << min(8, pairs - start)) - 1);
  };
  auto candidates = [&](int anchor, int column) {  // of a unit, one bit a column
    float values[8];
    if (AT_HAND<SOURCE>) {
#pragma unroll
      for (int e = 0; e < 8; e++) values[e] = column + e < p.classes ? scores[(long long)anchor * p.classes + column + e] : 0.f;
    } else {
      unpack(load16(logits + (long long)anchor * p.row + column), values);
    }
    uint32 found = 0;
#pragma unroll
    for (int e = 0; e < 8; e++) found |= (uint32)(values[e] >= low) << e;
    return found & ((1u << min(8, p.classes - column)) - 1);
  };
  if (AGNOSTIC) {
    for (int anchor = first; anchor < p.anchor_count; anchor += stride) {
      float best = 0.f;
      int kind = -1;
      for (int column = 0; column < p.classes; column += 8)
        for (uint32 left = candidates(anchor, column); left; left &= left - 1) {
          const int k = column + __ffs(left) - 1;
          const float score = scored(anchor, k);
          if (score > p.thresholds[k] && (kind < 0 || score > best)) best = score, kind = k;
        }
      if (kind >= 0) use(key_of(best, ((uint32)anchor << 12) | (uint32)(4095 - kind)));
    }
    return;
  }
  for (int start = first; start < units; start += AHEAD * stride) {
    uint64 left = 0;
#pragma unroll
    for (int ahead = 0; ahead < AHEAD; ahead++) {
      const int unit = min(start + ahead * stride, units - 1), anchor = quotient(unit, p.of_units);
      const uint32 found = AT_HAND<SOURCE> ? in_a_row(unit) : candidates(anchor, (unit - anchor * units_of_anchor) * 8);
      if (start + ahead * stride < units) left |= (uint64)found << (8 * ahead);
    }
    for (; left; left &= left - 1) {
      const int bit = __ffsll(left) - 1, unit = start + (bit >> 3) * stride, pair = 8 * unit - skipped + (bit & 7);
      const int anchor = quotient(AT_HAND<SOURCE> ? pair : unit, p.of_units);
      const int k = AT_HAND<SOURCE> ? pair - anchor * p.classes : (unit - anchor * units_of_anchor) * 8 + (bit & 7);
      const float score = scored(anchor, k);
      if (score > p.thresholds[k]) use(key_of(score, (uint32)(k * p.anchor_count + anchor)));
    }
  }
}

template <int SOURCE>
DEVICE float lowest(const Options& options) {
  return SOURCE == SIGMOID ? options.low_logit : options.low_score;
}

// A logit that no candidate with a score of at least `score` lies below, sloppy by more than fp32 rounds; or the score.
template <int SOURCE>
DEVICE float sloppy(float score) {
  if (SOURCE != SIGMOID) return score;
  if (score <= 1e-30f) return __int_as_float(0xff800000);
  if (score >= 0.9999f) return 9.f;  // there a step of fp32 is many logits wide
  const float exact = logf(score) - log1pf(-score);
  return exact - 1e-3f * (1.f + fabsf(exact));
}

// A place in a list for every thread that is here; one atomic operation for all of them.
DEVICE int place_in(int* count) {
  const uint32 here = __activemask();
  const int leader = __ffs(here) - 1, lane = threadIdx.x & 31;
  int first = 0;
  if (lane == leader) first = atomicAdd(count, __popc(here));
  return __shfl_sync(here, first, leader) + __popc(here & ((1u << lane) - 1));
}

constexpr int COLLECTORS = 256;
constexpr int FEW = 128;  // candidates of a block that are counted one by one

// AHEAD units a thread: many where there are many blocks anyway.
template <int SOURCE, bool AGNOSTIC, int AHEAD>
__global__ void __launch_bounds__(COLLECTORS) collect(const __grid_constant__ Tail p) {
  __shared__ uint64 keys[CAPACITY];
  __shared__ int bins[BINS];
  __shared__ int here, place;
  const int image = blockIdx.y, thread = threadIdx.x, first = blockIdx.x * COLLECTORS + thread;
  if (thread == 0) here = 0;
  __syncthreads();
  let_later_kernels_start();
  wait_for_earlier_kernels();
  const Options options = *p.options;
  const float low = lowest<SOURCE>(options);
  auto is_inside = [&](uint64 key) {  // always, if what made the scores rounds well
    if (SOURCE != SCORES) return true;
    const Range range = whole_range<SOURCE>(options);
    if ((key - range.base) >> range.shift < BINS) return true;
    atomicOr(p.counts + image, ABOVE);
    return false;
  };
  visit<SOURCE, AGNOSTIC, AHEAD>(p, image, first, gridDim.x * COLLECTORS, low, [&](uint64 key) {
    if (!is_inside(key)) return;
    const int at = place_in(&here);
    if (at < CAPACITY) keys[at] = key;
  });
  __syncthreads();
  const int count = here;
  if (count == 0) return;
  if (thread == 0) place = atomicAdd(p.counts + image, count);
  const Range range = whole_range<SOURCE>(options);
  int* histogram = p.histograms + (long long)image * BINS;
  if (count <= FEW) {
    for (int i = thread; i < count; i += COLLECTORS) atomicAdd(histogram + (int)((keys[i] - range.base) >> range.shift), 1);
  } else {
    for (int i = thread; i < BINS; i += COLLECTORS) bins[i] = 0;
    __syncthreads();
    auto tally = [&](uint64 key) {
      if (is_inside(key)) atomicAdd(bins + (int)((key - range.base) >> range.shift), 1);
    };
    if (count <= CAPACITY)
      for (int i = thread; i < count; i += COLLECTORS) tally(keys[i]);
    else
      visit<SOURCE, AGNOSTIC, AHEAD>(p, image, first, gridDim.x * COLLECTORS, low, tally);
    __syncthreads();
    for (int i = thread; i < BINS; i += COLLECTORS)
      if (bins[i]) atomicAdd(histogram + i, bins[i]);
  }
  __syncthreads();
  uint64* list = p.lists + (long long)image * CAPACITY;
  for (int i = thread; i < min(count, CAPACITY - place); i += COLLECTORS) list[place + i] = keys[i];
}

struct Box {
  float4 corners;  // ymin, xmin, ymax, xmax as decoded, or clipped before
  float area;
};

DEVICE float number(half_t code) { return to_float(code); }
DEVICE float number(float code) { return code; }

DEVICE float stretch(half_t, float x) { return expf(x); }
DEVICE float stretch(float, float x) { return (float)exp((double)x); }  // as `postprocess.decode_boxes` rounds it

template <class Code>
DEVICE float4 decoded(const Tail& p, int image, int anchor) {
  const Code* code = (const Code*)p.codes + image * p.codes_image + (long long)anchor * p.box_row;
  const float4 a = p.anchors[anchor];
  const float ty = __fdiv_rn(number(code[0]), p.scales[0]), tx = __fdiv_rn(number(code[1]), p.scales[1]);
  const float th = __fdiv_rn(number(code[2]), p.scales[2]), tw = __fdiv_rn(number(code[3]), p.scales[3]);
  const float y = __fadd_rn(__fmul_rn(ty, a.z), a.x), x = __fadd_rn(__fmul_rn(tx, a.w), a.y);
  const float half_height = __fmul_rn(__fmul_rn(stretch(code[2], th), a.z), 0.5f);
  const float half_width = __fmul_rn(__fmul_rn(stretch(code[3], tw), a.w), 0.5f);
  return make_float4(__fsub_rn(y, half_height), __fsub_rn(x, half_width), __fadd_rn(y, half_height), __fadd_rn(x, half_width));
}

DEVICE float clipped(float v, float low, float high) { return v != v ? v : fminf(fmaxf(v, low), high); }

DEVICE float4 clipped(const float4& b, const float4& w) {
  return make_float4(clipped(b.x, w.x, w.z), clipped(b.y, w.y, w.w), clipped(b.z, w.x, w.z), clipped(b.w, w.y, w.w));
}

DEVICE bool has_area(const float4& b) { return __fmul_rn(__fsub_rn(b.z, b.x), __fsub_rn(b.w, b.y)) > 0.f; }

// Corners in order and the area, as the NonMaxSuppression kernels see a box: no area counts as 1, so that its overlap is 0
// and not 0 / 0; with a NaN the area is NaN, and then so is every overlap.
DEVICE Box box_of(const float4& b) {
  Box box;
  box.corners = make_float4(fminf(b.x, b.z), fminf(b.y, b.w), fmaxf(b.x, b.z), fmaxf(b.y, b.w));
  box.area = __fmul_rn(__fsub_rn(box.corners.z, box.corners.x), __fsub_rn(box.corners.w, box.corners.y));
  if (box.area == 0.f) box.area = 1.f;
  if (b.x != b.x || b.y != b.y || b.z != b.z || b.w != b.w) box.area = __uint_as_float(0x7fc00000u);
  return box;
}

// Whether two boxes overlap by more than the threshold (a NaN does). Divides only where rounding could matter.
DEVICE bool overlap(const Box& a, const Box& b, float threshold) {
  const float top = fmaxf(a.corners.x, b.corners.x), left = fmaxf(a.corners.y, b.corners.y);
  const float height = __fsub_rn(fmaxf(fminf(a.corners.z, b.corners.z), top), top);
  const float width = __fsub_rn(fmaxf(fminf(a.corners.w, b.corners.w), left), left);
  const float both = __fmul_rn(height, width), either = __fsub_rn(__fadd_rn(a.area, b.area), both);
  if (threshold > 0.f) {
    const float limit = threshold * either;
    if (both < limit * 0.999f) return false;
    if (both > limit * 1.001f) return true;
  }
  return !(__fdiv_rn(both, either) <= threshold);
}

struct Shared {
  uint64 keys[CAPACITY];
  union {  // a list is made, then decided
    int bins[BINS];
    uint32 rivals[WORDS][BLOCK];  // the earlier candidates that would suppress this one
  };
  Box boxes[BLOCK];
  int kinds[BLOCK], first_pair[BLOCK];
  uint32 same[HASHES][WORDS];  // the candidates of this block in a class
  uint32 bits[2][2][WORDS];
  uint32 lost[WORDS];  // those that a box kept before suppresses
  Box kept[KEPT];
  int4 kept_kinds[KEPT / 4];
  int kept_count, emitted, status, listed, first_bin, above;
  int sums[THREADS / 32];
  uint64 bounds[2];
  int of_class[1];  // kept of each class; as many as there are classes
};

// One step of a bitonic sort between the lanes of a warp.
DEVICE uint64 exchanged(uint64 mine, int index, int span, int gap) {
  const uint64 other = __shfl_xor_sync(~0u, mine, gap);
  return ((index & gap) == 0) == ((index & span) == 0) ? max(mine, other) : min(mine, other);
}

// The keys in shared memory, best first. The rest of the power of two counts as 0.
DEVICE void sort_keys(Shared& s, int count) {
  const int thread = threadIdx.x;
  int size = 32;
  while (size < count) size *= 2;
  for (int i = count + thread; i < size; i += THREADS) s.keys[i] = 0;
  __syncthreads();
  for (int i = thread; i < size; i += THREADS) {
    uint64 mine = s.keys[i];
#pragma unroll
    for (int span = 2; span <= 32; span *= 2)
#pragma unroll
      for (int gap = span / 2; gap; gap /= 2) mine = exchanged(mine, i, span, gap);
    s.keys[i] = mine;
  }
  __syncthreads();
  for (int span = 64; span <= size; span *= 2) {
    for (int gap = span / 2; gap >= 32; gap /= 2) {
      for (int i = thread; i < size / 2; i += THREADS) {
        const int a = 2 * i - (i & (gap - 1)), b = a + gap;
        const uint64 low = s.keys[a], high = s.keys[b];
        if ((low < high) == ((a & span) == 0)) s.keys[a] = high, s.keys[b] = low;
      }
      __syncthreads();
    }
    for (int i = thread; i < size; i += THREADS) {
      uint64 mine = s.keys[i];
#pragma unroll
      for (int gap = 16; gap; gap /= 2) mine = exchanged(mine, i, span, gap);
      s.keys[i] = mine;
    }
    __syncthreads();
  }
}

constexpr int CROWD = 16;  // keys of a bin that are put in order one by one

// A list in order, best first, by the bins that `collect` counted, of which `four` are this thread's; `own` is its first
// key. False, and nothing done, if a bin is crowded. The code runs once, out of no cache: loops are shorter than they are slow.
DEVICE bool sort_by_bins(Shared& s, const uint64* list, uint64 own, int count, const int4& four, const Range& range) {
  static_assert(BINS == 4 * THREADS && sizeof(s.kept) >= CAPACITY * 8, "four bins a thread, the highest first; room for all keys");
  uint64* scattered = (uint64*)s.kept;  // none is kept yet
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5, sum = four.x + four.y + four.z + four.w;
  int up_to = sum;
#pragma unroll
  for (int gap = 1; gap < 32; gap *= 2) {
    const int other = __shfl_up_sync(~0u, up_to, gap);
    if (lane >= gap) up_to += other;
  }
  if (lane == 31) s.sums[warp] = up_to;
  if (__syncthreads_or(max(max(four.x, four.y), max(four.z, four.w)) > CROWD)) return false;
  int start = up_to - sum;
#pragma unroll 1
  for (int w = 0; w < warp; w++) start += s.sums[w];
  ((int4*)s.bins)[THREADS - 1 - thread] = make_int4(start + four.w + four.z + four.y, start + four.w + four.z, start + four.w, start);
  __syncthreads();
#pragma unroll 1
  for (int at = thread; at < count; at += THREADS, own = at < count ? list[at] : 0)
    scattered[atomicAdd(s.bins + (int)((own - range.base) >> range.shift), 1)] = own;
  __syncthreads();
#pragma unroll 1
  for (int at = thread; at < count; at += THREADS) {
    const uint64 key = scattered[at];
    const int bin = (int)((key - range.base) >> range.shift);
    int rank = bin == BINS - 1 ? 0 : s.bins[bin + 1];  // a bin ends where the next lower one starts
    const int end = s.bins[bin];
#pragma unroll 1
    for (int j = rank; j < end; j++) rank += scattered[j] > key;
    s.keys[rank] = key;
  }
  __syncthreads();
  return true;
}

// Decides the sorted keys first..first+count-1 (at most BLOCK of them).
template <bool AGNOSTIC, class Code>
DEVICE void decide(const Tail& p, Shared& s, const Options& options, const float4& window, int image, int first, int count) {
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  const int kept_count = s.kept_count, emitted = s.emitted;
  bool here = thread < count;
  Candidate one = {0, 0};
  float4 corners = make_float4(0.f, 0.f, 0.f, 0.f);
  float score = 0.f;
  if (here) {
    const uint64 key = s.keys[first + thread];
    one = candidate_of<AGNOSTIC>(p, key);
    score = score_of(key);
    corners = decoded<Code>(p, image, one.anchor);
    if (p.clip == 1) {
      corners = clipped(corners, window);
      here = !p.drop_zero_area || has_area(corners);
    }
  }
  const int kind = AGNOSTIC ? 0 : one.kind;
  for (int i = thread; i < HASHES * WORDS; i += THREADS) (&s.same[0][0])[i] = 0;
  for (int i = thread; i < BLOCK * WORDS; i += THREADS) (&s.rivals[0][0])[i] = 0;
  if (thread < WORDS) s.lost[thread] = 0;
  __syncthreads();
  if (thread < count) {
    s.boxes[thread] = box_of(corners);
    s.kinds[thread] = kind;
    if (here) atomicOr(&s.same[kind & (HASHES - 1)][warp], 1u << lane);
  }
  __syncthreads();
  // Pairs of a class, as many for every thread, counted by their later candidate.
  auto earlier = [&](int mine, int word) {  // those before it that could suppress it
    const uint32* same = s.same[s.kinds[mine] & (HASHES - 1)];
    if (!(same[mine >> 5] >> (mine & 31) & 1)) return 0u;
    return word < mine >> 5 ? same[word] : same[word] & ((1u << (mine & 31)) - 1);
  };
  int pairs = 0;
  if (thread < count)
    for (int word = 0; word <= warp; word++) pairs += __popc(earlier(thread, word));
  int up_to = pairs;
#pragma unroll
  for (int gap = 1; gap < 32; gap *= 2) {
    const int other = __shfl_up_sync(~0u, up_to, gap);
    if (lane >= gap) up_to += other;
  }
  if (lane == 31) s.sums[warp] = up_to;
  __syncthreads();
  int before = 0, all = 0;
#pragma unroll 1
  for (int w = 0; w < WORDS; w++) {
    if (w < warp) before += s.sums[w];
    all += s.sums[w];
  }
  if (thread < BLOCK) s.first_pair[thread] = before + up_to - pairs;
  __syncthreads();
  const int each = (all + THREADS - 1) / THREADS, to = min((thread + 1) * each, all);
  if (thread * each < to) {
    int mine = 0, word = 0, skipped = thread * each;
#pragma unroll
    for (int step = BLOCK / 2; step; step /= 2)
      if (s.first_pair[mine + step] <= skipped) mine += step;
    skipped -= s.first_pair[mine];
    uint32 others = earlier(mine, 0);
    for (int here; (here = __popc(others)) <= skipped; others = earlier(mine, ++word)) skipped -= here;
    for (; skipped; skipped--) others &= others - 1;
    for (int left = to - thread * each; left; left--) {
      while (!others) {
        if (++word > mine >> 5) mine++, word = 0;
        others = earlier(mine, word);
      }
      const uint32 bit = others & -others;
      const int other = word * 32 + __ffs(others) - 1;
      others ^= bit;
      if ((p.classes <= HASHES || s.kinds[other] == s.kinds[mine]) && overlap(s.boxes[mine], s.boxes[other], options.iou_threshold))
        atomicOr(&s.rivals[word][mine], bit);
    }
  }
  if (const int mine = thread & (BLOCK - 1); mine < count) {  // THREADS / BLOCK threads a candidate
    const int same_kind = s.kinds[mine];
    const Box box = s.boxes[mine];
    bool lost = false;
    for (int i = 4 * (thread / BLOCK); i < kept_count; i += 4 * (THREADS / BLOCK)) {
      const int4 kinds = s.kept_kinds[i / 4];
      const int each[4] = {kinds.x, kinds.y, kinds.z, kinds.w};
#pragma unroll
      for (int e = 0; e < 4; e++)
        lost |= each[e] == same_kind && i + e < kept_count && overlap(box, s.kept[i + e], options.iou_threshold);
    }
    if (lost) atomicOr(&s.lost[mine >> 5], 1u << (mine & 31));
  }
  __syncthreads();
  const bool decides = warp < WORDS;  // the other warps come along to the barriers
  const int mine = thread & (BLOCK - 1);
  uint32 rivals[WORDS];
#pragma unroll
  for (int w = 0; w < WORDS; w++) rivals[w] = s.rivals[w][mine];
  const bool lost = s.lost[mine >> 5] >> (mine & 31) & 1;
  int state = here && !lost ? 0 : 2, turn = 0;  // 0 open, 1 kept, 2 gone
  while (true) {                                // the first open one is always decided, so this ends
    const uint32 kept = __ballot_sync(~0u, state == 1), gone = __ballot_sync(~0u, state == 2);
    if (decides && lane == 0) s.bits[turn][0][warp] = kept, s.bits[turn][1][warp] = gone;
    __syncthreads();
    uint32 decided = ~0u, beaten = 0, open = 0;
#pragma unroll
    for (int w = 0; w < WORDS; w++) {
      const uint32 k = s.bits[turn][0][w], g = s.bits[turn][1][w];
      decided &= k | g;
      beaten |= rivals[w] & k;
      open |= rivals[w] & ~g;
    }
    if (decided == ~0u) break;
    if (state == 0) state = beaten ? 2 : open ? 0 : 1;
    turn ^= 1;
  }
  // A class that is full keeps no more, and what it would have kept suppresses only what is no longer kept either.
  bool keeps = false, real = true;
  if (decides) {
    int rank = AGNOSTIC ? kept_count : s.of_class[kind];
#pragma unroll 1
    for (int w = 0; w < WORDS; w++) {
      uint32 earlier = s.same[kind & (HASHES - 1)][w] & s.bits[turn][0][w];
      if (w > warp) earlier = 0;
      if (w == warp) earlier &= (1u << lane) - 1;
      if (p.classes <= HASHES) rank += __popc(earlier);
      else
        for (; earlier; earlier &= earlier - 1) rank += s.kinds[w * 32 + __ffs(earlier) - 1] == kind;
    }
    keeps = state == 1 && rank < (AGNOSTIC ? options.max_total : options.max_per_class);
  }
  float4 last = corners;
  if (p.clip == 2) {
    last = clipped(corners, window);
    real = !p.drop_zero_area || has_area(last);
  }
  turn ^= 1;  // whose last readers have passed a barrier since
  const uint32 keep_word = __ballot_sync(~0u, keeps), emit_word = __ballot_sync(~0u, keeps && real);
  if (decides && lane == 0) s.bits[turn][0][warp] = keep_word, s.bits[turn][1][warp] = emit_word;
  __syncthreads();
  const uint32 below = (1u << lane) - 1;
  int place = kept_count + __popc(keep_word & below), row = emitted + __popc(emit_word & below);
  int all_kept = kept_count, all_emitted = emitted;
#pragma unroll 1
  for (int w = 0; w < WORDS; w++) {
    const int k = __popc(s.bits[turn][0][w]), e = __popc(s.bits[turn][1][w]);
    if (w < warp) place += k, row += e;
    all_kept += k, all_emitted += e;
  }
  if (keeps) {
    if (place < KEPT) s.kept[place] = s.boxes[thread], ((int*)s.kept_kinds)[place] = kind;
    if (!AGNOSTIC) atomicAdd(&s.of_class[kind], 1);
  }
  if (keeps && real && row < options.max_total) {
    float* found = p.found + (long long)image * p.found_size;
    if (p.change_frame) {
      const float scale_y = __fdiv_rn(1.f, __fsub_rn(window.z, window.x)), scale_x = __fdiv_rn(1.f, __fsub_rn(window.w, window.y));
      last.x = __fmul_rn(__fsub_rn(last.x, window.x), scale_y), last.z = __fmul_rn(__fsub_rn(last.z, window.x), scale_y);
      last.y = __fmul_rn(__fsub_rn(last.y, window.y), scale_x), last.w = __fmul_rn(__fsub_rn(last.w, window.y), scale_x);
    }
    *(float4*)(found + 4 * row) = last;
    found[4 * p.most + row] = score;
    found[5 * p.most + row] = (float)one.kind;
  }
  if (thread == 0) {
    s.emitted = min(all_emitted, options.max_total);
    if (all_kept > KEPT && all_emitted < options.max_total) s.status = 1;
    s.kept_count = min(all_kept, KEPT);
  }
  __syncthreads();
}

// From the highest bin down: the first one that PORTION has no room for any more, -1 for none, and how many lie above it.
DEVICE void find_end(Shared& s) {
  constexpr int EACH = BINS / THREADS;
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  int mine[EACH], sum = 0;
#pragma unroll
  for (int i = 0; i < EACH; i++) sum += mine[i] = s.bins[BINS - 1 - (thread * EACH + i)];
  int up_to = sum;
#pragma unroll
  for (int gap = 1; gap < 32; gap *= 2) {
    const int other = __shfl_up_sync(~0u, up_to, gap);
    if (lane >= gap) up_to += other;
  }
  if (lane == 31) s.sums[warp] = up_to;
  if (thread == 0) s.first_bin = -1;
  __syncthreads();
  int total = up_to - sum;
  for (int w = 0; w < warp; w++) total += s.sums[w];
  if (total <= PORTION && total + sum > PORTION) {  // true for one thread at most
    int i = 0;
    while (total + mine[i] <= PORTION) total += mine[i++];
    s.above = total, s.first_bin = BINS - 1 - (thread * EACH + i);
  }
  __syncthreads();
}

// Brings the best keys below s.bounds[1] into s.keys, at most PORTION, and the lowest that may be one into s.bounds[0].
template <int SOURCE, bool AGNOSTIC>
DEVICE void list_again(const Tail& p, Shared& s, const Options& options, int image) {
  const int thread = threadIdx.x;
  const uint64 upper = s.bounds[1];
  Range range = whole_range<SOURCE>(options);
  uint64 from = range.base, to = upper;  // of the keys that are looked at
  bool listing = false;                  // or counted by bins
  // If what is left is whole bins, `collect` has counted it.
  bool counted = upper == ~0ull || !((upper - range.base) & ((1ull << range.shift) - 1));
  while (true) {
    const uint64 whole = counted ? min((upper - range.base) >> range.shift, (uint64)BINS) : 0;
    if (!listing)
      for (int i = thread; i < BINS; i += THREADS) s.bins[i] = i < whole ? p.histograms[(long long)image * BINS + i] : 0;
    if (thread == 0) s.listed = 0;
    __syncthreads();
    if (!counted) {
      const float low = max(lowest<SOURCE>(options), sloppy<SOURCE>(score_of(from)));
      visit<SOURCE, AGNOSTIC, 8>(p, image, thread, THREADS, low, [&](uint64 key) {
        if (key < from || key >= to) return;
        if (listing) s.keys[place_in(&s.listed)] = key;
        else atomicAdd(s.bins + (int)((key - range.base) >> range.shift), 1);
      });
      __syncthreads();
      if (listing) return;
    }
    counted = false;
    find_end(s);
    const int bin = s.first_bin, total = s.above;
    if (bin < 0 || total > 0) {  // the rest of the range fits, or what is above the bin
      listing = true;
      from = bin < 0 ? range.base : range.base + ((uint64)(bin + 1) << range.shift);
      to = upper;
      if (thread == 0) s.bounds[0] = from;
    } else {  // the best bin alone is too full: look into it
      from = range.base + ((uint64)bin << range.shift);
      to = min(from + (1ull << range.shift), upper);
      range = {from, max(range.shift - 11, 0)};
      static_assert(BINS == 1 << 11, "bins of a bin");
    }
  }
}

template <int SOURCE, bool AGNOSTIC, class Code = half_t>
__global__ void __launch_bounds__(THREADS) tail(const __grid_constant__ Tail p) {
  extern __shared__ __align__(16) uint8 memory[];
  Shared& s = *(Shared*)memory;
  const int image = blockIdx.x, thread = threadIdx.x;
  for (int i = thread; i < p.classes; i += THREADS) s.of_class[i] = 0;
  if (thread == 0) s.kept_count = s.emitted = s.status = 0, s.bounds[1] = ~0ull;
  let_later_kernels_start();
  wait_for_earlier_kernels();
  const Options options = *p.options;
  const float4 window = p.windows[image];
  const int counted = p.counts[image];
  const uint64* list = p.lists + (long long)image * CAPACITY;
  const uint64 own = list[thread];  // read at once with the rest, whether it counts or not
  const int4 four = ((const int4*)(p.histograms + (long long)image * BINS))[THREADS - 1 - thread];
  const uint64 lowest_key = whole_range<SOURCE>(options).base;
  const bool above = SOURCE == SCORES && counted >= ABOVE;
  if (above && thread == 0) s.status = 1;
  while (!above) {
    uint64 lower = lowest_key;
    int count = counted;
    if (counted <= CAPACITY) {
      if (!sort_by_bins(s, list, own, counted, four, whole_range<SOURCE>(options))) {
        for (int i = thread; i < counted; i += THREADS) s.keys[i] = list[i];
        sort_keys(s, count);
      }
    } else {
      __syncthreads();
      list_again<SOURCE, AGNOSTIC>(p, s, options, image);
      lower = s.bounds[0];
      count = s.listed;
      sort_keys(s, count);
    }
    for (int i = 0; i < count && s.emitted < options.max_total && !s.status; i += BLOCK)
      decide<AGNOSTIC, Code>(p, s, options, window, image, i, min(BLOCK, count - i));
    if (s.emitted >= options.max_total || s.status || lower <= lowest_key) break;
    __syncthreads();
    if (thread == 0) s.bounds[1] = lower;
  }
  __syncthreads();
  float* found = p.found + (long long)image * p.found_size;
  for (int i = s.emitted + thread; i < p.most; i += THREADS) {
    *(float4*)(found + 4 * i) = make_float4(0.f, 0.f, 0.f, 0.f);
    found[4 * p.most + i] = found[5 * p.most + i] = 0.f;
  }
  if (counted)
    for (int i = thread; i < BINS; i += THREADS) p.histograms[(long long)image * BINS + i] = 0;
  if (thread == 0) p.counts[image] = 0, found[p.found_size - 2] = (float)s.emitted;
  __syncthreads();
  if (thread == 0) {  // `found` may be memory of the host, where the last word says that the rest is there
    asm volatile("fence.acq_rel.sys;" ::: "memory");
    *(volatile float*)(found + p.found_size - 1) = (float)s.status;
  }
}

// Scores (batch, anchors, classes) and box codes (batch, anchors, 4) as numbers; a warp an anchor.
struct Scores {
  const half_t* logits;
  const half_t* codes;
  float* scores;
  float* boxes;  // or null
  long long logits_image, codes_image;
  int anchors, anchor_count, columns, skipped, row, box_row;  // anchors: of the batch; skipped: columns that are no class
  Divider of_image;
};

template <int FUNCTION>  // SIGMOID, IDENTITY, or 2: softmax
__global__ void __launch_bounds__(256) scores(const __grid_constant__ Scores p) {
  let_later_kernels_start();
  wait_for_earlier_kernels();
  const int anchor = blockIdx.x * 8 + (threadIdx.x >> 5), lane = threadIdx.x & 31;
  if (anchor >= p.anchors) return;
  const int image = quotient(anchor, p.of_image), row = anchor - image * p.anchor_count;
  const half_t* logits = p.logits + image * p.logits_image + (long long)row * p.row;
  const int classes = p.columns - p.skipped;
  float* to = p.scores + (long long)anchor * classes;
  float largest = -3.4e38f, sum = 0.f;
  if (FUNCTION == 2) {
    for (int i = lane; i < p.columns; i += 32) largest = fmaxf(largest, to_float(logits[i]));
    for (int gap = 16; gap; gap /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, gap));
    for (int i = lane; i < p.columns; i += 32) sum += expf(to_float(logits[i]) - largest);
    for (int gap = 16; gap; gap /= 2) sum += __shfl_xor_sync(~0u, sum, gap);
  }
  for (int i = lane; i < classes; i += 32) {
    const float logit = to_float(logits[i + p.skipped]);
    to[i] = FUNCTION == 0 ? exact_sigmoid(logit) : FUNCTION == 1 ? logit : __fdiv_rn(expf(logit - largest), sum);
  }
  if (p.boxes && lane < 4) p.boxes[(long long)anchor * 4 + lane] = to_float(p.codes[image * p.codes_image + (long long)row * p.box_row + lane]);
}

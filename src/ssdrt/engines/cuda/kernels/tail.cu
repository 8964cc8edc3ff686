// From logits and box codes to detections: TensorFlow's non-maximum suppression, exactly, with its order of ties.
//
// TensorFlow runs one greedy NMS a class and keeps the best of what they leave. A box is dropped only by a kept box of its
// own class that stands earlier in (score descending, anchor ascending). Walking all candidates in (score descending, class
// ascending, anchor ascending) visits every class in that order, so every decision is the same, and TensorFlow's stable
// merge by score gives the same sequence: the walk may stop when enough are kept.
//
// `collect` lists the candidates above the run-time thresholds; `tail` sorts a list and decides 256 at a time. A list that
// overflowed is made again inside `tail`, the best portion first: a histogram over the keys says where it ends.
#include "common.cuh"

struct Options {  // in memory of the GPU, so that a captured graph obeys new ones
  float iou_threshold, low_score, low_logit;  // no candidate is below low_score; no logit below low_logit makes one
  int max_per_class, max_total, unused[3];
};

struct Tail {
  const half_t* logits;
  const half_t* codes;
  const float* scores;       // (batch, anchors, classes), where the kernels `scores` made them; else null
  const float4* anchors;     // centre y, centre x, height, width
  const float* thresholds;   // one a class
  const Options* options;
  const float4* windows;     // one a picture: ymin, xmin, ymax, xmax
  uint64* lists;
  int* counts;
  float* found;  // a picture: boxes (most, 4) yxyx, scores (most,), classes (most,), count, status
  long long logits_image, codes_image;
  int anchor_count, classes, row, box_row;
  int most, clip, drop_zero_area, change_frame;  // clip: 0 never, 1 before, 2 after
  float scales[4];
  Divider of_units, of_anchors;
};

constexpr int THREADS = 512;
constexpr int CAPACITY = 2048;  // candidates of a list
constexpr int BLOCK = 256;      // candidates decided at a time
constexpr int WORDS = BLOCK / 32;
constexpr int KEPT = 512;  // boxes that can suppress; more, and the picture is left to the host (status 1)
constexpr int BINS = 2048;
constexpr int HASHES = 128;
constexpr int SIGMOID = 0, IDENTITY = 1, SCORES = 2;  // where scores come from

DEVICE float exact_sigmoid(float x) { return __frcp_rn(__fadd_rn(1.f, expf(-x))); }

// Sorts as (score, then the smaller `index` first).
DEVICE uint64 key_of(float score, uint32 index) {
  const uint32 bits = __float_as_uint(score);
  const uint32 ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return ((uint64)ordered << 32) | (0xffffffffu - index);
}

DEVICE float score_of(uint64 key) {
  const uint32 ordered = (uint32)(key >> 32);
  return __uint_as_float(ordered >> 31 ? ordered & 0x7fffffffu : ~ordered);
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

// Calls use(key) for every candidate of the units first, first + stride, ...; a unit is 8 columns of an anchor, or, class-
// agnostic, all of them, of which the best counts.
template <int SOURCE, bool AGNOSTIC, class Use>
DEVICE void visit(const Tail& p, int image, int first, int stride, const Options& options, Use use) {
  const int units_of_anchor = (p.classes + 7) / 8, units = p.anchor_count * units_of_anchor;
  const half_t* logits = p.logits + image * p.logits_image;
  const float* scores = p.scores + (SOURCE == SCORES ? (long long)image * p.anchor_count * p.classes : 0);
  auto read = [&](int anchor, int column, float (&values)[8]) {
    if (SOURCE == SCORES) {
#pragma unroll
      for (int e = 0; e < 8; e++) values[e] = column + e < p.classes ? scores[(long long)anchor * p.classes + column + e] : 0.f;
    } else {
      unpack(load16(logits + (long long)anchor * p.row + column), values);
    }
  };
  auto scored = [&](float value) { return SOURCE == SIGMOID ? exact_sigmoid(value) : value; };
  const float low = SOURCE == SIGMOID ? options.low_logit : options.low_score;
  if (AGNOSTIC) {
    for (int anchor = first; anchor < p.anchor_count; anchor += stride) {
      float best = 0.f;
      int kind = -1;
      for (int column = 0; column < p.classes; column += 8) {
        float values[8];
        read(anchor, column, values);
#pragma unroll
        for (int e = 0; e < 8; e++)
          if (column + e < p.classes && values[e] >= low) {
            const float score = scored(values[e]);
            if (score > p.thresholds[column + e] && (kind < 0 || score > best)) best = score, kind = column + e;
          }
      }
      if (kind >= 0) use(key_of(best, ((uint32)anchor << 12) | (uint32)(4095 - kind)));
    }
    return;
  }
  for (int unit = first; unit < units; unit += stride) {
    const int anchor = quotient(unit, p.of_units), column = (unit - anchor * units_of_anchor) * 8;
    float values[8];
    read(anchor, column, values);
    bool any = false;
#pragma unroll
    for (int e = 0; e < 8; e++) any |= values[e] >= low;
    if (!any) continue;
#pragma unroll
    for (int e = 0; e < 8; e++)
      if (column + e < p.classes && values[e] >= low) {
        const float score = scored(values[e]);
        if (score > p.thresholds[column + e]) use(key_of(score, (uint32)((column + e) * p.anchor_count + anchor)));
      }
  }
}

// A place in a list for every thread that is here; one atomic operation for all of them.
DEVICE int place_in(int* count) {
  const uint32 here = __activemask();
  const int leader = __ffs(here) - 1, lane = threadIdx.x & 31;
  int first = 0;
  if (lane == leader) first = atomicAdd(count, __popc(here));
  return __shfl_sync(here, first, leader) + __popc(here & ((1u << lane) - 1));
}

template <int SOURCE, bool AGNOSTIC>
__global__ void __launch_bounds__(256) collect(const __grid_constant__ Tail p) {
  let_later_kernels_start();
  wait_for_earlier_kernels();
  const int image = blockIdx.y;
  const Options options = *p.options;
  uint64* list = p.lists + (long long)image * CAPACITY;
  volatile int* count = p.counts + image;
  visit<SOURCE, AGNOSTIC>(p, image, blockIdx.x * 256 + threadIdx.x, gridDim.x * 256, options, [&](uint64 key) {
    if (*count > CAPACITY) return;  // it overflowed: `tail` makes it again
    const int place = place_in(p.counts + image);
    if (place < CAPACITY) list[place] = key;
  });
}

struct Box {
  float4 corners;  // ymin, xmin, ymax, xmax as decoded, or clipped before
  float area;
};

DEVICE float4 decoded(const Tail& p, int image, int anchor) {
  const half_t* code = p.codes + image * p.codes_image + (long long)anchor * p.box_row;
  const float4 a = p.anchors[anchor];
  const float ty = __fdiv_rn(to_float(code[0]), p.scales[0]), tx = __fdiv_rn(to_float(code[1]), p.scales[1]);
  const float th = __fdiv_rn(to_float(code[2]), p.scales[2]), tw = __fdiv_rn(to_float(code[3]), p.scales[3]);
  const float y = __fadd_rn(__fmul_rn(ty, a.z), a.x), x = __fadd_rn(__fmul_rn(tx, a.w), a.y);
  const float half_height = __fmul_rn(__fmul_rn(expf(th), a.z), 0.5f);
  const float half_width = __fmul_rn(__fmul_rn(expf(tw), a.w), 0.5f);
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
  int kinds[BLOCK];
  uint32 same[HASHES][WORDS];   // the candidates of this block in a class
  uint32 bits[2][2][WORDS];
  Box kept[KEPT];
  int kept_kinds[KEPT];
  int kept_count, emitted, status, listed, first_bin, above;
  int sums[THREADS / 32];
  uint64 bounds[2];
  int of_class[1];  // kept of each class; as many as there are classes
};

// The keys in shared memory, best first. The rest of the power of two counts as 0.
DEVICE void sort_keys(Shared& s, int count) {
  int size = 32;
  while (size < count) size *= 2;
  for (int i = count + threadIdx.x; i < size; i += THREADS) s.keys[i] = 0;
  __syncthreads();
  for (int span = 2; span <= size; span *= 2)
    for (int gap = span / 2; gap; gap /= 2) {
      for (int i = threadIdx.x; i < size / 2; i += THREADS) {
        const int a = 2 * i - (i & (gap - 1)), b = a + gap;
        const uint64 low = s.keys[a], high = s.keys[b];
        if ((low < high) == ((a & span) == 0)) s.keys[a] = high, s.keys[b] = low;
      }
      __syncthreads();
    }
}

DEVICE void sync_deciders() { asm volatile("bar.sync 1, %0;" ::"n"(BLOCK) : "memory"); }

// Decides the sorted keys first..first+count-1 (at most BLOCK of them).
template <bool AGNOSTIC>
DEVICE void decide(const Tail& p, Shared& s, const Options& options, int image, int first, int count) {
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  for (int i = thread; i < HASHES * WORDS; i += THREADS) (&s.same[0][0])[i] = 0;
  __syncthreads();
  const float4 window = p.windows[image];
  bool here = thread < count;
  Candidate one = {0, 0};
  float4 corners = make_float4(0.f, 0.f, 0.f, 0.f);
  float score = 0.f;
  if (here) {
    const uint64 key = s.keys[first + thread];
    one = candidate_of<AGNOSTIC>(p, key);
    score = score_of(key);
    corners = decoded(p, image, one.anchor);
    if (p.clip == 1) {
      corners = clipped(corners, window);
      here = !p.drop_zero_area || has_area(corners);
    }
    s.boxes[thread] = box_of(corners);
    s.kinds[thread] = AGNOSTIC ? 0 : one.kind;
    if (here) atomicOr(&s.same[s.kinds[thread] & (HASHES - 1)][warp], 1u << lane);
  }
  __syncthreads();
  for (int i = thread; i < BLOCK * WORDS; i += THREADS) {
    const int mine = i & (BLOCK - 1), word = i / BLOCK;
    uint32 found = 0;
    if (mine < count && word <= mine >> 5) {
      uint32 others = s.same[s.kinds[mine] & (HASHES - 1)][word];
      if (word == mine >> 5) others &= (1u << (mine & 31)) - 1;
      while (others) {
        const int bit = __ffs(others) - 1, other = word * 32 + bit;
        others &= others - 1;
        if (s.kinds[other] == s.kinds[mine] && overlap(s.boxes[mine], s.boxes[other], options.iou_threshold)) found |= 1u << bit;
      }
    }
    s.rivals[word][mine] = found;
  }
  __syncthreads();
  if (warp < WORDS) {
    const int kind = AGNOSTIC ? 0 : one.kind, kept_count = s.kept_count, emitted = s.emitted;
    bool gone = !here;
    for (int i = 0; i < kept_count && !gone; i++)
      gone = s.kept_kinds[i] == kind && overlap(s.boxes[thread], s.kept[i], options.iou_threshold);
    uint32 rivals[WORDS];
#pragma unroll
    for (int w = 0; w < WORDS; w++) rivals[w] = s.rivals[w][thread];
    int state = gone ? 2 : 0, turn = 0;  // 0 open, 1 kept, 2 gone
    while (true) {                       // the first open one is always decided, so this ends
      const uint32 kept = __ballot_sync(~0u, state == 1), lost = __ballot_sync(~0u, state == 2);
      if (lane == 0) s.bits[turn][0][warp] = kept, s.bits[turn][1][warp] = lost;
      sync_deciders();
      uint32 decided = ~0u, beaten = 0, open = 0;
#pragma unroll
      for (int w = 0; w < WORDS; w++) {
        decided &= s.bits[turn][0][w] | s.bits[turn][1][w];
        beaten |= rivals[w] & s.bits[turn][0][w];
        open |= rivals[w] & ~s.bits[turn][1][w];
      }
      if (decided == ~0u) break;
      if (state == 0) state = beaten ? 2 : open ? 0 : 1;
      turn ^= 1;
    }
    // A class that is full keeps no more, and what it would have kept suppresses only what is no longer kept either.
    int rank = AGNOSTIC ? kept_count : s.of_class[kind];
#pragma unroll
    for (int w = 0; w < WORDS; w++) {
      uint32 earlier = s.same[kind & (HASHES - 1)][w] & s.bits[turn][0][w];
      if (w > warp) earlier = 0;
      if (w == warp) earlier &= (1u << lane) - 1;
      if (p.classes <= HASHES) rank += __popc(earlier);
      else
        for (; earlier; earlier &= earlier - 1) rank += s.kinds[w * 32 + __ffs(earlier) - 1] == kind;
    }
    const bool keeps = state == 1 && rank < (AGNOSTIC ? options.max_total : options.max_per_class);
    float4 last = corners;
    bool real = true;
    if (p.clip == 2) {
      last = clipped(corners, window);
      real = !p.drop_zero_area || has_area(last);
    }
    sync_deciders();  // all have read the bits
    turn ^= 1;
    const uint32 keep_word = __ballot_sync(~0u, keeps), emit_word = __ballot_sync(~0u, keeps && real);
    if (lane == 0) s.bits[turn][0][warp] = keep_word, s.bits[turn][1][warp] = emit_word;
    sync_deciders();
    const uint32 below = (1u << lane) - 1;
    int place = kept_count + __popc(keep_word & below), row = emitted + __popc(emit_word & below);
    int all_kept = kept_count, all_emitted = emitted;
#pragma unroll
    for (int w = 0; w < WORDS; w++) {
      const int k = __popc(s.bits[turn][0][w]), e = __popc(s.bits[turn][1][w]);
      if (w < warp) place += k, row += e;
      all_kept += k, all_emitted += e;
    }
    if (keeps) {
      if (place < KEPT) s.kept[place] = s.boxes[thread], s.kept_kinds[place] = kind;
      if (!AGNOSTIC) atomicAdd(&s.of_class[kind], 1);
    }
    if (keeps && real && row < options.max_total) {
      float* found = p.found + (long long)image * (6 * p.most + 2);
      if (p.change_frame) {
        const float scale_y = __fdiv_rn(1.f, __fsub_rn(window.z, window.x)), scale_x = __fdiv_rn(1.f, __fsub_rn(window.w, window.y));
        last.x = __fmul_rn(__fsub_rn(last.x, window.x), scale_y), last.z = __fmul_rn(__fsub_rn(last.z, window.x), scale_y);
        last.y = __fmul_rn(__fsub_rn(last.y, window.y), scale_x), last.w = __fmul_rn(__fsub_rn(last.w, window.y), scale_x);
      }
      found[4 * row] = last.x, found[4 * row + 1] = last.y, found[4 * row + 2] = last.z, found[4 * row + 3] = last.w;
      found[4 * p.most + row] = score;
      found[5 * p.most + row] = (float)one.kind;
    }
    if (thread == 0) {
      s.emitted = min(all_emitted, options.max_total);
      if (all_kept > KEPT && all_emitted < options.max_total) s.status = 1;
      s.kept_count = min(all_kept, KEPT);
    }
  }
  __syncthreads();
}

// From the highest bin down: the first one that CAPACITY has no room for any more, -1 for none, and how many lie above it.
DEVICE void find_end(Shared& s, int bins) {
  constexpr int EACH = BINS / THREADS;
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  int mine[EACH], sum = 0;
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const int bin = bins - 1 - (thread * EACH + i);
    sum += mine[i] = bin >= 0 ? s.bins[bin] : 0;
  }
  int up_to = sum;
#pragma unroll
  for (int gap = 1; gap < 32; gap *= 2) {
    const int other = __shfl_up_sync(~0u, up_to, gap);
    if (lane >= gap) up_to += other;
  }
  if (lane == 31) s.sums[warp] = up_to;
  __syncthreads();
  int total = up_to - sum;
  for (int w = 0; w < warp; w++) total += s.sums[w];
  if (total <= CAPACITY && total + sum > CAPACITY) {  // true for one thread at most
    int i = 0;
    while (total + mine[i] <= CAPACITY) total += mine[i++];
    s.above = total, s.first_bin = bins - 1 - (thread * EACH + i);
  }
  __syncthreads();
}

// Brings the best keys below s.bounds[1] into s.keys, at most CAPACITY, and the lowest of them into s.bounds[0].
template <int SOURCE, bool AGNOSTIC>
DEVICE void list_again(const Tail& p, Shared& s, const Options& options, int image) {
  const int thread = threadIdx.x;
  const uint64 upper = s.bounds[1];
  uint64 prefix = 0;  // the bits above `shift` of the bin that is looked into
  int shift = 64;
  uint64 lower = 0;
  while (true) {
    const int bits = min(shift, 11), next = shift - bits;
    for (int i = thread; i < BINS; i += THREADS) s.bins[i] = 0;
    if (thread == 0) s.first_bin = -1, s.above = 0;
    __syncthreads();
    visit<SOURCE, AGNOSTIC>(p, image, thread, THREADS, options, [&](uint64 key) {
      if (key >= upper || (shift < 64 && (key >> shift) != prefix)) return;
      atomicAdd(&s.bins[(int)(key >> next) & ((1 << bits) - 1)], 1);
    });
    __syncthreads();
    find_end(s, 1 << bits);
    const int bin = s.first_bin, total = s.above;
    const uint64 base = shift < 64 ? prefix << shift : 0;
    if (bin < 0) {
      lower = base;
      break;
    }
    if (total > 0) {
      lower = base + ((uint64)(bin + 1) << next);
      break;
    }
    prefix = (shift < 64 ? prefix << bits : 0) | (uint64)bin;  // the best bin alone is too full: look into it
    shift = next;
    __syncthreads();
  }
  if (thread == 0) s.listed = 0, s.bounds[0] = lower;
  __syncthreads();
  visit<SOURCE, AGNOSTIC>(p, image, thread, THREADS, options, [&](uint64 key) {
    if (key >= lower && key < upper) {
      const int place = place_in(&s.listed);
      if (place < CAPACITY) s.keys[place] = key;
    }
  });
  __syncthreads();
}

template <int SOURCE, bool AGNOSTIC>
__global__ void __launch_bounds__(THREADS) tail(const __grid_constant__ Tail p) {
  extern __shared__ __align__(16) uint8 memory[];
  Shared& s = *(Shared*)memory;
  const int image = blockIdx.x, thread = threadIdx.x;
  for (int i = thread; i < p.classes; i += THREADS) s.of_class[i] = 0;
  if (thread == 0) s.kept_count = s.emitted = s.status = 0;
  let_later_kernels_start();
  wait_for_earlier_kernels();
  const Options options = *p.options;
  const int counted = p.counts[image];
  if (counted <= CAPACITY) {
    for (int i = thread; i < counted; i += THREADS) s.keys[i] = p.lists[(long long)image * CAPACITY + i];
    __syncthreads();
    sort_keys(s, counted);
    for (int i = 0; i < counted && s.emitted < options.max_total && !s.status; i += BLOCK)
      decide<AGNOSTIC>(p, s, options, image, i, min(BLOCK, counted - i));
  } else {
    if (thread == 0) s.bounds[1] = ~0ull;
    __syncthreads();
    while (true) {
      list_again<SOURCE, AGNOSTIC>(p, s, options, image);
      const int listed = min(s.listed, CAPACITY);
      const uint64 lower = s.bounds[0];
      sort_keys(s, listed);
      for (int i = 0; i < listed && s.emitted < options.max_total && !s.status; i += BLOCK)
        decide<AGNOSTIC>(p, s, options, image, i, min(BLOCK, listed - i));
      if (s.emitted >= options.max_total || s.status || lower == 0) break;
      __syncthreads();
      if (thread == 0) s.bounds[1] = lower;
      __syncthreads();
    }
  }
  __syncthreads();
  float* found = p.found + (long long)image * (6 * p.most + 2);
  for (int i = s.emitted + thread; i < p.most; i += THREADS) {
    found[4 * i] = found[4 * i + 1] = found[4 * i + 2] = found[4 * i + 3] = 0.f;
    found[4 * p.most + i] = found[5 * p.most + i] = 0.f;
  }
  __threadfence_system();  // `found` may be memory of the host, where the last word says that the rest is there
  __syncthreads();
  if (thread == 0) {
    p.counts[image] = 0;
    found[6 * p.most] = (float)s.emitted;
    __threadfence_system();
    *(volatile float*)(found + 6 * p.most + 1) = (float)s.status;
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

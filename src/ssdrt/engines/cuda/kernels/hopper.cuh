// What the kernels for sm_90a share: barriers in shared memory, the bulk copy engine, registers, the matrix unit's operands.
#pragma once
#include "shared.cuh"
#include "wgmma.cuh"

struct __align__(64) TensorMap {
  uint8 bytes[128];  // made by the driver
};

DEVICE void barrier_init(uint32 barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

DEVICE void barriers_are_ready() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

DEVICE void arrive(uint32 barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }

// On the barrier at the same place in another block of the cluster. Relaxed: the default orders all earlier global stores
// of the thread, which cost a third of the consumers' time.
DEVICE void arrive_at(uint32 barrier, int rank) {
  asm volatile(
      "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.relaxed.cluster.shared::cluster.b64 _, [remote];\n}" ::"r"(barrier), "r"(rank) : "memory");
}

DEVICE void arrive_expecting(uint32 barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Every waiter must see every phase: a parity that was skipped looks like the one before it.
DEVICE void wait(uint32 barrier, int parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain_%=:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra over_%=;\n"
      "bra again_%=;\nover_%=:\n}" ::"r"(barrier), "r"(parity) : "memory");
}

DEVICE void bulk_copy(uint32 to, const void* from, int bytes, uint32 barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from),
               "r"(bytes), "r"(barrier) : "memory");
}

// This block's shared memory to the same place in another block of the cluster, and its barrier there.
DEVICE void bulk_copy_to(int rank, uint32 place, int bytes, uint32 barrier) {
  asm volatile(
      "{\n.reg .b32 to, there;\nmapa.shared::cluster.u32 to, %0, %3;\nmapa.shared::cluster.u32 there, %2, %3;\n"
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [to], [%0], %1, [there];\n}" ::"r"(place),
      "r"(bytes), "r"(barrier), "r"(rank) : "memory");
}

DEVICE void load_tile(uint32 to, const TensorMap& map, int x, int y, uint32 barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(to),
               "l"(&map), "r"(barrier), "r"(x), "r"(y) : "memory");
}

DEVICE void load_tile(uint32 to, const TensorMap& map, int x, int y, int z, uint32 barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(x), "r"(y), "r"(z) : "memory");
}

// Plain stores to shared memory become visible to the copy engine and the matrix unit.
DEVICE void publish_stores() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

DEVICE int cluster_rank() {
  int rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

DEVICE void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Keeps shared memory until every block is done with it; orders no memory.
DEVICE void cluster_leave() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

template <int COUNT>
DEVICE void more_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT)); }
template <int COUNT>
DEVICE void fewer_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT)); }

// Descriptor of an operand: rows of 128 bytes, swizzled by 128, 8 rows 1024 bytes apart.
DEVICE uint64 operand(uint32 address) {
  return (uint64)((address & 0x3ffff) >> 4) | (1ull << 16) | (64ull << 32) | (1ull << 62);
}

DEVICE void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void products_end() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
DEVICE void products_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory"); }

// One step of 64 numbers: 64 rows of A times COLUMNS columns of B, added to the sums, or the first of them.
template <int COLUMNS>
DEVICE void add_products(float (&sums)[COLUMNS / 2], uint32 a, uint32 b, bool first) {
  const uint64 left = operand(a), right = operand(b);
  products_begin();
#pragma unroll
  for (int k = 0; k < 4; k++) {
    if constexpr (COLUMNS == 256) {  // with 512 threads its registers do not fit at once
      wgmma<128>(*(float(*)[64])&sums[0], left + 2 * k, right + 2 * k, !first || k);
      wgmma<128>(*(float(*)[64])&sums[64], left + 2 * k, right + 2 * k + 1024, !first || k);
    } else {
      wgmma<COLUMNS>(sums, left + 2 * k, right + 2 * k, !first || k);
    }
  }
  products_end();
}

// How the warps of a cluster hand tiles to each other: barriers in shared memory, and which stage is next. Pages of a range are decoded in turns by
// the cluster's two CTAs (or all by the only one); who has decoded one copies the tiles into the same stage of the other CTA. A stage is written again
// when the consumers of both have told who writes it next that they are done with it (turn.hpp): then what was copied out of it has arrived, too.
#pragma once

#include "cuda/device/bulk_copy.cuh"
#include "cuda/prefill/turn.hpp"

namespace turboquant::cuda {

// Byte offsets of a CTA's barriers, for up to four slots and stages. `full` ones of tiles are arrived at by one thread, here or in the other CTA; `empty` ones
// by each consuming warp of both CTAs.
struct Barriers {
    std::uint32_t base;
    __device__ std::uint32_t codes(bool values, int slot) const { return base + (values ? 32 : 0) + 8 * slot; }
    __device__ std::uint32_t key_full(int stage) const { return base + 64 + 8 * stage; }
    __device__ std::uint32_t key_empty(int stage) const { return base + 96 + 8 * stage; }
    __device__ std::uint32_t value_full(int stage) const { return base + 128 + 8 * stage; }
    __device__ std::uint32_t value_empty(int stage) const { return base + 160 + 8 * stage; }
};

__device__ __forceinline__ void barrier_init_counted(std::uint32_t barrier, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
template <int kCtas>
__device__ __forceinline__ int cluster_rank() {
    if constexpr (kCtas == 1) return 0;
    std::uint32_t rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return static_cast<int>(rank);
}
// The same place in the shared memory of CTA `rank`, and of the other one.
__device__ __forceinline__ std::uint32_t address_in(std::uint32_t address, std::uint32_t rank) {
    std::uint32_t there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}
__device__ __forceinline__ std::uint32_t other_address(std::uint32_t address) { return address_in(address, cluster_rank<2>() ^ 1); }
// All threads of all CTAs.
template <int kCtas>
__device__ __forceinline__ void meet_cluster() {
    __syncwarp();
    if constexpr (kCtas == 1) __syncthreads();
    else asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// At the barrier of CTA `rank`, by the first lane of a warp, for all of it.
template <int kCtas>
__device__ __forceinline__ void arrive_at(std::uint32_t barrier, std::uint32_t rank) {
    __syncwarp();
    if ((threadIdx.x & 31) != 0) return;
    if constexpr (kCtas == 1) asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
    else asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(address_in(barrier, rank)) : "memory");
}
// A thread says that a tile is complete, and copies it to the other CTA, where the copy says so.
template <int kCtas>
__device__ __forceinline__ void hand_over(std::uint32_t tile, std::uint32_t bytes, std::uint32_t full) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(full) : "memory");
    if constexpr (kCtas == 1) return;
    const std::uint32_t other_full = other_address(full);
    asm volatile("mbarrier.arrive.expect_tx.shared::cluster.b64 _, [%0], %1;" ::"r"(other_full), "r"(bytes) : "memory");
    asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(other_address(tile)), "r"(tile), "r"(bytes),
                 "r"(other_full)
                 : "memory");
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters)); }
template <int kRegisters>
__device__ __forceinline__ void give_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters)); }

}  // namespace turboquant::cuda

// Copies into shared memory as compute capability 8.x has them: cp.async, 16 bytes per lane. A lane waits for its own copies, in groups and in
// the order of their issue; a barrier of the warp makes them everybody's.
#pragma once

#include "cuda/device/warp.cuh"

namespace turboquant::device {

// Calls copy(at) for every 16 bytes of a part that are this lane's. kBytes: a multiple of 16.
template <int kBytes, class Copy>
TQ_DEV void each_chunk(Copy&& copy) {
    static_assert(kBytes % 16 == 0);
    const int own = 16 * lane_id();
    TQ_UNROLL
    for (int at = 0; at < kBytes; at += 512) {
        if (at + 512 <= kBytes || own < kBytes - at) copy(at + own);
    }
}

#ifdef __CUDACC__

// Around the first-level cache; the cache of keys and values is read once: it is the first to leave L2.
template <int kBytes>
TQ_DEV void async_copy(std::uint32_t to, const std::uint8_t* from) {
    std::uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    each_chunk<kBytes>([&](int at) {
        asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to + at), "l"(from + at), "l"(policy) : "memory");
    });
}
// The same for 16 bytes that other CTAs will ask for, too.
TQ_DEV void async_copy16(std::uint32_t to, const std::uint8_t* from) { asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory"); }
TQ_DEV void async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until none of the lane's copies is under way, of a group or not.
TQ_DEV void async_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }
// Until at most kLeft of the lane's groups are under way.
template <int kLeft>
TQ_DEV void async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory"); }

#endif

}  // namespace turboquant::device

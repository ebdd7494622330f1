// Bulk copies into shared memory that complete on a barrier there, and loads and stores that other CTAs see.
#pragma once

#include <cstdint>

#include "cuda/device/dependent_launch.cuh"
#include "cuda/device/shared_memory.cuh"

namespace turboquant::device {

TQ_DEV void barrier_init(std::uint32_t barrier) { asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier)); }
TQ_DEV void barrier_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
TQ_DEV void barrier_expect(std::uint32_t barrier, std::uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
TQ_DEV void barrier_wait(std::uint32_t barrier, std::uint32_t parity) {
    asm volatile(
        "{\n.reg .pred p;\nL_%=:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@!p bra L_%=;\n}" ::"r"(barrier), "r"(parity)
        : "memory");
}
// bytes, source and destination: multiples of 16. The cache is read once: it is the first to leave L2.
TQ_DEV void bulk_copy(std::uint32_t to, const void* from, std::uint32_t bytes, std::uint32_t barrier) {
    std::uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(to), "l"(from),
                 "r"(bytes), "r"(barrier), "l"(policy)
                 : "memory");
}

TQ_DEV unsigned add_acquire_release(unsigned* counter) {
    unsigned before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0,[%1],1;" : "=r"(before) : "l"(counter) : "memory");
    return before;
}
// kNum words side by side, aligned to as many: what other CTAs of the launch write meanwhile, and writing for them. Not ordered with anything.
template <int kNum>
TQ_DEV void load_relaxed(const float* from, std::uint32_t* x) {
    if constexpr (kNum == 4) asm volatile("ld.relaxed.gpu.global.v4.u32 {%0,%1,%2,%3},[%4];" : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "l"(from) : "memory");
    else if constexpr (kNum == 2) asm volatile("ld.relaxed.gpu.global.v2.u32 {%0,%1},[%2];" : "=r"(x[0]), "=r"(x[1]) : "l"(from) : "memory");
    else asm volatile("ld.relaxed.gpu.global.u32 %0,[%1];" : "=r"(x[0]) : "l"(from) : "memory");
}
template <int kNum>
TQ_DEV void store_relaxed(float* to, const std::uint32_t* x) {
    if constexpr (kNum == 4) asm volatile("st.relaxed.gpu.global.v4.u32 [%0],{%1,%2,%3,%4};" ::"l"(to), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]) : "memory");
    else if constexpr (kNum == 2) asm volatile("st.relaxed.gpu.global.v2.u32 [%0],{%1,%2};" ::"l"(to), "r"(x[0]), "r"(x[1]) : "memory");
    else asm volatile("st.relaxed.gpu.global.u32 [%0],%1;" ::"l"(to), "r"(x[0]) : "memory");
}

}  // namespace turboquant::device

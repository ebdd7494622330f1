// Shared memory by its own addresses, and how warps meet there.
#pragma once

#include <cstdint>

#include "cuda/device/warp.cuh"

namespace turboquant::device {

TQ_DEV std::uint32_t shared_address(const void* p) { return static_cast<std::uint32_t>(__cvta_generic_to_shared(p)); }
TQ_DEV std::uint32_t component(const uint4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

TQ_DEV std::uint32_t load_shared4(std::uint32_t address) {
    std::uint32_t v;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(address));
    return v;
}
TQ_DEV uint4 load_shared16(std::uint32_t address) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3},[%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address));
    return v;
}
TQ_DEV uint2 load_shared8(std::uint32_t address) {
    uint2 v;
    asm volatile("ld.shared.v2.u32 {%0,%1},[%2];" : "=r"(v.x), "=r"(v.y) : "r"(address));
    return v;
}
// Four 8 x 8 matrices of 16-bit numbers: lane 8 i + r names row r of matrix i, lane 4 g + t gets numbers 2 t and 2 t + 1 of row g of each.
TQ_DEV void load_matrices(std::uint32_t address, std::uint32_t* v) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];" : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3]) : "r"(address));
}
TQ_DEV void store_shared2(std::uint32_t address, std::uint16_t v) { asm volatile("st.shared.u16 [%0], %1;" ::"r"(address), "h"(v) : "memory"); }
TQ_DEV void store_shared16(std::uint32_t address, const std::uint32_t* v) {
    asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]) : "memory");
}

// A part of a page there.
struct SharedPart {
    std::uint32_t at;
    TQ_DEV std::uint32_t one(unsigned offset) const { return load_shared4(at + offset); }
    TQ_DEV std::uint32_t half(unsigned offset) const {
        std::uint16_t v;
        asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(at + offset));
        return v;
    }
    TQ_DEV void two(unsigned offset, std::uint32_t* w) const {
        const uint2 v = load_shared8(at + offset);
        w[0] = v.x;
        w[1] = v.y;
    }
    TQ_DEV void four(unsigned offset, std::uint32_t* w) const {
        const uint4 v = load_shared16(at + offset);
        w[0] = v.x;
        w[1] = v.y;
        w[2] = v.z;
        w[3] = v.w;
    }
};

// What this thread wrote there becomes visible to the matrix units.
TQ_DEV void publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Some warps of the CTA meet. 0 is __syncthreads.
TQ_DEV void meet_named(int name, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory"); }

// In a register for good: the compiler would read it from a special one, slowly, again and again.
TQ_DEV int own_lane() {
    const int lane = threadIdx.x & 31;
    return __shfl_sync(~0u, lane, lane);
}

}  // namespace turboquant::device

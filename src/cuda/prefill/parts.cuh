// Parts of pages in shared memory, and how they become operands (tiles.cuh): what both kernels share.
#pragma once

#include "cuda/device/rotation.cuh"
#include "cuda/prefill/params.hpp"
#include "cuda/prefill/pipeline.cuh"
#include "cuda/prefill/tiles.cuh"

namespace turboquant::cuda {

extern __shared__ __align__(1024) std::uint8_t prefill_shared[];

struct SharedPart {
    std::uint32_t at;
    __device__ __forceinline__ std::uint32_t one(unsigned offset) const { return load_shared4(at + offset); }
    __device__ __forceinline__ std::uint32_t half(unsigned offset) const {
        std::uint16_t v;
        asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(at + offset));
        return v;
    }
    __device__ __forceinline__ void two(unsigned offset, std::uint32_t* w) const {
        const uint2 v = device::load_shared8(at + offset);
        w[0] = v.x;
        w[1] = v.y;
    }
    __device__ __forceinline__ void four(unsigned offset, std::uint32_t* w) const {
        const uint4 v = device::load_shared16(at + offset);
        w[0] = v.x;
        w[1] = v.y;
        w[2] = v.z;
        w[3] = v.w;
    }
};

// In a register for good: the compiler would read it from a special one, slowly, again and again.
__device__ __forceinline__ int own_lane() {
    const int lane = threadIdx.x & 31;
    return __shfl_sync(~0u, lane, lane);
}

template <int kHeadDim, int kWarps = kProducers, class Store, class Reference>
__device__ __forceinline__ void decode_keys_of(int bits, int warp, int lane, SharedPart part, Reference&& reference, Store&& store) {
    using Tiles = PrefillTiles<kHeadDim>;
    if (bits == 4) Tiles::template decode_keys<4, kWarps>(warp, lane, part, reference, store);
    else if (bits == 3) Tiles::template decode_keys<3, kWarps>(warp, lane, part, reference, store);
    else if (bits == 2) Tiles::template decode_keys<2, kWarps>(warp, lane, part, reference, store);
    else Tiles::template decode_keys<8, kWarps>(warp, lane, part, reference, store);
}
template <int kHeadDim, int kWarps = kProducers, class Store>
__device__ __forceinline__ void decode_values_of(int bits, int warp, int lane, int valid, SharedPart part, Store&& store) {
    using Tiles = PrefillTiles<kHeadDim>;
    if (bits == 4) Tiles::template decode_values<4, kWarps>(warp, lane, valid, part, store);
    else if (bits == 3) Tiles::template decode_values<3, kWarps>(warp, lane, valid, part, store);
    else if (bits == 2) Tiles::template decode_values<2, kWarps>(warp, lane, valid, part, store);
    else Tiles::template decode_values<8, kWarps>(warp, lane, valid, part, store);
}

// The rotated reference of a page less the one that the queries see, where decode_keys looks for it. x[k]: number lane + 32 k, not rotated. A warp.
template <int kHeadDim>
__device__ __forceinline__ void store_reference(const PrefillParams& p, int lane, float* x, std::uint32_t to) {
    constexpr int kNum = PrefillTiles<kHeadDim>::D / 32;
#pragma unroll
    for (int k = 0; k < kNum; ++k) x[k] = lane + 32 * k < kHeadDim ? x[k] : 0.0f;
    device::rotate_strided<kHeadDim>(x, p.a.keys.sign, p.a.keys.paley);
#pragma unroll
    for (int k = 0; k < kNum; ++k) store_shared2(to + 2 * PrefillTiles<kHeadDim>::key_position(lane + 32 * k), device::half_bits(x[k] * (p.a.norm / device::kHalvesUnit)));
}

}  // namespace turboquant::cuda

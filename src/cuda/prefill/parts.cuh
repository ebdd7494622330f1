// Parts of pages in shared memory, and how they become operands (tiles.cuh): what both kernels share.
#pragma once

#include "cuda/device/rotation.cuh"
#include "cuda/prefill/params.hpp"
#include "cuda/prefill/pipeline.cuh"
#include "cuda/prefill/tiles.cuh"

namespace turboquant::cuda {

extern __shared__ __align__(1024) std::uint8_t prefill_shared[];

template <int kHeadDim, int kWarps = kProducers, class Store, class Reference>
__device__ __forceinline__ void decode_keys_of(int bits, int warp, int lane, device::SharedPart part, Reference&& reference, Store&& store) {
    using Tiles = PrefillTiles<kHeadDim>;
    if (bits == 4) Tiles::template decode_keys<4, kWarps>(warp, lane, part, reference, store);
    else if (bits == 3) Tiles::template decode_keys<3, kWarps>(warp, lane, part, reference, store);
    else if (bits == 2) Tiles::template decode_keys<2, kWarps>(warp, lane, part, reference, store);
    else Tiles::template decode_keys<8, kWarps>(warp, lane, part, reference, store);
}
template <int kHeadDim, int kWarps = kProducers, class Store>
__device__ __forceinline__ void decode_values_of(int bits, int warp, int lane, int valid, device::SharedPart part, Store&& store) {
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
    for (int k = 0; k < kNum; ++k) device::store_shared2(to + 2 * PrefillTiles<kHeadDim>::key_position(lane + 32 * k), device::half_bits(x[k] * (p.a.norm / device::kHalvesUnit)));
}

}  // namespace turboquant::cuda

// The producing warpgroup: pages of codes come in through a ring of bulk copies and leave as tiles of binary16 numbers (tiles.cuh). The keys'
// references become part of them: rotated, less the reference of the range's first page, which the queries see once (consume.cuh).
#pragma once

#include "cuda/device/rotation.cuh"
#include "cuda/prefill/params.hpp"
#include "cuda/prefill/pipeline.cuh"
#include "cuda/prefill/plan.cuh"
#include "cuda/prefill/policy.hpp"
#include "cuda/prefill/tiles.cuh"

namespace turboquant::cuda {

struct SharedPart {
    std::uint32_t at;
    __device__ __forceinline__ std::uint32_t one(int offset) const { return load_shared4(at + offset); }
    __device__ __forceinline__ std::uint32_t half(int offset) const {
        std::uint16_t v;
        asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(at + offset));
        return v;
    }
    __device__ __forceinline__ void two(int offset, std::uint32_t* w) const {
        const uint2 v = device::load_shared8(at + offset);
        w[0] = v.x;
        w[1] = v.y;
    }
    __device__ __forceinline__ void four(int offset, std::uint32_t* w) const {
        const uint4 v = device::load_shared16(at + offset);
        w[0] = v.x;
        w[1] = v.y;
        w[2] = v.z;
        w[3] = v.w;
    }
};

// Copies pages into the ring, in the order of the CTA's items. In shared memory, for one lane: registers are short.
template <int kRows>
struct PageCopies {
    PrefillUnit<kRows> unit;
    std::uint32_t item, end;
    std::uint64_t blob;              // of `item`, looked up one page ahead

    __device__ void issue(const PrefillParams& p, std::uint32_t to, std::uint32_t barrier) {
        if (item == end) return;
        device::barrier_expect(barrier, p.blob_bytes);
        device::bulk_copy(to, p.a.pool + blob * 128, p.blob_bytes, barrier);
        if (++item == end) return;
        if (item == unit.end()) unit.advance(p.a);
        blob = unit.blob(p.a, item);
    }
};

template <int kHeadDim, class Store, class Reference>
__device__ __forceinline__ void decode_keys_of(int bits, int warp, int lane, SharedPart part, Reference&& reference, Store&& store) {
    using Tiles = PrefillTiles<kHeadDim>;
    if (bits == 4) Tiles::template decode_keys<4>(warp, lane, part, reference, store);
    else if (bits == 3) Tiles::template decode_keys<3>(warp, lane, part, reference, store);
    else if (bits == 2) Tiles::template decode_keys<2>(warp, lane, part, reference, store);
    else Tiles::template decode_keys<8>(warp, lane, part, reference, store);
}
template <int kHeadDim, class Store>
__device__ __forceinline__ void decode_values_of(int bits, int warp, int lane, int valid, SharedPart part, Store&& store) {
    using Tiles = PrefillTiles<kHeadDim>;
    if (bits == 4) Tiles::template decode_values<4>(warp, lane, valid, part, store);
    else if (bits == 3) Tiles::template decode_values<3>(warp, lane, valid, part, store);
    else if (bits == 2) Tiles::template decode_values<2>(warp, lane, valid, part, store);
    else Tiles::template decode_values<8>(warp, lane, valid, part, store);
}

template <int kHeadDim>
__device__ __forceinline__ void produce(const PrefillParams& p, const PrefillPlan& plan, std::uint32_t begin, std::uint32_t end, std::uint8_t* shared) {
    using Shape = PrefillShape<kHeadDim>;
    using Tiles = PrefillTiles<kHeadDim>;
    constexpr int D = Shape::D, kNum = D / 32, kProducerName = 1;
    const std::uint32_t memory = device::shared_address(shared);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5 & 3;
    const Barriers barriers{memory + static_cast<std::uint32_t>(Shape::kBarriers)};
    const std::uint32_t ring = memory + static_cast<std::uint32_t>(Shape::kRing), references = memory + static_cast<std::uint32_t>(Shape::kReferencesAt);
    auto* copies = reinterpret_cast<PageCopies<Shape::kRows>*>(shared + Shape::kCopies);
    static_assert(sizeof *copies <= 128);

    PrefillUnit<Shape::kRows> unit;
    unit.find(p.a, plan.starts, begin);
    if (threadIdx.x == 0) {
        *copies = {unit, begin, end, unit.blob(p.a, begin)};
        for (int s = 0; s < p.slots; ++s) copies->issue(p, ring + s * p.blob_bytes, barriers.codes(s));
    }
    Turn<Shape::kKeyStages> keys;
    Turn<Shape::kValueStages> values;
    int slot = 0;
    std::uint32_t slot_phase = 0, base = begin, stop = 0;
    std::uint16_t raw[kNum];
    const auto fetch = [&](std::uint32_t item) {
        const auto* from = reinterpret_cast<const std::uint16_t*>(p.a.pool + unit.blob(p.a, item) * 128 + p.layout.keys().reference_offset());
#pragma unroll
        for (int k = 0; k < kNum; ++k) raw[k] = from[lane + 32 * k];
    };
    // Rotates what `raw` has above the first page's reference, and puts it where page `place` of the eight has its own.
    const auto settle = [&](int place) {
        float x[kNum];
#pragma unroll
        for (int k = 0; k < kNum; ++k) x[k] = device::half_value(raw[k]) - device::half_value(static_cast<std::uint16_t>(SharedPart{references}.half(2 * (8 * D + lane + 32 * k))));
#pragma unroll
        for (int k = 0; k < kNum; ++k) x[k] = lane + 32 * k < kHeadDim ? x[k] : 0.0f;
        device::rotate_strided<kHeadDim>(x, p.a.keys.sign, p.a.keys.paley);
#pragma unroll
        for (int k = 0; k < kNum; ++k) {
            store_shared2(references + 2 * (place * D + Tiles::key_position(lane + 32 * k)), device::half_bits(x[k] * (p.a.norm / device::kHalvesUnit)));
        }
    };
#pragma unroll 1
    for (std::uint32_t item = begin; item < end; ++item) {
        if (item == begin || item == unit.end()) {
            if (item != begin) unit.advance(p.a);
            base = item;
            stop = min(unit.end(), end);
            if (warp == 0) {
                fetch(base);
#pragma unroll
                for (int k = 0; k < kNum; ++k) store_shared2(references + 2 * (8 * D + lane + 32 * k), raw[k]);
            }
            meet_named(kProducerName, 128);
            if (base + warp < stop) {
                fetch(base + warp);
                settle(warp);
            }
            meet_named(kProducerName, 128);
        }
        asm volatile("" : "+r"(lane), "+r"(warp));  // addresses are worked out page by page: kept, they would not fit the registers
        const int page = static_cast<int>(item - base);
        const bool more = base + (page & ~3) + 4 + warp < stop;
        if (page % 4 == 0 && more) fetch(item + 4 + warp);
        device::barrier_wait(barriers.codes(slot), slot_phase);
        const std::uint32_t codes = ring + slot * p.blob_bytes, own_reference = references + 2 * (page & 7) * D;

        device::barrier_wait(barriers.key_empty(keys.stage), keys.phase ^ 1);
        const std::uint32_t key_tile = memory + keys.stage * static_cast<std::uint32_t>(Shape::kKeyTile);
        decode_keys_of<kHeadDim>(
            p.layout.key_bits, warp, lane, SharedPart{codes}, [&](int chunk, std::uint32_t* words) { SharedPart{own_reference}.four(16 * chunk, words); },
            [&](int at, const std::uint32_t* four) { store_shared16(key_tile + at, four); });
        publish();
        arrive(barriers.key_full(keys.stage));
        keys.next();

        device::barrier_wait(barriers.value_empty(values.stage), values.phase ^ 1);
        const std::uint32_t value_tile = memory + static_cast<std::uint32_t>(Shape::kValues) + values.stage * static_cast<std::uint32_t>(Shape::kValueTile);
        const int valid = unit.length - (unit.pages.first + static_cast<int>(item - unit.start)) * kPageTokens;
        decode_values_of<kHeadDim>(p.layout.value_bits, warp, lane, valid, SharedPart{codes + static_cast<std::uint32_t>(p.layout.offset(Side::value))},
                                   [&](int at, const std::uint32_t* four) { store_shared16(value_tile + at, four); });
        publish();
        arrive(barriers.value_full(values.stage));
        values.next();

        if (page % 4 == 3 && more) settle(((page + 1) & 4) + warp);
        meet_named(kProducerName, 128);
        if (threadIdx.x == 0) copies->issue(p, codes, barriers.codes(slot));
        __syncwarp();
        if (++slot == p.slots) {
            slot = 0;
            slot_phase ^= 1;
        }
    }
}

}  // namespace turboquant::cuda

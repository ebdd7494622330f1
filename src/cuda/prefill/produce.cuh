// The producing warpgroups, one for keys and one for values: parts of pages come in through a ring of bulk copies and leave as tiles of
// binary16 numbers (tiles.cuh), for both CTAs of a cluster (pipeline.cuh): each has every other page of the range. The keys' references become part
// of them: rotated, less the reference of the range's first page, which the queries see once (rows.cuh).
#pragma once

#include "cuda/prefill/parts.cuh"
#include "cuda/prefill/plan.cuh"
#include "cuda/prefill/policy.hpp"

namespace turboquant::cuda {

// The ring of one side: slots in turn, each with its barrier, for the CTA's own pages. The first warp keeps it filled; its way through the units is in shared memory,
// but for what every page needs.
template <int kHeadDim, bool kValues>
struct CodeRing {
    using Shape = PrefillShape<kHeadDim>;
    using Unit = PrefillUnit<Shape::kRows>;
    static_assert(sizeof(Unit) <= 128);
    static constexpr int kName = kValues ? 2 : 1;  // of the warpgroup's meetings

    const PrefillParams& p;
    std::uint32_t memory;            // shared address
    int slot = 0;
    std::uint32_t phase = 0;
    std::uint32_t next = 0, next_stop = 0, end = 0;  // item to be copied; end of its unit, and of all
    const std::int32_t* pages = nullptr;             // its unit's row of the block table, counted from item 0
    std::uint32_t head_units = 0;
    std::int32_t page = 0;                           // of `next`: looked up one page ahead

    __device__ CodeRing(const PrefillParams& params, std::uint32_t memory_at) : p(params), memory(memory_at) {}
    __device__ std::uint32_t barrier(int s) const { return Barriers{memory + static_cast<std::uint32_t>(Shape::kBarriers)}.codes(kValues, s); }
    __device__ std::uint32_t at(int s) const {
        return memory + static_cast<std::uint32_t>(Shape::kRing) + (kValues ? p.slots * p.slot_bytes[0] + s * p.slot_bytes[1] : s * p.slot_bytes[0]);
    }
    static __device__ Unit* cursor() { return reinterpret_cast<Unit*>(prefill_shared + Shape::kCopies + (kValues ? 128 : 0)); }
    static __device__ bool first_warp() { return (threadIdx.x & 96) == 0; }

    __device__ void enter(const Unit& unit) {
        next_stop = min(unit.end(), end);
        pages = p.a.block_table + static_cast<std::int64_t>(unit.sequence) * p.a.table_stride + unit.pages.first - static_cast<std::int64_t>(unit.start);
        head_units = unit.head * p.a.head_units;
        __syncwarp();
        if ((threadIdx.x & 31) == 0) *cursor() = unit;
        __syncwarp();
    }
    // On to the unit that has item `next`.
    __device__ void enter_next(Unit unit) {
        while (next >= unit.end()) unit.advance(p.a);
        enter(unit);
        page = pages[next];
    }
    __device__ void issue(int s) {
        if (next >= end) return;
        if ((threadIdx.x & 31) == 0) {
            const std::uint64_t blob = static_cast<std::uint64_t>(static_cast<std::uint32_t>(page)) * p.a.page_units + head_units;
            device::barrier_expect(barrier(s), p.part_bytes[kValues]);
            device::bulk_copy(at(s), p.a.pool + blob * 128 + (kValues ? p.part_bytes[0] : 0), p.part_bytes[kValues], barrier(s));
        }
        next += Shape::kCtas;
        if (next >= end) return;
        if (next >= next_stop) enter_next(*cursor());
        else page = pages[next];
    }
    // unit: has the range's first item; first: the CTA's own first one.
    __device__ void start(const Unit& unit, std::uint32_t first, std::uint32_t range_end) {
        next = first;
        end = range_end;
        if (!first_warp() || next >= end) return;
        enter_next(unit);
        for (int s = 0; s < p.slots; ++s) issue(s);
    }
    __device__ device::SharedPart take() const {
        device::barrier_wait(barrier(slot), phase);
        return {at(slot)};
    }
    // The warpgroup has made a tile of the part.
    __device__ void release(std::uint32_t tile, std::uint32_t bytes, std::uint32_t full) {
        device::publish();
        device::meet_named(kName, 128);
        if (first_warp()) {
            if ((threadIdx.x & 31) == 0) hand_over<Shape::kCtas>(tile, bytes, full);
            issue(slot);
        }
        if (++slot == p.slots) {
            slot = 0;
            phase ^= 1;
        }
    }
};

template <int kHeadDim>
__device__ __forceinline__ void produce_values(const PrefillParams& p, const PrefillPlan& plan, std::uint32_t begin, std::uint32_t end) {
    using Shape = PrefillShape<kHeadDim>;
    const std::uint32_t memory = device::shared_address(prefill_shared);
    int lane = device::own_lane(), warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) >> 5 & 3, 0);
    const Barriers barriers{memory + static_cast<std::uint32_t>(Shape::kBarriers)};
    PrefillUnit<Shape::kRows> unit;
    unit.find(p.a, plan.starts, begin);
    CodeRing<kHeadDim, true> ring(p, memory);
    Turn<Shape::kValueStages, Shape::kCtas> turn;
    const int rank = cluster_rank<Shape::kCtas>();
    turn.skip(rank);
    ring.start(unit, begin + rank, end);
#pragma unroll 1
    for (std::uint32_t item = begin + rank; item < end; item += Shape::kCtas) {
        while (item >= unit.end()) unit.advance(p.a);
        asm volatile("" : "+r"(lane), "+r"(warp));  // addresses are worked out page by page: kept, they would not fit the registers
        const device::SharedPart part = ring.take();
        device::barrier_wait(barriers.value_empty(turn.stage), turn.empty_phase());
        const std::uint32_t tile = memory + static_cast<std::uint32_t>(Shape::kValues) + turn.stage * static_cast<std::uint32_t>(Shape::kValueTile);
        const int valid = unit.length - (unit.pages.first + static_cast<int>(item - unit.start)) * kPageTokens;
        decode_values_of<kHeadDim>(p.layout.value_bits, warp, lane, valid, part, [&](unsigned at, const std::uint32_t* four) { device::store_shared16(tile + at, four); });
        ring.release(tile, static_cast<std::uint32_t>(Shape::kValueTile), barriers.value_full(turn.stage));
        turn.skip(Shape::kCtas);
    }
}

template <int kHeadDim>
__device__ __forceinline__ void produce_keys(const PrefillParams& p, const PrefillPlan& plan, std::uint32_t begin, std::uint32_t end) {
    using Shape = PrefillShape<kHeadDim>;
    constexpr int D = Shape::D, kNum = D / 32;
    const std::uint32_t memory = device::shared_address(prefill_shared), references = memory + static_cast<std::uint32_t>(Shape::kReferencesAt);
    int lane = device::own_lane(), warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) >> 5 & 3, 0);
    const Barriers barriers{memory + static_cast<std::uint32_t>(Shape::kBarriers)};
    PrefillUnit<Shape::kRows> unit;
    unit.find(p.a, plan.starts, begin);
    CodeRing<kHeadDim, false> ring(p, memory);
    Turn<Shape::kKeyStages, Shape::kCtas> turn;
    const int rank = cluster_rank<Shape::kCtas>();
    turn.skip(rank);
    ring.start(unit, begin + rank, end);
    std::uint32_t first = 0, stop = 0;   // the CTA's own first page of the unit, in its range, and where the unit ends there
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
        for (int k = 0; k < kNum; ++k) x[k] = device::half_value(raw[k]) - device::half_value(static_cast<std::uint16_t>(device::SharedPart{references}.half(2 * (8 * D + lane + 32 * k))));
        store_reference<kHeadDim>(p, lane, x, references + 2 * place * D);
    };
#pragma unroll 1
    for (std::uint32_t item = begin + rank; item < end; item += Shape::kCtas) {
        asm volatile("" : "+r"(lane), "+r"(warp));
        if (item >= stop) {
            while (item >= unit.end()) unit.advance(p.a);
            first = item;
            stop = min(unit.end(), end);
            if (warp == 0) {
                fetch(max(unit.start, begin));
#pragma unroll
                for (int k = 0; k < kNum; ++k) device::store_shared2(references + 2 * (8 * D + lane + 32 * k), raw[k]);
            }
            device::meet_named(ring.kName, 128);
            if (first + Shape::kCtas * warp < stop) {
                fetch(first + Shape::kCtas * warp);
                settle(warp);
            }
            device::meet_named(ring.kName, 128);
        }
        const unsigned page = (item - first) / Shape::kCtas;
        const bool more = first + Shape::kCtas * ((page & ~3u) + 4 + warp) < stop;
        if (page % 4 == 0 && more) fetch(item + Shape::kCtas * (4 + warp));
        const device::SharedPart part = ring.take();
        device::barrier_wait(barriers.key_empty(turn.stage), turn.empty_phase());
        const std::uint32_t tile = memory + turn.stage * static_cast<std::uint32_t>(Shape::kKeyTile), own_reference = references + 2 * (page & 7) * D;
        decode_keys_of<kHeadDim>(
            p.layout.key_bits, warp, lane, part, [&](unsigned chunk, std::uint32_t* words) { device::SharedPart{own_reference}.four(16 * chunk, words); },
            [&](unsigned at, const std::uint32_t* four) { device::store_shared16(tile + at, four); });
        if (page % 4 == 3 && more) settle(((page + 1) & 4) + warp);
        ring.release(tile, static_cast<std::uint32_t>(Shape::kKeyTile), barriers.key_full(turn.stage));
        turn.skip(Shape::kCtas);
    }
}

}  // namespace turboquant::cuda

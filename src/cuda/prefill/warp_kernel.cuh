// Attention of many query rows on compressed pages, for GPUs without warpgroup instructions: compute capability 8.0 and newer. All warps of a CTA have
// rows and decode. Two stages of tiles: while all multiply with a page, half of the warps first decode the next page's values, the other half lastly its
// keys, and each half lets its part of the page after come in (cp.async); then all meet. One tile, where there is no memory for more: keys and values
// take turns in it, and all warps decode between two meetings. The second kernel is join.cuh's.
#pragma once

#include "cuda/device/async_copy.cuh"
#include "cuda/prefill/rows.cuh"
#include "cuda/prefill/warp_policy.hpp"
#include "cuda/prefill/warp_products.cuh"

namespace turboquant::cuda {

template <int kHeadDim, Target kTarget>
struct WarpPrefill {
    using Shape = WarpPrefillShape<kHeadDim, kTarget>;
    using Unit = PrefillUnit<Shape::kRows>;
    using Products = WarpProducts<kHeadDim>;
    static constexpr int D = Shape::D, kNum = D / 32;

    const PrefillParams& p;
    std::uint32_t memory;                // shared address
    QueryRows<kHeadDim, Shape> rows;
    QueryRows<kHeadDim, Shape, 1> more_rows;  // where a warp has two tiles of rows
    const std::int32_t* pages;           // the piece's part of the block table
    std::uint32_t head_units;
    int num;                             // pages of the piece

    __device__ __forceinline__ explicit WarpPrefill(const PrefillParams& params) : p(params), memory(device::shared_address(prefill_shared)), rows{params}, more_rows{params} {}

    template <class Work>
    __device__ __forceinline__ void each_tile(Work&& work) {
        work(rows, 0);
        if constexpr (Shape::kRowTiles == 2) work(more_rows, 1);
    }
    static __device__ __forceinline__ int warp() { return threadIdx.x >> 5; }
    __device__ __forceinline__ const std::uint8_t* blob(std::int32_t page) const {
        return p.a.pool + (static_cast<std::uint64_t>(static_cast<std::uint32_t>(page)) * p.a.page_units + head_units) * 128;
    }
    // Of the references: one that comes in and the piece's first page's, not rotated, then two rotated ones in turn.
    static constexpr int kIncoming = 0, kBase = 1, kRotated = 2;
    __device__ __forceinline__ std::uint32_t reference(int which) const { return memory + static_cast<std::uint32_t>(Shape::kReferencesAt + which * Shape::kReference); }
    __device__ __forceinline__ std::uint32_t part(bool values) const { return memory + static_cast<std::uint32_t>(Shape::kParts) + (Shape::kStages == 2 && values ? p.slot_bytes[0] : 0); }
    // Of page `item`.
    __device__ __forceinline__ std::uint32_t tile(bool values, int item) const {
        return memory + static_cast<std::uint32_t>((values ? Shape::kValues : 0) + (item & (Shape::kStages - 1)) * Shape::kStage);
    }

    // With two stages values are the first warps' affair, keys the others'; with one everything is everybody's.
    static __device__ __forceinline__ bool makes(bool values) { return Shape::kStages == 1 || (warp() < Shape::kDecoders) == values; }
    static constexpr int kTeam = 32 * Shape::kDecoders;  // threads
    // Two stages: what the threads that make a part copied and wrote so far is there for all of them.
    __device__ __forceinline__ void meet_team(bool values) const { device::meet_named(values ? 1 : 2, kTeam); }
    __device__ __forceinline__ void copy_part(bool values, std::int32_t page) const {
        const std::uint8_t* from = blob(page) + (values ? p.part_bytes[0] : 0);
        const std::uint32_t to = part(values), bytes = p.part_bytes[values];
        for (std::uint32_t at = 16 * (threadIdx.x % kTeam); at < bytes; at += 16 * kTeam) device::async_copy16(to + at, from + at);
    }
    // A warp copies a page's reference, and, when that is there, puts what it has above the first one where decode_keys reads it.
    __device__ __forceinline__ void copy_reference(std::int32_t page, int which) const {
        const int at = 16 * (threadIdx.x & 31);
        if (at < static_cast<int>(Shape::kReference)) device::async_copy16(reference(which) + at, blob(page) + p.layout.keys().reference_offset() + at);
    }
    __device__ __forceinline__ void settle(int item) const {
        const int lane = threadIdx.x & 31;
        float x[kNum];
#pragma unroll
        for (int k = 0; k < kNum; ++k) {
            const auto number = [&](int which) { return device::half_value(static_cast<std::uint16_t>(device::SharedPart{reference(which)}.half(2 * (lane + 32 * k)))); };
            x[k] = number(kIncoming) - number(kBase);
        }
        store_reference<kHeadDim>(p, lane, x, reference(kRotated + (item & 1)));
    }
    // Whose turn it is to look after a reference.
    static __device__ __forceinline__ bool own_turn(int item) { return warp() == (item & (Shape::kWarps / 2 - 1)); }

    // valid: values from there on count as zero.
    __device__ __forceinline__ void decode(bool values, int item, int valid) const {
        const std::uint32_t to = tile(values, item);
        const auto store = [&](unsigned at, const std::uint32_t* four) { device::store_shared16(to + at, four); };
        if (values) {
            decode_values_of<kHeadDim, Shape::kDecoders>(p.layout.value_bits, warp(), threadIdx.x & 31, valid, device::SharedPart{part(true)}, store);
        } else {
            const std::uint32_t plus = reference(kRotated + (item & 1));
            decode_keys_of<kHeadDim, Shape::kDecoders>(p.layout.key_bits, warp(), threadIdx.x & 31, device::SharedPart{part(false)},
                                                       [&](unsigned chunk, std::uint32_t* words) { device::SharedPart{plus}.four(16 * chunk, words); }, store);
        }
    }

    __device__ __forceinline__ void score(float (*s)[32], int item) const {
        const std::uint32_t keys = tile(false, item);
        Products::template score<Shape::kRowTiles>(
            s,
            [&](int which, int step, std::uint32_t* a) {
                if (step < Shape::kSteps - Shape::kRegisterSteps) {
                    const std::uint32_t queries = which == 0 ? rows.queries(threadIdx.x) : more_rows.queries(threadIdx.x);
                    Products::load_rows(16 * (warp() & 3), step, a, [&](unsigned at, std::uint32_t* four) { device::load_matrices(queries + at, four); });
                } else {
                    static_assert(Shape::kRegisterSteps == 0 || Shape::kRowTiles == 1);
#pragma unroll
                    for (int i = 0; i < 4; ++i) a[i] = rows.q[Shape::kRegisterSteps > 0 ? step - (Shape::kSteps - Shape::kRegisterSteps) : 0][i];
                }
            },
            [&](unsigned at, std::uint32_t* four) { device::load_matrices(keys + at, four); });
    }
    // Scores become weights.
    __device__ __forceinline__ void soften(float (*s)[32], int token, std::uint32_t (*weights)[16]) {
        each_tile([&](auto& tile, int which) {
            float factor[2];
            if (tile.soften(s[which], token, factor)) tile.rescale(factor);
            tile.pack(s[which], weights[which]);
        });
    }
    __device__ __forceinline__ void add_values(const std::uint32_t (*weights)[16], int item) {
        const std::uint32_t values = tile(true, item);
        Products::template add_values<Shape::kRowTiles>([&](int which) { return which == 0 ? rows.out : more_rows.out; }, weights,
                                                        [&](unsigned at, std::uint32_t* four) { device::load_matrices(values + at, four); });
    }

    // A team decodes its part of page `item`, which is there, and lets that of the next page come in.
    __device__ __forceinline__ void make(bool values, int item, int valid, std::int32_t following) const {
        decode(values, item, valid);
        meet_team(values);
        if (item + 1 < num) copy_part(values, following);
    }
    __device__ __forceinline__ void make_next(bool values, int item, int valid, std::int32_t following) const {
        device::async_wait_all();
        meet_team(values);
        make(values, item, valid, following);
    }

    // The unit's pages from item `first` on, `count` of them, for all of its rows.
    __device__ __forceinline__ void walk(const Unit& unit, std::uint32_t first, int count) {
        const int skipped = static_cast<int>(first - unit.start);
        num = count;
        head_units = unit.head * p.a.head_units;
        pages = p.a.block_table + static_cast<std::int64_t>(unit.sequence) * p.a.table_stride + unit.pages.first + skipped;
        const auto page_at = [&](int i) { return i < num ? pages[i] : 0; };
        std::int32_t now = page_at(0), next = page_at(1), after = page_at(2), last = page_at(3);
        if (makes(false)) copy_part(false, now);
        if (Shape::kStages == 2 && makes(true)) copy_part(true, now);
        if (own_turn(0)) {
            copy_reference(now, kBase);
            if (num > 1) copy_reference(next, kIncoming);
        }
        each_tile([&](auto& tile, int) { tile.start(unit, reinterpret_cast<const std::uint16_t*>(blob(now) + p.layout.keys().reference_offset())); });
        if (threadIdx.x < Shape::kReference / 16) {
            const std::uint32_t zero[4] = {0, 0, 0, 0};
            device::store_shared16(reference(kRotated) + 16 * threadIdx.x, zero);
        }
        device::async_wait_all();
        __syncthreads();
        int token = (unit.pages.first + skipped) * kPageTokens;
        const int length = unit.length;
        if constexpr (Shape::kStages == 2) {
            if (makes(true)) make(true, 0, length - token, next);
            else make(false, 0, 0, next);
        } else {
            decode(false, 0, 0);
        }
        if (own_turn(0) && num > 1) settle(1);
        __syncthreads();
#pragma unroll 1
        for (int i = 0; i < num; ++i, token += kPageTokens) {
            const bool more = i + 1 < num, reference_turn = i + 2 < num && own_turn(i);
            float scores[Shape::kRowTiles][32];
            std::uint32_t weights[Shape::kRowTiles][16];
            if constexpr (Shape::kStages == 2) {
                // Half of the warps decode first, the others last, so that some always multiply.
                if (more && makes(true)) make_next(true, i + 1, length - token - kPageTokens, after);
                if (reference_turn) copy_reference(after, kIncoming);
                score(scores, i);
                soften(scores, token, weights);
                add_values(weights, i);
                if (more && makes(false)) make_next(false, i + 1, 0, after);
                if (reference_turn) {
                    device::async_wait_all();
                    __syncwarp();
                    settle(i + 2);
                }
            } else {
                copy_part(true, now);
                if (reference_turn) copy_reference(after, kIncoming);
                score(scores, i);
                soften(scores, token, weights);
                device::async_wait_all();
                __syncthreads();
                decode(true, i, length - token);
                __syncthreads();
                if (more) copy_part(false, next);
                if (reference_turn) settle(i + 2);
                add_values(weights, i);
                device::async_wait_all();
                __syncthreads();
                if (more) decode(false, i + 1, 0);
            }
            __syncthreads();
            now = next;
            next = after;
            after = last;
            last = page_at(i + 4);
        }
    }
};

template <int kHeadDim, Target kTarget>
__global__ void __launch_bounds__(WarpPrefillShape<kHeadDim, kTarget>::kThreads, 1) warp_prefill_kernel(const __grid_constant__ PrefillParams p) {
    using Shape = WarpPrefillShape<kHeadDim, kTarget>;
    if (p.a.early) device::wait_for_predecessor();
    const PrefillPlan plan = make_prefill_plan<Shape::kRows>(p.a, gridDim.x, reinterpret_cast<std::uint32_t*>(prefill_shared + Shape::kStarts));
    write_unanswered<kHeadDim>(p.a);
    if (blockIdx.x >= plan.grid) return;
    WarpPrefill<kHeadDim, kTarget> work(p);
    using Way = PrefillWay<Shape::kRows>;
    static_assert(sizeof(Way) <= kWayBytes);
    Way* const kept = reinterpret_cast<Way*>(prefill_shared + Shape::kWays + threadIdx.x / 32 * kWayBytes);
    Way::start(p.a, plan, blockIdx.x, kept);
    Way way;
#pragma unroll 1
    do {
        way = *kept;
        work.walk(way.unit, way.item, static_cast<int>(way.stop() - way.item));
        way = *kept;
        float* const piece = p.a.partials + (2 * static_cast<std::size_t>(blockIdx.x) + (way.begins() ? 1 : 0)) * Shape::kPartial;
        work.each_tile([&](auto& tile, int) { tile.finish(way.unit, way.complete(), piece); });
    } while (way.next(p.a, kept));
}

}  // namespace turboquant::cuda

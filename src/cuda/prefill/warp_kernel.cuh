// Attention of many query rows on compressed pages, for GPUs without warpgroup instructions: compute capability 8.0 and newer. All warps of a CTA have
// rows and decode. Of a page, keys and values are parts that become a tile each; while warps multiply with one part, the next comes in (cp.async), and
// where there are two tiles half of the warps first decode the part after. Then all meet. The second kernel is join.cuh's.
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
    const std::int32_t* pages;           // the piece's part of the block table
    std::uint32_t head_units;
    int num;                             // pages of the piece

    __device__ __forceinline__ explicit WarpPrefill(const PrefillParams& params) : p(params), memory(device::shared_address(prefill_shared)), rows{params} {}

    static __device__ __forceinline__ int warp() { return threadIdx.x >> 5; }
    __device__ __forceinline__ const std::uint8_t* blob(std::int32_t page) const {
        return p.a.pool + (static_cast<std::uint64_t>(static_cast<std::uint32_t>(page)) * p.a.page_units + head_units) * 128;
    }
    __device__ __forceinline__ std::uint32_t part(bool values) const {
        return memory + static_cast<std::uint32_t>(Shape::kParts) + (Shape::kTwoTiles && values ? p.slot_bytes[0] : 0);
    }
    __device__ __forceinline__ std::uint32_t raw_reference(int which) const { return memory + static_cast<std::uint32_t>(Shape::kReferencesAt + which * Shape::kReference); }
    static constexpr int kBase = 2, kRotated = 3;  // of the references

    // All threads together.
    __device__ __forceinline__ void copy_part(bool values, std::int32_t page) const {
        const std::uint8_t* from = blob(page) + (values ? p.part_bytes[0] : 0);
        const std::uint32_t to = part(values), bytes = p.part_bytes[values];
        for (std::uint32_t at = 16 * threadIdx.x; at < bytes; at += 16 * Shape::kThreads) device::async_copy16(to + at, from + at);
    }
    __device__ __forceinline__ void copy_reference(std::int32_t page, int which) const {
        if (threadIdx.x < D / 8) device::async_copy16(raw_reference(which) + 16 * threadIdx.x, blob(page) + p.layout.keys().reference_offset() + 16 * threadIdx.x);
    }
    // What all threads copied and wrote so far is there for all.
    __device__ __forceinline__ void meet() const {
        device::async_wait<0>();
        __syncthreads();
    }
    // A warp puts the difference of a page's reference and the first one's where decode_keys reads it.
    __device__ __forceinline__ void settle(int which) const {
        const int lane = threadIdx.x & 31;
        float x[kNum];
#pragma unroll
        for (int k = 0; k < kNum; ++k) {
            const auto number = [&](int i) { return device::half_value(static_cast<std::uint16_t>(SharedPart{raw_reference(i)}.half(2 * (lane + 32 * k)))); };
            x[k] = number(which) - number(kBase);
        }
        store_reference<kHeadDim>(p, lane, x, raw_reference(kRotated));
    }
    __device__ __forceinline__ void decode_keys() const {
        const std::uint32_t reference = raw_reference(kRotated), tile = memory;
        decode_keys_of<kHeadDim, Shape::kDecoders>(
            p.layout.key_bits, warp(), threadIdx.x & 31, SharedPart{part(false)}, [&](unsigned chunk, std::uint32_t* words) { SharedPart{reference}.four(16 * chunk, words); },
            [&](unsigned at, const std::uint32_t* four) { store_shared16(tile + at, four); });
    }
    // valid: tokens from there on count as zero.
    __device__ __forceinline__ void decode_values(int valid) const {
        const std::uint32_t tile = memory + static_cast<std::uint32_t>(Shape::kValues);
        decode_values_of<kHeadDim, Shape::kDecoders>(p.layout.value_bits, warp(), threadIdx.x & 31, valid, SharedPart{part(true)},
                                                     [&](unsigned at, const std::uint32_t* four) { store_shared16(tile + at, four); });
    }
    // Where there are two tiles: values are the first warps' affair, keys the others'.
    __device__ __forceinline__ bool decodes(bool values) const { return (warp() < Shape::kDecoders) == values; }

    __device__ __forceinline__ void score(float* s) const {
        Products::score(
            s,
            [&](int step, std::uint32_t* a) {
                if (step < Shape::kSteps - Shape::kRegisterSteps) {
                    Products::load_rows(16 * (warp() & 3), step, a, [&](unsigned at, std::uint32_t* four) { device::load_matrices(rows.queries(threadIdx.x) + at, four); });
                } else {
#pragma unroll
                    for (int i = 0; i < 4; ++i) a[i] = rows.q[Shape::kRegisterSteps > 0 ? step - (Shape::kSteps - Shape::kRegisterSteps) : 0][i];
                }
            },
            [&](unsigned at, std::uint32_t* four) { device::load_matrices(memory + at, four); });
    }
    __device__ __forceinline__ void add_values(const std::uint32_t* weights) {
        const std::uint32_t tile = memory + static_cast<std::uint32_t>(Shape::kValues);
        Products::add_values(rows.out, weights, [&](unsigned at, std::uint32_t* four) { device::load_matrices(tile + at, four); });
    }

    // The unit's pages from item `first` on, `count` of them, for all of its rows.
    __device__ __forceinline__ void walk(const Unit& unit, std::uint32_t first, int count) {
        const int skipped = static_cast<int>(first - unit.start);
        num = count;
        head_units = unit.head * p.a.head_units;
        pages = p.a.block_table + static_cast<std::int64_t>(unit.sequence) * p.a.table_stride + unit.pages.first + skipped;
        const auto page_at = [&](int i) { return i < num ? pages[i] : 0; };
        std::int32_t now = page_at(0), next = page_at(1), after = page_at(2), last = page_at(3);
        copy_part(false, now);
        if constexpr (Shape::kTwoTiles) copy_part(true, now);
        copy_reference(now, kBase);
        if (num > 1) copy_reference(next, 1);
        device::async_commit();
        rows.start(unit, reinterpret_cast<const std::uint16_t*>(blob(now) + p.layout.keys().reference_offset()));
        for (std::uint32_t at = 16 * threadIdx.x; at < Shape::kReference; at += 16 * Shape::kThreads) {
            const std::uint32_t zero[4] = {0, 0, 0, 0};
            store_shared16(raw_reference(kRotated) + at, zero);
        }
        meet();
        if (!Shape::kTwoTiles || decodes(false)) decode_keys();
        int token = (unit.pages.first + skipped) * kPageTokens;
        const int length = unit.length;
        __syncthreads();
#pragma unroll 1
        for (int i = 0; i < num; ++i, token += kPageTokens) {
            const bool more = i + 1 < num;
            float scores[32], factor[2];
            std::uint32_t weights[16];
            if constexpr (Shape::kTwoTiles) {
                if (more) copy_part(false, next);
            } else {
                copy_part(true, now);
            }
            if (i + 2 < num) copy_reference(after, i & 1);
            device::async_commit();
            if (Shape::kTwoTiles && decodes(true)) decode_values(length - token);
            if (more && warp() == Shape::kWarps / 2 + (i & (Shape::kWarps / 2 - 1))) settle((i + 1) & 1);
            score(scores);
            if (rows.soften(scores, token, factor)) rows.rescale(factor);
            rows.pack(scores, weights);
            meet();
            if constexpr (!Shape::kTwoTiles) {
                decode_values(length - token);
                __syncthreads();
            }
            if (more) copy_part(Shape::kTwoTiles, next);
            device::async_commit();
            if (Shape::kTwoTiles && more && decodes(false)) decode_keys();
            add_values(weights);
            meet();
            if (!Shape::kTwoTiles && more) {
                decode_keys();
                __syncthreads();
            }
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
    const auto* starts = reinterpret_cast<const std::uint32_t*>(prefill_shared + Shape::kStarts);
    const PrefillPlan plan = make_prefill_plan<Shape::kRows>(p.a, gridDim.x, reinterpret_cast<std::uint32_t*>(prefill_shared + Shape::kStarts));
    write_unanswered<kHeadDim>(p.a);
    if (blockIdx.x >= plan.grid) return;
    WarpPrefill<kHeadDim, kTarget> work(p);
    const std::uint32_t end = plan.cut(blockIdx.x + 1);
    PrefillUnit<Shape::kRows> unit;
#pragma unroll 1
    for (std::uint32_t item = plan.cut(blockIdx.x); item < end;) {
        unit.find(p.a, starts, item);
        const std::uint32_t stop = min(unit.end(), end);
        work.walk(unit, item, static_cast<int>(stop - item));
        unit.find(p.a, starts, item);  // again: kept, all this would take registers in the loop
        const bool begins = item == unit.start;
        work.rows.finish(unit, begins && stop == unit.end(), p.a.partials + (2 * static_cast<std::size_t>(blockIdx.x) + (begins ? 1 : 0)) * Shape::kPartial);
        item = stop;
    }
}

}  // namespace turboquant::cuda

// Who works on what, decided by every CTA for itself from the lengths on the device, so that a captured graph follows them.
//
// A unit is one (sequence, KV head, tile of query rows); its items are the pages that its rows may see. All items, units one after
// another, are cut into one range per CTA. Where all sequences have equally many pages the number of CTAs is chosen so that cuts fall on
// units; elsewhere a cut that nearly falls on a unit's end is moved there.
#pragma once

#include <cstdint>

#include "core/page.hpp"
#include "cuda/attend/params.hpp"
#include "cuda/device/warp.cuh"

namespace turboquant::cuda {

// a / b where the quotient is below 2^20: a reciprocal and a correction, a fifth of a division's time.
__device__ inline std::uint32_t divide(std::uint32_t a, std::uint32_t b) {
    std::uint32_t q = static_cast<std::uint32_t>(static_cast<float>(a) * device::reciprocal_fast(static_cast<float>(b)));
    const std::int32_t rest = static_cast<std::int32_t>(a - q * b);
    if (rest < 0) --q; else if (rest >= static_cast<std::int32_t>(b)) ++q;
    return q;
}

struct Sequence {              // 16 bytes of shared memory each
    std::uint32_t base;        // its first item
    std::int32_t pages;        // per unit
    std::int32_t length, queries;
};

struct Unit {
    int sequence, index;       // index: KV head * tiles + tile
    std::uint32_t start;       // first item
    int pages, first_page;     // pages first_page .. first_page + pages - 1 of the sequence
    int tiles, length, queries;

    __device__ int kv_head() const { return tiles == 1 ? index : static_cast<int>(divide(index, tiles)); }
    __device__ int tile() const { return index - kv_head() * tiles; }
};

struct Plan {
    const Sequence* sequences; // [batch + 1]; the last one has only a base: the number of items
    std::uint32_t items, quotient, remainder, grid, tolerance;
    int batch;

    __device__ int find(std::uint32_t item) const {
        int low = 0, high = batch;  // base[low] <= item < base[high]
        while (high - low > 1) {
            const int middle = (low + high) / 2;
            if (sequences[middle].base <= item) low = middle; else high = middle;
        }
        return low;
    }
    // The first item of CTA c.
    __device__ std::uint32_t cut(std::uint32_t c) const {
        if (c >= grid) return items;
        std::uint32_t x = quotient * c + divide(remainder * c, grid);
        if (tolerance == 0) return x;
        const Sequence& s = sequences[find(x)];
        const std::uint32_t pages = s.pages, over = (x - s.base) - divide(x - s.base, pages) * pages;
        if (over <= tolerance) x -= over; else if (pages - over <= tolerance) x += pages - over;
        return x;
    }
    __device__ std::uint32_t owner(std::uint32_t item) const {
        std::uint32_t c = min(grid - 1, static_cast<std::uint32_t>(static_cast<float>(item) * grid / items));
        while (cut(c) > item) --c;
        while (c + 1 < grid && cut(c + 1) <= item) ++c;
        return c;
    }
};

__device__ inline int first_page(int length, int queries, int window) {
    const int token = window ? length - queries - window + 1 : 0;
    return token > 0 ? token / kPageTokens : 0;
}

template <int kRows>
__device__ Unit unit_at(const Plan& plan, const AttendParams& p, std::uint32_t item) {
    const int b = plan.find(item);
    const Sequence s = plan.sequences[b];
    const int index = divide(item - s.base, s.pages), tiles = (s.queries * p.group + kRows - 1) / kRows;
    return {b, index, s.base + static_cast<std::uint32_t>(index) * s.pages, s.pages, first_page(s.length, s.queries, p.window), tiles, s.length, s.queries};
}

// What one thread finds out about one sequence.
struct Share {
    Sequence sequence{0, 0, 0, 0};
    std::uint32_t units = 0, items = 0;
};

template <int kRows>
__device__ Share share_of(const AttendParams& p, int b) {
    Share share;
    if (b >= p.batch) return share;
    Sequence& s = share.sequence;
    s.length = max(0, p.lengths[b]);
    s.queries = p.query_start ? min(p.num_queries, max(0, p.query_start[b + 1] - p.query_start[b])) : p.num_queries;
    s.queries = min(s.queries, s.length);
    if (s.queries == 0) return share;
    s.pages = (s.length + kPageTokens - 1) / kPageTokens - first_page(s.length, s.queries, p.window);
    share.units = static_cast<std::uint32_t>(p.kv_heads) * ((s.queries * p.group + kRows - 1) / kRows);
    share.items = share.units * s.pages;
    return share;
}

__device__ inline std::uint32_t sum_up_to_lane(std::uint32_t value) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int o = 1; o < 32; o *= 2) {
        const std::uint32_t before = __shfl_up_sync(~0u, value, o);
        if (lane >= o) value += before;
    }
    return value;
}

// All threads of the CTA together; a barrier is part of it. sequences: [batch + 1] in shared memory; scratch: [4 warps] there.
template <int kRows, int kThreads>
__device__ Plan make_plan(const AttendParams& p, Sequence* sequences, std::uint32_t* scratch) {
    constexpr int kWarps = kThreads / 32;
    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    std::uint32_t items = 0, units = 0, fewest = ~0u, most = 0;
    if (p.batch <= 32) {  // every warp for itself
        Share share = share_of<kRows>(p, lane);
        const std::uint32_t sum = sum_up_to_lane(share.items);
        items = __shfl_sync(~0u, sum, 31);
        units = __reduce_add_sync(~0u, share.units);
        fewest = __reduce_min_sync(~0u, share.units ? static_cast<std::uint32_t>(share.sequence.pages) : ~0u);
        most = __reduce_max_sync(~0u, static_cast<std::uint32_t>(share.sequence.pages));
        share.sequence.base = sum - share.items;
        if (warp == 0 && lane < p.batch) sequences[lane] = share.sequence;
    } else {
#pragma unroll 1
        for (int begin = 0; begin < p.batch; begin += kThreads) {
            Share share = share_of<kRows>(p, begin + thread);
            const std::uint32_t sum = sum_up_to_lane(share.items);
            const std::uint32_t own_units = __reduce_add_sync(~0u, share.units);
            const std::uint32_t own_fewest = __reduce_min_sync(~0u, share.units ? static_cast<std::uint32_t>(share.sequence.pages) : ~0u);
            const std::uint32_t own_most = __reduce_max_sync(~0u, static_cast<std::uint32_t>(share.sequence.pages));
            __syncthreads();
            if (lane == 31) reinterpret_cast<uint4*>(scratch)[warp] = make_uint4(sum, own_units, own_fewest, own_most);
            __syncthreads();
            const uint4 other = lane < kWarps ? reinterpret_cast<const uint4*>(scratch)[lane] : make_uint4(0, 0, ~0u, 0);
            share.sequence.base = items + __reduce_add_sync(~0u, lane < warp ? other.x : 0) + sum - share.items;
            if (begin + thread < p.batch) sequences[begin + thread] = share.sequence;
            items += __reduce_add_sync(~0u, other.x);
            units += __reduce_add_sync(~0u, other.y);
            fewest = min(fewest, __reduce_min_sync(~0u, other.z));
            most = max(most, __reduce_max_sync(~0u, other.w));
        }
    }
    if (thread == 0) sequences[p.batch] = {items, 0, 0, 0};
    __syncthreads();
    const std::uint32_t all = min(static_cast<std::uint32_t>(gridDim.x), items);
    std::uint32_t grid = all;
    bool even = false;
    if (items > 0 && fewest == most) {  // so many CTAs that units are cut evenly, if that leaves at most 1/16 idle
        std::uint32_t candidate = 0;
        if (units <= all) {
            candidate = all / units * units;
        } else {
            for (std::uint32_t c = lane + 1; c <= all; c += 32) {
                if (units % c == 0) candidate = c;
            }
            candidate = __reduce_max_sync(~0u, candidate);
        }
        even = candidate * 16 >= all * 15;
        if (even) grid = candidate;
    }
    const std::uint32_t quotient = grid ? items / grid : 0;
    return {sequences, items, quotient, grid ? items - quotient * grid : 0, grid, even ? 0 : quotient / 16, p.batch};
}

}  // namespace turboquant::cuda

// Who works on what, decided by every CTA for itself from the lengths on the device, so that a captured graph follows them.
//
// A unit is one (sequence, KV head, tile of query rows); its items are the pages that its rows may see. All items, units one after
// another, are cut into one range per CTA, and that into one per warp. A cut shares out costs, not items: starting and ending a unit costs, too.
// Where all sequences have equally many pages the number of CTAs is chosen so that cuts fall on units; elsewhere a
// CTA's cut that nearly falls on a unit's end is moved there.
#pragma once

#include <cstdint>

#include "core/page.hpp"
#include "cuda/attend/params.hpp"
#include "cuda/attend/policy.hpp"
#include "cuda/device/warp.cuh"
#include "cuda/overlay/tables.hpp"

namespace turboquant::cuda {

inline constexpr std::uint32_t kFewestPages = 2;         // per CTA, over all of them
inline constexpr std::uint32_t kUnitCost = 3;            // of starting and ending a unit, in pages: measured (docs/decisions/0013-cuda-attention.md)
inline constexpr int kMaxLength = (1 << 26) - 1;

// a / b where the quotient is below 2^20: a reciprocal and a correction, a fifth of a division's time.
__device__ inline std::uint32_t divide(std::uint32_t a, std::uint32_t b) {
    std::uint32_t q = static_cast<std::uint32_t>(static_cast<float>(a) * device::reciprocal_fast(static_cast<float>(b)));
    const std::int32_t rest = static_cast<std::int32_t>(a - q * b);
    if (rest < 0) --q; else if (rest >= static_cast<std::int32_t>(b)) ++q;
    return q;
}

struct Sequence {              // 16 bytes of shared memory each
    std::uint32_t base, units; // items and units before it
    std::int32_t pages;        // per unit
    std::uint32_t packed;      // length, whether the first page is left out (overlay), and queries in the upper five bits

    __device__ int length() const { return static_cast<int>(packed & kMaxLength); }
    __device__ int first_coded() const { return static_cast<int>(packed >> 26 & 1); }
    __device__ int queries() const { return static_cast<int>(packed >> 27); }
};
static_assert(kMaxQueries < 32);

struct Share {
    std::uint32_t packed = 0, units = 0;
    std::int32_t pages = 0;
};

struct Unit {
    int sequence, index;       // index: KV head * tiles + tile
    std::uint32_t start;       // first item
    int pages, first_page;     // pages first_page .. first_page + pages - 1 of the sequence
    int tiles, length, queries;

    __device__ int kv_head() const { return tiles == 1 ? index : static_cast<int>(divide(index, tiles)); }
    __device__ int tile() const { return index - kv_head() * tiles; }
    __device__ std::uint32_t end() const { return start + pages; }
};

struct Plan {
    const Sequence* sequences; // [batch + 1]; the last one has only items and units: all there are
    std::uint32_t items, grid;
    std::uint32_t unit_cost, cost;      // of a unit beside its pages, and of everything, in pages
    std::uint32_t quotient, remainder;  // cost / (grid * warps), and the rest
    std::uint32_t tolerance;
    int batch, warps;

    __device__ std::uint32_t cost_before(const Sequence& s) const { return s.base + unit_cost * s.units; }

    template <class Key>
    __device__ int find(std::uint32_t at, Key&& key) const {
        int low = 0, high = batch;  // key(low) <= at < key(high)
        while (high - low > 1) {
            const int middle = (low + high) / 2;
            if (key(sequences[middle]) <= at) low = middle; else high = middle;
        }
        return low;
    }
    __device__ int find(std::uint32_t item) const {
        return find(item, [](const Sequence& s) { return s.base; });
    }
    // The first item of warp w of CTA c, for w up to the number of warps.
    __device__ std::uint32_t cut(std::uint32_t c, std::uint32_t w = 0) const {
        if (c >= grid) return items;
        const std::uint32_t k = c * warps + w, x = quotient * k + divide(remainder * k, grid * warps);
        if (x >= cost) return items;
        const Sequence& s = sequences[find(x, [&](const Sequence& q) { return cost_before(q); })];
        const std::uint32_t pages = s.pages, unit = divide(x - cost_before(s), pages + unit_cost), within = x - cost_before(s) - unit * (pages + unit_cost);
        std::uint32_t page = within > unit_cost ? within - unit_cost : 0;
        if (w == 0 || w == static_cast<std::uint32_t>(warps)) {
            if (page <= tolerance) page = 0; else if (pages - page <= tolerance) page = pages;
        }
        return s.base + unit * pages + page;
    }
    __device__ std::uint32_t owner(std::uint32_t item) const {
        const Sequence& s = sequences[find(item)];
        const std::uint32_t at = cost_before(s) + item - s.base + unit_cost * (divide(item - s.base, s.pages) + 1);
        std::uint32_t c = min(grid - 1, static_cast<std::uint32_t>(static_cast<float>(at) * grid / cost));
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
    const int index = divide(item - s.base, s.pages), tiles = (s.queries() * p.group + kRows - 1) / kRows;
    return {b, index, s.base + static_cast<std::uint32_t>(index) * s.pages, s.pages, max(first_page(s.length(), s.queries(), p.window), s.first_coded()), tiles, s.length(), s.queries()};
}

// What one thread finds out about one sequence.
template <int kRows>
__device__ Share share_of(const AttendParams& p, int b) {
    Share share;
    if (b >= p.batch) return share;
    const int length = min(max(0, p.lengths[b]), kMaxLength);
    int queries = p.query_start ? min(p.num_queries, max(0, p.query_start[b + 1] - p.query_start[b])) : p.num_queries;
    queries = min(queries, length);
    share.packed = static_cast<std::uint32_t>(length) | static_cast<std::uint32_t>(queries) << 27;
    if (queries == 0) return share;
    const int first = first_page(length, queries, p.window), end = (length + kPageTokens - 1) / kPageTokens;
    share.pages = end - first;
    if (p.slot_of_page) {      // the rest is read from the slots, by another kernel
        const CodedPages coded = coded_pages(p.slot_of_page, p.num_pages, p.block_table + static_cast<std::int64_t>(b) * p.table_stride, end);
        share.pages = max(0, coded.end - max(first, coded.first));
        share.packed |= static_cast<std::uint32_t>(coded.first) << 26;
        if (share.pages == 0) {
            share.packed = static_cast<std::uint32_t>(length);  // no queries: their rows become those of an empty sequence
            return share;
        }
    }
    share.units = static_cast<std::uint32_t>(p.kv_heads) * ((queries * p.group + kRows - 1) / kRows);
    return share;
}

// Sums up to the lane, of the warp's first `lanes` lanes.
__device__ inline void sum_up_to_lane(int lanes, std::uint32_t* a, std::uint32_t* b) {
    const int lane = threadIdx.x & 31;
#pragma unroll 1
    for (int o = 1; o < lanes; o *= 2) {
        const std::uint32_t before_a = __shfl_up_sync(~0u, *a, o), before_b = __shfl_up_sync(~0u, *b, o);
        if (lane >= o) {
            *a += before_a;
            *b += before_b;
        }
    }
}

// How many CTAs take part. even: cuts fall on units.
__device__ inline std::uint32_t choose_grid(std::uint32_t items, std::uint32_t units, bool equal, bool* even) {
    const int lane = threadIdx.x & 31;
    // A CTA's warps look at different pages at the same time at hardly any cost; another CTA's piece of a unit has to be fetched.
    const std::uint32_t all = min(static_cast<std::uint32_t>(gridDim.x), (items + kFewestPages - 1) / kFewestPages);
    *even = false;
    if (!equal) return all;
    std::uint32_t candidate = 0;  // so many that units are cut evenly, if that leaves at most 1/16 idle
    if (units <= all) {
        candidate = divide(all, units) * units;
    } else {
        for (std::uint32_t c = lane + 1; c <= all; c += 32) {
            if (units % c == 0) candidate = c;
        }
        candidate = __reduce_max_sync(~0u, candidate);
    }
    *even = candidate * 16 >= all * 15;
    return *even ? candidate : all;
}

// All threads of the CTA together; a barrier is part of it. sequences: [batch + 1] in shared memory; scratch: [4 warps] there. kParts: ranges of
// a CTA.
template <int kRows, int kThreads, int kParts = kThreads / 32>
__device__ Plan make_plan(const AttendParams& p, Sequence* sequences, std::uint32_t* scratch) {
    constexpr int kWarps = kThreads / 32;
    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    std::uint32_t items = 0, units = 0, fewest = ~0u, most = 0;
#pragma unroll 1
    for (int begin = 0; begin < p.batch; begin += kThreads) {
        const bool small = p.batch <= 32;  // every warp for itself
        const int mine = small ? lane : begin + thread;
        const Share share = share_of<kRows>(p, mine);
        const std::uint32_t own_items = share.units * share.pages;
        std::uint32_t sum_items = own_items, sum_units = share.units;
        sum_up_to_lane(small ? p.batch : 32, &sum_items, &sum_units);
        std::uint32_t before_items = items, before_units = units, pages_low = __reduce_min_sync(~0u, share.units ? static_cast<std::uint32_t>(share.pages) : ~0u),
                      pages_high = __reduce_max_sync(~0u, static_cast<std::uint32_t>(share.pages));
        if (small) {
            items = __shfl_sync(~0u, sum_items, p.batch - 1);
            units = __shfl_sync(~0u, sum_units, p.batch - 1);
        } else {
            __syncthreads();
            if (lane == 31) reinterpret_cast<uint4*>(scratch)[warp] = make_uint4(sum_items, sum_units, pages_low, pages_high);
            __syncthreads();
            const uint4 other = lane < kWarps ? reinterpret_cast<const uint4*>(scratch)[lane] : make_uint4(0, 0, ~0u, 0);
            before_items += __reduce_add_sync(~0u, lane < warp ? other.x : 0);
            before_units += __reduce_add_sync(~0u, lane < warp ? other.y : 0);
            items += __reduce_add_sync(~0u, other.x);
            units += __reduce_add_sync(~0u, other.y);
            pages_low = __reduce_min_sync(~0u, other.z);
            pages_high = __reduce_max_sync(~0u, other.w);
        }
        fewest = min(fewest, pages_low);
        most = max(most, pages_high);
        if (mine < p.batch && (!small || warp == 0)) {
            sequences[mine] = {before_items + sum_items - own_items, before_units + sum_units - share.units, share.pages, share.packed};
        }
    }
    if (thread == 0) sequences[p.batch] = {items, units, 0, 0};
    __syncthreads();
    Plan plan{sequences, items, 0, 0, 0, 0, 0, 0, p.batch, kParts};
    if (items == 0) return plan;
    bool even;
    plan.grid = choose_grid(items, units, fewest == most, &even);
    plan.unit_cost = fewest == most ? 0 : kUnitCost;
    plan.cost = items + plan.unit_cost * units;
    const std::uint32_t parts = plan.grid * kParts;
    plan.quotient = plan.cost / parts;
    plan.remainder = plan.cost - plan.quotient * parts;
    plan.tolerance = even ? 0 : plan.quotient * kParts / 64;
    return plan;
}

}  // namespace turboquant::cuda

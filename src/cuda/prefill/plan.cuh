// Who works on what. A unit is a tile of query rows of one (sequence, KV head); its items are the pages that its rows may see, first to last.
// All items, unit after unit, are cut into one equal range per cluster of CTAs. Row r of a sequence is position r / group of its queries, head
// r % group of the KV head's. Every CTA makes the plan for itself, from lengths in device memory.
#pragma once

#include "core/page.hpp"
#include "cuda/attend/params.hpp"
#include "cuda/device/warp.cuh"
#include "cuda/overlay/tables.hpp"

namespace turboquant::cuda {

struct TilePages {
    int first, num;
};

// Pages that tile `tile` of a sequence, tile_rows rows, may see; at least one.
__host__ __device__ inline TilePages tile_pages(int tile_rows, int length, int queries, int group, int window, int tile) {
    const int rows = queries * group, end = (tile + 1) * tile_rows < rows ? (tile + 1) * tile_rows : rows;
    const int first_position = length - queries + tile * tile_rows / group, last_position = length - queries + (end - 1) / group;
    const int begin = window > 0 && first_position - window + 1 > 0 ? (first_position - window + 1) / kPageTokens : 0;
    return {begin, last_position / kPageTokens - begin + 1};
}

// Those of them that are coded; where there are none, one of them: what becomes of it is dropped (overlay/join.cuh).
__device__ inline TilePages coded_tile(const AttendParams& p, int sequence, int length, TilePages all) {
    if (p.slot_of_page == nullptr) return all;
    const CodedPages coded = coded_pages(p.slot_of_page, p.num_pages, p.block_table + static_cast<std::int64_t>(sequence) * p.table_stride, (length + kPageTokens - 1) / kPageTokens);
    const int first = max(all.first, coded.first), end = min(all.first + all.num, coded.end);
    return first < end ? TilePages{first, end - first} : TilePages{all.first, 1};
}

template <int kRows>
__host__ __device__ inline int num_tiles(int queries, int group) { return (queries * group + kRows - 1) / kRows; }

// Tiles in the order in which they are worked on: early ones, which see few pages, among late ones, so that every cluster has about as many units.
__host__ __device__ inline int tile_in_order(int order, int tiles) { return order % 2 == 0 ? order / 2 : tiles - 1 - order / 2; }

// Queries of a sequence that are answered: not more than it has tokens.
__device__ inline int answered(const AttendParams& p, int sequence, int length) {
    return min(p.query_start ? p.query_start[sequence + 1] - p.query_start[sequence] : p.num_queries, length);
}

struct PrefillPlan {
    const std::uint32_t* starts;     // [batch + 1]: first item of each sequence, and the number of items
    std::uint32_t items;
    std::uint32_t grid;              // clusters that have work

    __device__ PrefillPlan(const AttendParams& p, int clusters, const std::uint32_t* the_starts)
        : starts(the_starts), items(the_starts[p.batch]), grid(min(static_cast<std::uint32_t>(clusters), items)) {}
    // items * cluster / grid, without a product of 64 bits.
    __device__ std::uint32_t cut(std::uint32_t cluster) const { return items / grid * cluster + items % grid * cluster / grid; }
};

// By all threads of a CTA. starts: shared memory.
template <int kRows>
__device__ PrefillPlan make_prefill_plan(const AttendParams& p, int clusters, std::uint32_t* starts) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    for (int b = warp; b < p.batch; b += warps) {
        const int length = p.lengths[b], queries = answered(p, b, length), tiles = num_tiles<kRows>(queries, p.group);
        std::uint32_t pages = 0;
        for (int i = lane; i < tiles; i += 32) pages += coded_tile(p, b, length, tile_pages(kRows, length, queries, p.group, p.window, i)).num;
        pages = __reduce_add_sync(~0u, pages);
        if (lane == 0) starts[b + 1] = pages * p.kv_heads;
    }
    if (threadIdx.x == 0) starts[0] = 0;
    __syncthreads();
    if (warp == 0) {
        std::uint32_t sum = 0;
        for (int b = 0; b < p.batch; b += 32) {
            std::uint32_t x = b + lane < p.batch ? starts[b + lane + 1] : 0;
#pragma unroll
            for (int o = 1; o < 32; o *= 2) {
                const std::uint32_t before = __shfl_up_sync(~0u, x, o);
                if (lane >= o) x += before;
            }
            if (b + lane < p.batch) starts[b + lane + 1] = sum + x;
            sum += __shfl_sync(~0u, x, 31);
        }
    }
    __syncthreads();
    return {p, clusters, starts};
}

// A unit, and the way to the next one. A warp has it, all lanes the same.
template <int kRows>
struct PrefillUnit {
    int sequence, length, queries, order, tile, head;
    TilePages pages;
    std::uint32_t start;             // first item

    __device__ void open_sequence(const AttendParams& p) {
        length = p.lengths[sequence];
        queries = answered(p, sequence, length);
    }
    // The unit that has item `item`.
    __device__ void find(const AttendParams& p, const std::uint32_t* starts, std::uint32_t item) {
        int low = 0, high = p.batch;  // starts[low] <= item < starts[high]
        while (high - low > 1) {
            const int middle = (low + high) / 2;
            if (starts[middle] <= item) low = middle; else high = middle;
        }
        sequence = low;
        open_sequence(p);
        const int lane = threadIdx.x & 31, tiles = num_tiles<kRows>(queries, p.group);
        std::uint32_t before = starts[low];
        for (order = 0;; order += 32) {
            const std::uint32_t own = order + lane < tiles ? pages_of(p, tile_in_order(order + lane, tiles)).num * p.kv_heads : 0;
            std::uint32_t sum = own;
#pragma unroll
            for (int o = 1; o < 32; o *= 2) {
                const std::uint32_t other = __shfl_up_sync(~0u, sum, o);
                if (lane >= o) sum += other;
            }
            const unsigned beyond = __ballot_sync(~0u, before + sum > item);
            if (beyond) {
                const int at = __ffs(beyond) - 1;
                order += at;
                before += __shfl_sync(~0u, sum - own, at);
                break;
            }
            before += __shfl_sync(~0u, sum, 31);
        }
        tile = tile_in_order(order, tiles);
        pages = pages_of(p, tile);
        head = static_cast<int>((item - before) / pages.num);
        start = before + static_cast<std::uint32_t>(head * pages.num);
    }
    // Not beyond the last one.
    __device__ void advance(const AttendParams& p) {
        start += pages.num;
        if (++head < p.kv_heads) return;
        head = 0;
        if (++order == num_tiles<kRows>(queries, p.group)) {
            order = 0;
            do {
                if (++sequence == p.batch) return;
                open_sequence(p);
            } while (queries <= 0);
        }
        tile = tile_in_order(order, num_tiles<kRows>(queries, p.group));
        pages = pages_of(p, tile);
    }
    __device__ TilePages pages_of(const AttendParams& p, int which) const { return coded_tile(p, sequence, length, tile_pages(kRows, length, queries, p.group, p.window, which)); }
    __device__ std::uint32_t end() const { return start + pages.num; }
    // Blob of the unit's item, in units of 128 bytes from the pool.
    __device__ std::uint64_t blob(const AttendParams& p, std::uint32_t item) const {
        const int page = pages.first + static_cast<int>(item - start);
        return static_cast<std::uint64_t>(static_cast<std::uint32_t>(p.block_table[static_cast<std::int64_t>(sequence) * p.table_stride + page])) * p.page_units +
               static_cast<std::uint64_t>(head) * p.head_units;
    }
};

// A warp's way through a range of items, unit after unit. It stays in shared memory while pages are worked on: registers are short, and to find a unit
// again is long.
template <int kRows>
struct PrefillWay {
    PrefillUnit<kRows> unit;
    std::uint32_t item, end;         // the range's first item in the unit; where the range ends

    __device__ std::uint32_t stop() const { return min(unit.end(), end); }
    __device__ bool begins() const { return item == unit.start; }
    __device__ bool complete() const { return begins() && stop() == unit.end(); }
    __device__ void keep(PrefillWay* at) const {
        __syncwarp();
        if ((threadIdx.x & 31) == 0) *at = *this;
        __syncwarp();
    }
    static __device__ void start(const AttendParams& p, const PrefillPlan& plan, std::uint32_t range, PrefillWay* at) {
        PrefillWay way;
        way.item = plan.cut(range);
        way.end = plan.cut(range + 1);
        way.unit.find(p, plan.starts, way.item);
        way.keep(at);
    }
    // On to the next unit; false: there is none in the range.
    __device__ bool next(const AttendParams& p, PrefillWay* at) {
        item = stop();
        if (item == end) return false;
        unit.advance(p);
        keep(at);
        return true;
    }
};

}  // namespace turboquant::cuda

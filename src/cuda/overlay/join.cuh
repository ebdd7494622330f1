// Attention on the exact pages of sequences, joined with what the kernel before gave for the coded pages. A CTA has `kWarps` warps: either
// all of them share 16 query rows of one (sequence, KV head) and split the tokens, or each has 16 rows of its own (many queries).
#pragma once

#include "cuda/attend/rows.cuh"
#include "cuda/overlay/exact_math.cuh"
#include "cuda/overlay/params.hpp"
#include "cuda/prefill/plan.cuh"
#include "cuda/target.hpp"

namespace turboquant::cuda {

template <int kHeadDim, int kWarps, bool kOwnRows>
struct JoinShape {
    static constexpr int kRows = kOwnRows ? kExactRows * kWarps : kExactRows;   // of a CTA
    static constexpr int kQueryStride = kHeadDim + 8;                           // numbers: rows lie in different banks
    static constexpr int kRow = kHeadDim + 4;                                   // floats of a row of a warp's result: sums, m, l
    static constexpr std::size_t kQueryBytes = static_cast<std::size_t>(kRows) * kQueryStride * 2;
    static constexpr std::size_t kShared = kQueryBytes + static_cast<std::size_t>(kWarps) * kExactRows * kRow * 4;
    static_assert(kQueryBytes % 16 == 0 && kShared + 1024 <= shared_limit(Target::sm86), "all devices run it");
};

// A CTA's rows: those of one sequence and KV head, counted over all its queries. Rows beyond the last are idle, those before a sequence's
// first token see nothing.
struct JoinTile {
    int sequence, head, first_row, rows;       // rows: of the sequence and head
    int length, queries;
    std::int64_t token;                        // of the sequence's first query

    __device__ JoinTile(const JoinParams& p, int rows_per_tile) {
        const int unit = blockIdx.x / p.tiles;
        sequence = unit / p.a.kv_heads;
        head = unit % p.a.kv_heads;
        first_row = blockIdx.x % p.tiles * rows_per_tile;
        token = p.a.query_start ? p.a.query_start[sequence] : static_cast<std::int64_t>(sequence) * p.a.num_queries;
        queries = p.a.query_start ? max(0, p.a.query_start[sequence + 1] - p.a.query_start[sequence]) : p.a.num_queries;
        length = max(0, p.a.lengths[sequence]);
        rows = queries * p.a.group;
    }
    __device__ int position(const JoinParams& p, int row) const { return length - queries + row / p.a.group; }
};

// A row's numbers as binary16, times the power of two that makes the largest 2^9 .. 2^10; returns what undoes it. A warp.
template <int kHeadDim>
__device__ float load_query_row(const JoinParams& p, const JoinTile& tile, int row, std::uint16_t* to) {
    constexpr int kNum = (kHeadDim + 31) / 32;
    const int lane = threadIdx.x & 31;
    const auto* from = static_cast<const std::uint16_t*>(p.a.query) + (tile.token + row / p.a.group) * p.a.query_token_stride +
                       static_cast<std::int64_t>(tile.head * p.a.group + row % p.a.group) * p.a.query_head_stride;
    float x[kNum], largest = 1e-18f;
#pragma unroll
    for (int k = 0; k < kNum; ++k) {
        const int dim = lane + 32 * k;
        const std::uint16_t bits = dim < kHeadDim ? from[dim] : 0;
        x[k] = p.a.query_number == Number::bf16 ? __uint_as_float(static_cast<std::uint32_t>(bits) << 16) : device::half_value(bits);
        largest = fmaxf(largest, fabsf(x[k]));
    }
#pragma unroll
    for (int o = 16; o >= 1; o /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, o));
    const std::uint32_t exponent = __float_as_uint(largest) >> 23;
    const float to_half = __uint_as_float((263u - min(exponent, 200u)) << 23);
#pragma unroll
    for (int k = 0; k < kNum; ++k) {
        if (lane + 32 * k < kHeadDim) to[lane + 32 * k] = device::half_bits(x[k] * to_half);
    }
    return p.a.scale / to_half;
}

// Whether the kernel before had coded pages for a row of an answered query.
__device__ inline bool has_coded(const JoinParams& p, const JoinTile& tile, const CodedPages& coded, int row) {
    if (p.prefill_rows == 0) return true;      // attend's sum says where there are none
    const int answered = min(tile.queries, tile.length), number = (row - (tile.queries - answered) * p.a.group) / p.prefill_rows;
    const TilePages seen = tile_pages(p.prefill_rows, tile.length, answered, p.a.group, p.a.window, number);
    return max(seen.first, coded.first) < min(seen.first + seen.num, coded.end);
}

// A warp writes a row. x[k]: number lane + 32 k of the exact pages' weighted sum.
template <int kHeadDim>
__device__ void write_joined(const JoinParams& p, const JoinTile& tile, int row, bool coded, const float* x, float m, float l) {
    constexpr int kNum = (kHeadDim + 31) / 32;
    const int lane = threadIdx.x & 31, head = tile.head * p.a.group + row % p.a.group, heads = p.a.kv_heads * p.a.group;
    const std::int64_t token = tile.token + row / p.a.group, at = token * heads + head;
    const float other = coded ? p.coded_sum[at] * device::kLog2E : -INFINITY, sink = p.a.sinks ? p.a.sinks[head] * device::kLog2E : -INFINITY;
    const float top = fmaxf(fmaxf(l > 0 ? m : device::kNothing, other), sink);
    const float own = l > 0 ? device::exp2_fast(m - top) : 0.0f, beside = device::exp2_fast(other - top), total = fmaf(own, l, beside) + device::exp2_fast(sink - top);
    if (p.a.log_sum && lane == 0) p.a.log_sum[at] = total == 0 ? -INFINITY : (top + __log2f(total)) * 0.6931471805599453f;
    const float inverse = total == 0 ? 0.0f : 1.0f / total;
    const std::int64_t to = token * p.a.output_token_stride + head * p.a.output_head_stride;
#pragma unroll
    for (int k = 0; k < kNum; ++k) {
        const int dim = lane + 32 * k;
        if (dim >= kHeadDim) continue;
        float sum = own * x[k];
        if (beside > 0) sum = fmaf(beside, p.coded[at * kHeadDim + dim], sum);
        store_number(p.a.output, to + dim, p.a.output_number, sum * inverse);
    }
}

template <int kHeadDim, int kWarps, bool kOwnRows>
__global__ void __launch_bounds__(kWarps * 32, kHeadDim <= 128 ? 2 : 1) join_kernel(const __grid_constant__ JoinParams p) {
    using Shape = JoinShape<kHeadDim, kWarps, kOwnRows>;
    using Math = ExactMath<kHeadDim>;
    constexpr int kNum = (kHeadDim + 31) / 32;
    extern __shared__ __align__(16) std::uint8_t join_shared[];
    __shared__ float units[Shape::kRows];
    auto* queries = reinterpret_cast<std::uint16_t*>(join_shared);
    auto* results = reinterpret_cast<float*>(join_shared + Shape::kQueryBytes);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    if (p.a.early) device::launch_dependents();
    const JoinTile tile(p, Shape::kRows);
    if (tile.first_row >= tile.rows) return;
    const int num = min(Shape::kRows, tile.rows - tile.first_row);
    for (int r = warp; r < Shape::kRows; r += kWarps) {
        if (r < num) {
            const float unit = load_query_row<kHeadDim>(p, tile, tile.first_row + r, queries + r * Shape::kQueryStride);
            if (lane == 0) units[r] = unit;
        } else {
            for (int dim = lane; dim < kHeadDim; dim += 32) queries[r * Shape::kQueryStride + dim] = 0;
            if (lane == 0) units[r] = 0;
        }
    }
    __syncthreads();

    const std::int32_t* table = p.a.block_table + static_cast<std::int64_t>(tile.sequence) * p.a.table_stride;
    const int pages = (tile.length + kPageTokens - 1) / kPageTokens;
    const CodedPages coded = coded_pages(p.a.slot_of_page, p.a.num_pages, table, pages);
    const int own_first = kOwnRows ? kExactRows * warp : 0;                 // of the warp's rows in the CTA
    ExactRow rows[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int r = own_first + g + 8 * h, position = tile.position(p, tile.first_row + r);
        rows[h].unit = units[r];
        rows[h].last = r < num ? position : -1;
        rows[h].first = p.a.window ? position - p.a.window + 1 : 0;
    }
    Math math;
    math.reset();
    const int lowest = tile.position(p, tile.first_row + own_first) - (p.a.window ? p.a.window - 1 : 0x3fffffff);
    const int highest = tile.position(p, tile.first_row + min(own_first + kExactRows, num) - 1);
    const int num_exact = coded.first + pages - coded.end;
#pragma unroll 1
    for (int step = kOwnRows ? 0 : warp; step < num_exact * (kPageTokens / kExactTokens); step += kOwnRows ? 1 : kWarps) {
        const int which = step / (kPageTokens / kExactTokens), place = step % (kPageTokens / kExactTokens) * kExactTokens;
        const int page = which < coded.first ? 0 : coded.end + which - coded.first, token = page * kPageTokens + place;
        if (token > highest || token + kExactTokens - 1 < lowest || own_first >= num) continue;
        const std::int32_t slot = slot_of(p.a.slot_of_page, p.a.num_pages, table[page]);
        const std::uint16_t* keys = p.rows + (static_cast<std::size_t>(slot) * p.a.kv_heads + tile.head) * (2 * kPageTokens * kHeadDim) + place * kHeadDim;
        const std::uint16_t* values = keys + kPageTokens * kHeadDim;
        const auto load = [](const std::uint16_t* from, bool there) {
            const uint4 v = there ? __ldg(reinterpret_cast<const uint4*>(from)) : make_uint4(0, 0, 0, 0);
            return Words{{v.x, v.y, v.z, v.w}};
        };
        const auto load_value = [&](int c, int i) {
            const int at = 2 * t + (i & 1) + 8 * (i >> 1), dim = 64 * c + 8 * g;
            return load(values + at * kHeadDim + dim, dim < kHeadDim && token + at < tile.length);  // what lies beyond may be no number
        };
        constexpr bool kAhead = kHeadDim <= 128;                            // both sides are under way at once
        Words k[Math::kBlocks][2], v[kAhead ? Math::kColumns : 1][4];
#pragma unroll
        for (int block = 0; block < Math::kBlocks; ++block) {
#pragma unroll
            for (int n = 0; n < 2; ++n) k[block][n] = load(keys + (8 * n + g) * kHeadDim + 32 * block + 8 * t, 32 * block + 8 * t < kHeadDim);
        }
        if constexpr (kAhead) {
#pragma unroll
            for (int c = 0; c < Math::kColumns; ++c) {
#pragma unroll
                for (int i = 0; i < 4; ++i) v[c][i] = load_value(c, i);
            }
        }
        float scores[2][4];
        std::uint32_t weights[2][4];
        Math::score(
            [&](int block, int row) {
                const int dim = 32 * block + 8 * t;
                if (dim >= kHeadDim) return Words{{0, 0, 0, 0}};
                const uint4 q = *reinterpret_cast<const uint4*>(queries + (own_first + g + 8 * row) * Shape::kQueryStride + dim);
                return Words{{q.x, q.y, q.z, q.w}};
            },
            [&](int block, int n) { return k[block][n]; }, scores);
        math.soften(scores, rows, p.a.cap, token, weights);
        math.add_values(
            [&](int c, int i) {
                if constexpr (kAhead) return v[c][i];
                else return load_value(c, i);
            },
            weights);
    }
    math.finish();
    float* mine = results + warp * kExactRows * Shape::kRow;
    math.give([&](int row, int dim, float value) { mine[row * Shape::kRow + dim] = value; });
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        if (t == 0) *reinterpret_cast<float2*>(mine + (g + 8 * h) * Shape::kRow + kHeadDim) = make_float2(math.m[h], math.l[h]);
    }
    if constexpr (kOwnRows) __syncwarp(); else __syncthreads();
    device::wait_for_predecessor();
    for (int r = kOwnRows ? 0 : warp; r < kExactRows && own_first + r < num; r += kOwnRows ? 1 : kWarps) {
        float x[kNum] = {}, m = device::kNothing, l = 0;
        constexpr int kPieces = kOwnRows ? 1 : kWarps;
        const float* first = results + (kOwnRows ? warp * kExactRows : 0) * Shape::kRow + r * Shape::kRow;
#pragma unroll
        for (int i = 0; i < kPieces; ++i) m = fmaxf(m, first[i * kExactRows * Shape::kRow + kHeadDim]);
#pragma unroll
        for (int i = 0; i < kPieces; ++i) {
            const float* piece = first + i * kExactRows * Shape::kRow;
            const float weight = device::exp2_fast(piece[kHeadDim] - m);
            l = fmaf(weight, piece[kHeadDim + 1], l);
#pragma unroll
            for (int k = 0; k < kNum; ++k) {
                if (lane + 32 * k < kHeadDim) x[k] = fmaf(weight, piece[lane + 32 * k], x[k]);
            }
        }
        const int row = tile.first_row + own_first + r;
        write_joined<kHeadDim>(p, tile, row, tile.position(p, row) >= 0 && has_coded(p, tile, coded, row), x, m, l);
    }
}

}  // namespace turboquant::cuda

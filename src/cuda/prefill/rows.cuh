// A warp's 16 query rows: loaded and rotated, their softmax from page to page, and what becomes of their sums. The products are elsewhere, for their
// operands and sums lie in a warp alike, whatever instructions multiply them: lane 4 g + t has rows g and g + 8 (device/warpgroup.cuh).
//
// m is a reference for the sums, not a maximum: weights are 2^(score - m), and m is raised only where a score exceeds it by 14, so that
// weights stay far below the largest binary16 number; a new m lies 8 below the largest score, which keeps small weights exact.
#pragma once

#include "cuda/attend/rows.cuh"
#include "cuda/prefill/parts.cuh"
#include "cuda/prefill/plan.cuh"

namespace turboquant::cuda {

// Queries that see nothing: those of empty sequences, and those before a sequence's first token. All threads of all CTAs together.
template <int kHeadDim>
__device__ void write_unanswered(const AttendParams& p) {
    const int heads = p.kv_heads * p.group;
    for (int b = blockIdx.x; b < p.batch; b += gridDim.x) {
        const std::int64_t begin = p.query_start ? p.query_start[b] : static_cast<std::int64_t>(b) * p.num_queries;
        const std::int64_t end = p.query_start ? p.query_start[b + 1] : begin + p.num_queries;
        for (std::int64_t token = begin; token < end - answered(p, b, p.lengths[b]); ++token) {
            for (int i = threadIdx.x; i < heads * kHeadDim; i += blockDim.x) {
                const int head = i / kHeadDim;
                store_number(p.output, token * p.output_token_stride + head * p.output_head_stride + i % kHeadDim, p.output_number, 0);
                if (p.log_sum && i % kHeadDim == 0) p.log_sum[token * heads + head] = p.sinks ? p.sinks[head] : -INFINITY;
            }
        }
    }
}

inline constexpr float kHeadroom = 14.0f, kLift = 8.0f;

// Of a sequence's answered queries, in the query tensor: where it is shorter than its queries, the last of them.
template <int kRows>
__device__ __forceinline__ std::int64_t first_token(const AttendParams& p, const PrefillUnit<kRows>& unit) {
    return (p.query_start ? p.query_start[unit.sequence + 1] : static_cast<std::int64_t>(unit.sequence + 1) * p.num_queries) - unit.queries;
}
// Row r of a unit, whose position is known.
template <int kRows>
__device__ __forceinline__ Row prefill_row_at(const AttendParams& p, const PrefillUnit<kRows>& unit, int r, int position) {
    const int wanted = unit.tile * kRows + r, last = unit.queries * p.group - 1, row = min(wanted, last), query = position - (unit.length - unit.queries);
    return {wanted > last, position, first_token(p, unit) + query, unit.head * p.group + row - query * p.group};
}
// The same where it is not: a division more.
template <int kRows>
__device__ __forceinline__ Row prefill_row(const AttendParams& p, const PrefillUnit<kRows>& unit, int r) {
    const int row = min(unit.tile * kRows + r, unit.queries * p.group - 1);
    return prefill_row_at(p, unit, r, unit.length - unit.queries + row / p.group);
}

template <int kHeadDim, class Shape, int kTile = 0>  // kTile: of the warp's, where it has more than 16 rows
struct QueryRows {
    using Tiles = PrefillTiles<kHeadDim>;
    static constexpr int D = Shape::D, kSteps = D / 16, kRegisterSteps = Shape::kRegisterSteps;

    const PrefillParams& p;
    std::uint32_t q[kRegisterSteps > 0 ? kRegisterSteps : 1][4];  // of the last steps
    float unit[2];                       // of a row's scores, in log2
    float m[2], l[2];
    int plain_from, plain_to;            // pages that begin at these tokens and between are seen whole by all rows
    float out[D / 2];

    // What is seldom needed, of the thread's two rows, in shared memory: registers are short.
    struct RowState {
        float offset[2];                 // q . reference of the range's first page
        int position[2];
    };
    __device__ __forceinline__ static RowState* state() { return reinterpret_cast<RowState*>(prefill_shared + Shape::kRowState) + kTile * Shape::kThreads + threadIdx.x - Shape::kFirstThread; }
    __device__ __forceinline__ static int warp(int thread) { return thread >> 5 & 3; }              // of four, which share a tile of queries
    __device__ __forceinline__ static int first_row(int thread) {                                   // of the warp, in the unit
        return (thread >> 5) * 16 - Shape::kFirstThread / 2 + kTile * (Shape::kThreads / 2) + cluster_rank<Shape::kCtas>() * Shape::kOwnRows;
    }
    __device__ __forceinline__ static std::uint32_t queries(int thread) {                          // shared address of the four warps'
        return device::shared_address(prefill_shared) + static_cast<std::uint32_t>(Shape::kQueries + ((thread >> 7) - Shape::kFirstThread / 128 + kTile * (Shape::kThreads / 128)) * Shape::kQueryTile);
    }

    __device__ __forceinline__ std::uint32_t query_place(int row, int inner) const { return queries(threadIdx.x) + Tiles::place(64, 16 * warp(threadIdx.x) + row, inner); }

    // Loads and rotates the warp's 16 rows, eight at a time, four lanes each. reference: that of the range's first page.
    __device__ __forceinline__ void start(const PrefillUnit<Shape::kRows>& piece, const std::uint16_t* reference) {
        constexpr int kOwn = D / 4;
        const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
        int lowest = 0, highest = 0;     // positions
        __syncwarp();
#pragma unroll 1
        for (int h = 0; h < 2; ++h) {
            const Row row = prefill_row<Shape::kRows>(p.a, piece, first_row(threadIdx.x) + g + 8 * h);
            float x[kOwn], dot = 0, largest = 1e-18f;
#pragma unroll
            for (int i = 0; i < kOwn / 8; ++i) {
                const int first = kOwn * t + 8 * i;
                const uint4 numbers = first < kHeadDim ? load_query16(p.a, row, first) : make_uint4(0, 0, 0, 0), halves = *reinterpret_cast<const uint4*>(reference + first);
#pragma unroll
                for (int k = 0; k < 4; ++k) {
                    const std::uint32_t two = device::component(halves, k);
                    widen(p.a, device::component(numbers, k), x + 8 * i + 2 * k);
                    dot = fmaf(x[8 * i + 2 * k], device::low_half(two), dot);
                    dot = fmaf(x[8 * i + 2 * k + 1], device::high_half(two), dot);
                }
            }
            device::rotate_quads<kHeadDim, true>(x, p.a.keys.sign, p.a.keys.paley);
#pragma unroll
            for (int i = 0; i < kOwn; ++i) largest = fmaxf(largest, fabsf(x[i]));
#pragma unroll
            for (int o = 1; o < 4; o *= 2) {
                dot += __shfl_xor_sync(~0u, dot, o);
                largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, o));
            }
            const std::uint32_t exponent = __float_as_uint(largest) >> 23;  // the largest becomes 2^9 .. 2^10
            const float to_half = __uint_as_float((263u - min(exponent, 200u)) << 23), own_unit = p.a.scale * p.a.norm * device::kHalvesUnit / to_half;
#pragma unroll
            for (int i = 0; i < kOwn / 8; ++i) {
                std::uint32_t four[4];
#pragma unroll
                for (int k = 0; k < 4; ++k) four[k] = device::pack_halves(x[8 * i + 2 * k] * to_half, x[8 * i + 2 * k + 1] * to_half);
                device::store_shared16(query_place(g + 8 * h, 8 * (4 * i + t)), four);
            }
            if (h == 0) unit[0] = own_unit; else unit[1] = own_unit;
            state()->offset[h] = dot * p.a.scale;
            state()->position[h] = row.position;
            if (h == 0) lowest = __shfl_sync(~0u, row.position, 0); else highest = __shfl_sync(~0u, row.position, 31);
        }
        m[0] = m[1] = device::kNothing;
        l[0] = l[1] = 0;
        plain_to = lowest - (kPageTokens - 1);
        plain_from = p.a.window ? highest - p.a.window + 1 : 0;
#pragma unroll
        for (int i = 0; i < D / 2; ++i) out[i] = 0;
        __syncwarp();
#pragma unroll
        for (int s = 0; s < kRegisterSteps; ++s) {
#pragma unroll
            for (int i = 0; i < 4; ++i) q[s][i] = device::load_shared4(query_place(g + 8 * (i & 1), 16 * (s + kSteps - kRegisterSteps) + 2 * t + 8 * (i >> 1)));
        }
    }

    // Scores become weights; token: the page's first. True: the warp's sums are to be scaled by factor[2] first, which may be only when no products are
    // under way. (To wait for them here would not do: warps of a warpgroup wait together, and this is each warp's own affair.)
    __device__ __forceinline__ bool soften(float* s, int token, float* factor) {
        float units[2] = {unit[0], unit[1]};
        if (p.a.cap != 0) {
            const float inverse = 2.0f * device::kLog2E / p.a.cap;
#pragma unroll
            for (int i = 0; i < 32; ++i) {
                const float x = fmaf(s[i], unit[i >> 1 & 1], state()->offset[i >> 1 & 1]);
                s[i] = p.a.cap * (1.0f - 2.0f * device::reciprocal_fast(device::exp2_fast(x * inverse) + 1.0f));
            }
            units[0] = units[1] = 1;
        }
        if (token < plain_from || token > plain_to) {
            const int position[2] = {state()->position[0], state()->position[1]};
            const int t = threadIdx.x & 3, mine = token + 16 * (t & 1) + (t >> 1);
#pragma unroll
            for (int i = 0; i < 32; ++i) {
                const int h = i >> 1 & 1, at = mine + 32 * (i >> 4) + 2 * (i >> 2 & 3) + 8 * (i & 1);
                if (at > position[h] || (p.a.window && at <= position[h] - p.a.window)) s[i] = -INFINITY;
            }
        }
        // Four chains each of maxima and sums: one would be waited for.
        float tops[4] = {s[0], s[1], s[2], s[3]};
#pragma unroll
        for (int i = 4; i < 32; ++i) tops[i & 3] = fmaxf(tops[i & 3], s[i]);
        float top[2] = {fmaxf(tops[0], tops[1]), fmaxf(tops[2], tops[3])};
        factor[0] = factor[1] = 1;
        const bool raised = __any_sync(~0u, top[0] * units[0] > m[0] + kHeadroom || top[1] * units[1] > m[1] + kHeadroom);
        if (raised) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                top[h] = fmaxf(top[h], __shfl_xor_sync(~0u, top[h], 1));
                top[h] = fmaxf(top[h], __shfl_xor_sync(~0u, top[h], 2));
                const float higher = fmaxf(m[h], top[h] * units[h] - kLift);
                factor[h] = device::exp2_fast(m[h] - higher);
                m[h] = higher;
                l[h] *= factor[h];
            }
        }
        float sums[4] = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < 32; ++i) {
            s[i] = device::exp2_fast(fmaf(s[i], units[i >> 1 & 1], -m[i >> 1 & 1]));
            sums[i & 3] += s[i];
        }
        l[0] += sums[0] + sums[1];
        l[1] += sums[2] + sums[3];
        return raised;
    }
    __device__ __forceinline__ void rescale(const float* factor) {
#pragma unroll
        for (int i = 0; i < D / 2; ++i) out[i] *= factor[i >> 1 & 1];
    }
    // As operands. Not while products that read the operands before are under way, even if these lie elsewhere: ptxas would wait for each product.
    __device__ __forceinline__ static void pack(const float* s, std::uint32_t* weights) {
#pragma unroll
        for (int i = 0; i < 16; ++i) weights[i] = device::pack_halves(s[2 * i], s[2 * i + 1]);
    }

    // Writes the rows: finished ones where the caller wants them, pieces of shared units to `partial`.
    __device__ __forceinline__ void finish(const PrefillUnit<Shape::kRows>& piece, bool complete, float* partial) {
        int thread = threadIdx.x;
        asm volatile("" : "+r"(thread));  // or the addresses below are worked out page by page
        const int lane = thread & 31, g = lane >> 2, t = lane & 3;
        constexpr int kOwn = D / 4, kTurns = D <= 128 ? 1 : 2;
        // Of eight of the warp's rows, where its queries were. Fours of dims are interchanged, so that at D = 128 neither writers nor readers meet in a bank, and elsewhere two or three.
        const auto place = [&](int row, int dim) {
            const int four = dim / 4;
            const std::uint32_t at = 4u * (row * D + 4 * (four ^ (row & 3) ^ (four >> 3 & 3) << 1) + dim % 4);
            return queries(thread) + at / 2048 * 8192 + warp(thread) * 2048 + at % 2048;
        };
#pragma unroll kTurns  // unrolled, half of the sums' registers are free early
        for (int h = 0; h < 2; ++h) {
            float own_m = h == 0 ? m[0] : m[1], own_l = h == 0 ? l[0] : l[1];
            own_l += __shfl_xor_sync(~0u, own_l, 1);
            own_l += __shfl_xor_sync(~0u, own_l, 2);
            if (p.a.cap == 0) own_m += state()->offset[h];
            __syncwarp();
#pragma unroll
            for (int c = 0; c < D / 8; ++c) {
                const int dim = D / 8 * (2 * (c & 3) + (t >> 1)) + 4 * (c >> 2) + 2 * (t & 1);
                asm volatile("st.shared.v2.f32 [%0], {%1,%2};" ::"r"(place(g, dim)), "f"(h == 0 ? out[4 * c] : out[4 * c + 2]), "f"(h == 0 ? out[4 * c + 1] : out[4 * c + 3]) : "memory");
            }
            __syncwarp();
            float x[kOwn];  // from dim kOwn t on
#pragma unroll
            for (int i = 0; i < kOwn / 4; ++i) {
                const uint4 four = device::load_shared16(place(g, kOwn * t + 4 * i));
                const bool there = kHeadDim % 32 == 0 || kOwn * t + 4 * i < kHeadDim;  // codes beyond stand for something
#pragma unroll
                for (int k = 0; k < 4; ++k) x[4 * i + k] = there ? __uint_as_float(device::component(four, k)) * device::kHalvesUnit : 0.0f;
            }
            const int number = first_row(thread) + g + 8 * h;
            if (complete) {
                device::unrotate_quads<kHeadDim, true>(x, p.a.values.sign, p.a.values.paley);
                const Row row = prefill_row_at(p.a, piece, number, state()->position[h]);
                if (!row.idle) {
                    const float factor = close_row(p.a, row, own_m, own_l, t == 0);
                    const std::int64_t at = row.token * p.a.output_token_stride + row.head * p.a.output_head_stride + kOwn * t;
#pragma unroll
                    for (int i = 0; i < kOwn / 8; ++i) {
                        if (kHeadDim % 32 == 0 || kOwn * t + 8 * i < kHeadDim) store_eight(p.a.output, at + 8 * i, p.a.output_number, x + 8 * i, factor);
                    }
                }
            } else {
                float* to = partial + static_cast<std::size_t>(number) * Shape::kRow;
#pragma unroll
                for (int i = 0; i < kOwn / 4; ++i) *reinterpret_cast<float4*>(to + kOwn * t + 4 * i) = make_float4(x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]);
                if (t == 0) *reinterpret_cast<float2*>(to + D) = make_float2(own_m, own_l);
            }
        }
        __syncwarp();
    }
};

}  // namespace turboquant::cuda

// References that are settled in this call: the means of runs of rows. Compile with -fmad=false.
#pragma once

#include "cuda/append/policy.hpp"
#include "cuda/append/rows.cuh"
#include "cuda/append/tokens.cuh"

namespace turboquant::cuda {

__device__ inline bool is_finite(std::uint16_t half) { return (half & 0x7c00) != 0x7c00; }

// A long run's mean, by all threads of the CTA, with barriers. counted: [2] words in shared memory, zero before. staged: shared memory for the
// run's rows. It is done once per CTA, so its loops stay loops: fetching instructions takes longer than they do.
template <int kHeadDim>
__device__ __forceinline__ void mean_of_long_run(const AppendParams& p, std::int32_t run, int length, int head, std::uint32_t* counted, std::uint16_t* mean, std::uint16_t* staged) {
    constexpr int D = device::RotationShape<kHeadDim>::kPadded, kNum = D / 32, kRowsAtOnce = 4;
    static_assert(D <= kAppendThreads);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, dim = threadIdx.x;
    __syncthreads();  // the run before is read
    const auto stage = [&](auto&& half_at) {
#pragma unroll 1
        for (int first = warp; first < length; first += kRowsAtOnce * kAppendWarps) {
            std::uint16_t half[kRowsAtOnce][kNum];  // all loads before the first store
#pragma unroll
            for (int i = 0; i < kRowsAtOnce; ++i) {
                const int t = first + kAppendWarps * i;
#pragma unroll
                for (int k = 0; k < kNum; ++k) {
                    half[i][k] = t < length && (32 * (k + 1) <= kHeadDim || lane + 32 * k < kHeadDim) ? half_at(run + t, lane + 32 * k) : std::uint16_t{0};
                }
            }
#pragma unroll
            for (int i = 0; i < kRowsAtOnce; ++i) {
                const int t = first + kAppendWarps * i;
                bool finite = t < length;
#pragma unroll
                for (int k = 0; k < kNum; ++k) {
                    finite = finite && is_finite(half[i][k]);
                    if (t < length) staged[t * D + lane + 32 * k] = half[i][k];
                }
                if (__all_sync(~0u, finite) && lane == 0) atomicOr(counted + t / 32, 1u << (t % 32));
            }
        }
    };
    with_number(p.number, [&](auto number) {
        constexpr Number kNumber = decltype(number)::value;
        if (p.rope.half != 0) stage([&](std::int32_t token, int at) { return TurnedRow<kNumber>(p, token, head).half(at); });
        else stage([&](std::int32_t token, int at) { return RawRow<kNumber>(p.sides[0], token, head).half(at); });
    });
    __syncthreads();
    if (dim >= D) return;
    // The tree sum over 64 rows, of which those that do not count are zero: eight rows a turn, turns in the order in which the tree takes them.
    const std::uint64_t rows = static_cast<std::uint64_t>(counted[1]) << 32 | counted[0];
    float pair = 0, quarter = 0, half = 0;
#pragma unroll 1
    for (int turn = 0; turn < 8; ++turn) {
        const int first = turn >> 2 | (turn & 2) | (turn & 1) << 2;  // 0, 4, 2, 6, 1, 5, 3, 7
        const float sum = device::lane_sum<8>([&](auto n) {
            const int t = first + 8 * n;
            return rows >> t & 1 ? device::half_value(staged[t * D + dim]) : 0.0f;
        });
        pair = turn & 1 ? pair + sum : sum;
        if ((turn & 1) == 0) continue;
        quarter = turn & 2 ? quarter + pair : pair;
        if ((turn & 2) == 0) continue;
        half = turn & 4 ? half + quarter : quarter;
    }
    const int count = __popcll(rows);
    mean[dim] = count == 0 ? 0 : device::half_bits(half / static_cast<float>(count));
}

// A short run's mean, by a warp.
template <int kHeadDim>
__device__ __forceinline__ void mean_of_short_run(const AppendParams& p, std::int32_t run, int length, int head, std::uint16_t* mean) {
    constexpr int D = device::RotationShape<kHeadDim>::kPadded;
    const int lane = threadIdx.x & 31;
    with_number(p.number, [&](auto number) {
        constexpr Number kNumber = decltype(number)::value;
        std::uint32_t counted = 0;  // rows that have only finite numbers
#pragma unroll 1
        for (int t = 0; t < length; ++t) {
            bool finite = true;
            for (int dim = lane; dim < kHeadDim; dim += 32) finite = finite && is_finite(load_key<kNumber>(p, run + t, head, dim));
            if (__all_sync(~0u, finite)) counted |= 1u << t;
        }
        const int count = __popc(counted);
#pragma unroll 1
        for (int dim = lane; dim < D; dim += 32) {
            // The tree sum over 64 rows of which the first 16 may count: quarters of them in the order in which the tree takes them.
            float sum[2] = {0, 0};
#pragma unroll 1
            for (int i = 0; i < 4; ++i) {
                const int from = i >> 1 | (i & 1) << 1;  // 0, 2, 1, 3
                float row[4];
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    const bool counts = dim < kHeadDim && (counted >> (from + 4 * j) & 1);
                    row[j] = (counts ? device::half_value(load_key<kNumber>(p, run + from + 4 * j, head, dim)) : 0.0f) + 0.0f;
                }
                const float quarter = (row[0] + row[2]) + (row[1] + row[3]);
                if (i < 2) sum[0] = i == 0 ? quarter : sum[0] + quarter;
                else sum[1] = i == 2 ? quarter : sum[1] + quarter;
            }
            mean[dim] = count == 0 ? 0 : device::half_bits((sum[0] + sum[1]) / static_cast<float>(count));
        }
    });
    __syncwarp();
}

}  // namespace turboquant::cuda

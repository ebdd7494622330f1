// Putting a unit's pieces together: those of a CTA's warps, then those of CTAs that share the unit (hand_in.cuh), row by row
// and in the order of the pages.
//
// A piece is kept as rows of Shape::kRow floats: d weighted sums in rotated space, m (the reference of the sums, log2), l.
#pragma once

#include "cuda/attend/hand_in.cuh"
#include "cuda/attend/rows.cuh"

namespace turboquant::cuda {

constexpr std::uint32_t kNone = ~0u;

// Which unit a warp's last (and first) piece belongs to; in shared memory.
template <int kWarps>
struct Segments {
    std::uint32_t last_start[kWarps], first_start[kWarps];  // first item of the unit; kNone: no such piece
    Unit last_unit[kWarps], first_unit[kWarps];
};

// All threads of a CTA, after a barrier. memory: the shared memory of the CTA's warps (of its teams, wide_policy.hpp), a last piece lying at
// its start.
template <class Shape, int kRows, int kHeadDim>
__device__ __forceinline__ void merge_segments(const AttendParams& p, const std::uint8_t* memory, const Segments<Shape::kWarps>& segments, const Sharing* sharing) {
    constexpr int kNum = Shape::D / 32, kWarps = Shape::kWarps;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const std::uint32_t last_start = lane < kWarps ? segments.last_start[lane] : kNone, first_start = lane < kWarps ? segments.first_start[lane] : kNone;
    unsigned left = __ballot_sync(~0u, last_start != kNone);
    // The CTA's first unit may have ended in its first warp: then there is a first piece and no other.
    int alone = __ffs(__ballot_sync(~0u, first_start != kNone)) - 1;
    const std::uint32_t alone_start = __shfl_sync(~0u, first_start, alone & 31);
    if (__ballot_sync(~0u, last_start == alone_start)) alone = -1;
    int turn = warp;
#pragma unroll 1
    while (left || alone >= 0) {
        const bool is_last = left != 0;
        const int who = is_last ? 31 - __clz(left) : alone;
        const std::uint32_t start = __shfl_sync(~0u, is_last ? last_start : first_start, who);
        const unsigned lasts = __ballot_sync(~0u, last_start == start), firsts = __ballot_sync(~0u, first_start == start);
        if (is_last) left &= ~lasts; else alone = -1;
        if (turn < kRows) {
            const Unit unit = is_last ? segments.last_unit[who] : segments.first_unit[who];
#pragma unroll 1
            for (; turn < kRows; turn += Shape::kMergeWarps) {
                Piece<kNum> sum, piece[kWarps];
                sum.clear();
                if (firsts) {
                    const float* row = p.scratch + (static_cast<std::size_t>(blockIdx.x) * kWarps + __ffs(firsts) - 1) * 2 * Shape::kPartial + turn * Shape::kRow;
                    sum.m = row[Shape::D];
                    sum.l = row[Shape::D + 1];
#pragma unroll
                    for (int i = 0; i < kNum; ++i) sum.x[i] = row[lane + 32 * i];
                }
                float top = sum.m;
#pragma unroll
                for (int k = 0; k < kWarps; ++k) {  // other warps' memory is read too, and what it holds dropped
                    const float* row = reinterpret_cast<const float*>(memory + k * Shape::warp_bytes()) + turn * Shape::kRow;
                    piece[k].m = lasts >> k & 1 ? row[Shape::D] : device::kNothing;
                    piece[k].l = row[Shape::D + 1];
#pragma unroll
                    for (int i = 0; i < kNum; ++i) piece[k].x[i] = row[lane + 32 * i];
                    top = fmaxf(top, piece[k].m);
                }
                sum.rescale(top);
#pragma unroll
                for (int k = 0; k < kWarps; ++k) {
                    if (lasts >> k & 1) sum.add(piece[k]);
                }
                const Sharing& own = sharing[start == sharing[0].start ? 0 : 1];
                const bool shared = own.shared && own.start == start;
                if (shared && !hand_in<Shape>(p, own, turn, sum)) continue;
                write_row<kHeadDim>(p, row_of<kRows>(p, unit, turn), sum.x, sum.m, sum.l);
            }
        }
        turn -= kRows;
    }
}

}  // namespace turboquant::cuda

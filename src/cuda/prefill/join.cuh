// Puts the pieces of units together that several CTAs or clusters worked on, in the order of their pages: prefill's second kernel.
#pragma once

#include "cuda/attend/piece.cuh"
#include "cuda/prefill/join.hpp"
#include "cuda/prefill/policy.hpp"
#include "cuda/prefill/rows.cuh"

namespace turboquant::cuda {

// CTA kJoinParts c + i joins the unit in which cluster (or lone CTA) c of `clusters` ended, if it began there.
template <int kHeadDim, int kRows>
__global__ void __launch_bounds__(kJoinThreads) prefill_join_kernel(const __grid_constant__ PrefillParams p, int clusters) {
    using Shape = PrefillPiece<kHeadDim, kRows>;
    __shared__ std::uint32_t starts[kMaxBatch + 1];
    const PrefillPlan plan = make_prefill_plan<kRows>(p.a, clusters, starts);
    const std::uint32_t cluster = blockIdx.x / kJoinParts, warp = threadIdx.x >> 5;
    if (cluster + 1 >= plan.grid) return;
    PrefillUnit<kRows> unit;
    const std::uint32_t cut = plan.cut(cluster + 1);
    unit.find(p.a, plan.starts, cut);
    if (unit.start == cut || unit.start < plan.cut(cluster)) return;
    std::uint32_t last = cluster + 1;    // that has a piece
    while (last + 1 < plan.grid && plan.cut(last + 1) < unit.end()) ++last;
    for (int r = blockIdx.x % kJoinParts * (kJoinThreads / 32) + warp; r < kRows; r += kJoinParts * kJoinThreads / 32) {
        const Row row = prefill_row<kRows>(p.a, unit, r);
        if (row.idle) continue;
        Piece<Shape::D / 32> sum;
        const auto load = [&](std::uint32_t c, auto& piece) {
            const float* from = p.a.partials + (2 * static_cast<std::size_t>(c) + (c == cluster ? 1 : 0)) * Shape::kPartial + static_cast<std::size_t>(r) * Shape::kRow;
            const float2 ml = __ldcg(reinterpret_cast<const float2*>(from + Shape::D));
            piece.m = ml.x;
            piece.l = ml.y;
#pragma unroll
            for (int k = 0; k < Shape::D / 32; ++k) piece.x[k] = __ldcg(from + (threadIdx.x & 31) + 32 * k);
        };
        gather<2>(cluster, last, load, sum);
        write_row<kHeadDim>(p.a, row, sum.x, sum.m, sum.l);
    }
}

}  // namespace turboquant::cuda

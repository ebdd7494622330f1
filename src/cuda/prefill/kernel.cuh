// Attention of many query rows on compressed pages: two warpgroups decode pages, two compute (produce.cuh, consume.cuh), in clusters of two CTAs
// or alone (pipeline.cuh). Then a small second kernel puts the pieces of shared units together, in the order of their pages.
#pragma once

#include "cuda/attend/merge.cuh"
#include "cuda/prefill/consume.cuh"
#include "cuda/prefill/join.hpp"

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

template <int kHeadDim>
__global__ void __cluster_dims__(PrefillShape<kHeadDim>::kCtas, 1, 1) __launch_bounds__(PrefillShape<kHeadDim>::kThreads, 1) prefill_kernel(const __grid_constant__ PrefillParams p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    using Shape = PrefillShape<kHeadDim>;
    const std::uint32_t memory = device::shared_address(prefill_shared);
    if (p.a.early) device::wait_for_predecessor();
    if (threadIdx.x == 0) {
        const Barriers barriers{memory + static_cast<std::uint32_t>(Shape::kBarriers)};
        for (int s = 0; s < Shape::kMaxSlots; ++s) {
            barrier_init_counted(barriers.codes(false, s), 1);
            barrier_init_counted(barriers.codes(true, s), 1);
        }
        for (int s = 0; s < Shape::kKeyStages; ++s) {
            barrier_init_counted(barriers.key_full(s), 1);
            barrier_init_counted(barriers.key_empty(s), Shape::kCtas * 4 * Shape::kConsumers);
        }
        for (int s = 0; s < Shape::kValueStages; ++s) {
            barrier_init_counted(barriers.value_full(s), 1);
            barrier_init_counted(barriers.value_empty(s), Shape::kCtas * 4 * Shape::kConsumers);
        }
        device::barrier_fence();
    }
    const PrefillPlan plan = make_prefill_plan<Shape::kRows>(p.a, gridDim.x / Shape::kCtas, reinterpret_cast<std::uint32_t*>(prefill_shared + Shape::kStarts));
    write_unanswered<kHeadDim>(p.a);
    const std::uint32_t cluster = blockIdx.x / Shape::kCtas;
    if (cluster >= plan.grid) return;
    meet_cluster<Shape::kCtas>();  // barriers are there
    if (threadIdx.x < 128) {
        give_registers<Shape::kProducerRegisters>();
        produce_keys<kHeadDim>(p, plan, plan.cut(cluster), plan.cut(cluster + 1));
    } else if (threadIdx.x < 256) {
        give_registers<Shape::kProducerRegisters>();
        produce_values<kHeadDim>(p, plan, plan.cut(cluster), plan.cut(cluster + 1));
    } else {
        take_registers<Shape::kConsumerRegisters>();
        consume<kHeadDim>(p);
    }
    meet_cluster<Shape::kCtas>();  // nobody reaches into the shared memory of a CTA that is gone
#endif
}

// CTA kJoinParts c + i joins the unit in which cluster c of `clusters` ended, if it began there.
template <int kHeadDim>
__global__ void __launch_bounds__(kJoinThreads) prefill_join_kernel(const __grid_constant__ PrefillParams p, int clusters) {
    using Shape = PrefillShape<kHeadDim>;
    __shared__ std::uint32_t starts[kMaxBatch + 1];
    const PrefillPlan plan = make_prefill_plan<Shape::kRows>(p.a, clusters, starts);
    const std::uint32_t cluster = blockIdx.x / kJoinParts, warp = threadIdx.x >> 5;
    if (cluster + 1 >= plan.grid) return;
    PrefillUnit<Shape::kRows> unit;
    const std::uint32_t cut = plan.cut(cluster + 1);
    unit.find(p.a, plan.starts, cut);
    if (unit.start == cut || unit.start < plan.cut(cluster)) return;
    std::uint32_t last = cluster + 1;    // that has a piece
    while (last + 1 < plan.grid && plan.cut(last + 1) < unit.end()) ++last;
    for (int r = blockIdx.x % kJoinParts * (kJoinThreads / 32) + warp; r < Shape::kRows; r += kJoinParts * kJoinThreads / 32) {
        const Row row = prefill_row<Shape::kRows>(p.a, unit, r);
        if (row.idle) continue;
        Piece<Shape::D / 32> sum;
        gather<2>(cluster, last, [&](std::uint32_t c) { return p.a.partials + (2 * static_cast<std::size_t>(c) + (c == cluster ? 1 : 0)) * Shape::kPartial + static_cast<std::size_t>(r) * Shape::kRow; }, sum);
        write_row<kHeadDim>(p.a, row, sum.x, sum.m, sum.l);
    }
}

}  // namespace turboquant::cuda

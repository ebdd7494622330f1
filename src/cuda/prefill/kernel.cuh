// Attention of many query rows on compressed pages, for compute capability 9.0: two warpgroups decode pages, two compute (produce.cuh, consume.cuh), in
// clusters of two CTAs or alone (pipeline.cuh). A small second kernel (join.cuh) follows.
#pragma once

#include "cuda/prefill/consume.cuh"

namespace turboquant::cuda {

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

}  // namespace turboquant::cuda

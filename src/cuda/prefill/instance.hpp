// The compiled prefill kernels: one per head_dim of TQ_CUDA_KERNELS and target, and one more for 90a; for all widths of codes.
#pragma once

#include <cstddef>

#include "cuda/prefill/params.hpp"

namespace turboquant::cuda {

struct PrefillInstance {
    int head_dim, rows, threads, ctas;            // rows of a tile; threads of a CTA; CTAs of a cluster
    int (*slots)(std::size_t key_part, std::size_t value_part);
    std::size_t (*shared_bytes)(std::size_t key_part, std::size_t value_part);
    std::size_t (*workspace_bytes)(int clusters);
    const void* kernel;                           // void(PrefillParams)
};

template <int kHeadDim, class Shape>
PrefillInstance prefill_instance(void (*kernel)(PrefillParams)) {
    return {kHeadDim, Shape::kRows, Shape::kThreads, Shape::kCtas, &Shape::slots, &Shape::shared_bytes, &Shape::workspace_bytes, reinterpret_cast<const void*>(kernel)};
}

}  // namespace turboquant::cuda

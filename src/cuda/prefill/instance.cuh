// What a generated source of a head_dim consists of.
#pragma once

#include "cuda/prefill/instance.hpp"
#include "cuda/prefill/kernel.cuh"

#define TQ_PREFILL(D)                                                                                                                 \
    namespace turboquant::cuda {                                                                                                      \
    PrefillInstance prefill_instance_##D() {                                                                                          \
        using Shape = PrefillShape<D>;                                                                                                \
        return {D, Shape::kRows, Shape::kThreads, Shape::kCtas, &Shape::slots, &Shape::shared_bytes, &Shape::workspace_bytes,         \
                reinterpret_cast<const void*>(&prefill_kernel<D>), reinterpret_cast<const void*>(&prefill_join_kernel<D>)};           \
    }                                                                                                                                 \
    }

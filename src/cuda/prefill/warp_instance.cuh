// What a generated source of a target and head_dim consists of.
#pragma once

#include "cuda/prefill/instance.hpp"
#include "cuda/prefill/warp_kernel.cuh"

#define TQ_WARP_PREFILL(T, D)                                                                                            \
    namespace turboquant::cuda {                                                                                         \
    PrefillInstance warp_prefill_##T##_##D() { return prefill_instance<D, WarpPrefillShape<D, Target::T>>(&warp_prefill_kernel<D, Target::T>); } \
    }

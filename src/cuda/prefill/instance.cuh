// What a generated source of a head_dim consists of.
#pragma once

#include "cuda/prefill/instance.hpp"
#include "cuda/prefill/kernel.cuh"

#define TQ_PREFILL(D)                                                                                                    \
    namespace turboquant::cuda {                                                                                         \
    PrefillInstance prefill_instance_##D() { return prefill_instance<D, PrefillShape<D>>(&prefill_kernel<D>); }          \
    }

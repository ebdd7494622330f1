// What a source of one head_dim consists of.
#pragma once

#include "cuda/append/instance.hpp"
#include "cuda/append/kernel.cuh"

#define TQ_APPEND(HEAD_DIM)                                          \
    namespace turboquant::cuda {                                     \
    template <>                                                      \
    const void* append_instance<HEAD_DIM>() {                        \
        return reinterpret_cast<const void*>(&append_kernel<HEAD_DIM>); \
    }                                                                \
    }

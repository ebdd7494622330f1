// What a source of one head_dim consists of.
#pragma once

#include "cuda/append/instance.hpp"
#include "cuda/append/kernel.cuh"

namespace turboquant::cuda {

template <int kHeadDim>
const void* append_instance() {
    return reinterpret_cast<const void*>(&append_kernel<kHeadDim>);
}

}  // namespace turboquant::cuda

#define TQ_APPEND(HEAD_DIM) template const void* turboquant::cuda::append_instance<HEAD_DIM>();

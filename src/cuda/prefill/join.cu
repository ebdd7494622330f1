#include "cuda/prefill/join.cuh"

#include "cuda/head_dims.hpp"

namespace turboquant::cuda {
namespace {

template <int kHeadDim>
const void* with_rows(int rows) {
    switch (rows) {
        case 64: return kHeadDim == 256 ? reinterpret_cast<const void*>(&prefill_join_kernel<256, 64>) : nullptr;
        case 128: return reinterpret_cast<const void*>(&prefill_join_kernel<kHeadDim, 128>);
        case 256: return reinterpret_cast<const void*>(&prefill_join_kernel<kHeadDim, 256>);
        default: return nullptr;
    }
}

}  // namespace

const void* prefill_join(int head_dim, int rows) {
    return HeadDims::pick(head_dim, [&](auto d) { return with_rows<d>(rows); });
}

}  // namespace turboquant::cuda

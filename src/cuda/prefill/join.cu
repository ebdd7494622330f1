#include "cuda/prefill/join.cuh"

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
    switch (head_dim) {
        case 64: return with_rows<64>(rows);
        case 80: return with_rows<80>(rows);
        case 96: return with_rows<96>(rows);
        case 112: return with_rows<112>(rows);
        case 128: return with_rows<128>(rows);
        case 192: return with_rows<192>(rows);
        case 256: return with_rows<256>(rows);
        default: return nullptr;
    }
}

}  // namespace turboquant::cuda

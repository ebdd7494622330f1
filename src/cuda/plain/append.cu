// The encoding kernel of pages of records, and its launch. A warp codes one vector. Compile with -fmad=false.
#include "cuda/checks.hpp"
#include "cuda/device/dependent_launch.cuh"
#include "cuda/head_dims.hpp"
#include "cuda/launch.hpp"
#include "cuda/plain/append.cuh"
#include "cuda/plain/launch.hpp"
#include "cuda/plain/tables.hpp"

namespace turboquant::cuda {
namespace {

template <int kHeadDim>
__global__ void __launch_bounds__(kPlainAppendWarps * 32, 1) plain_append_kernel(const __grid_constant__ PlainAppendParams p) {
    __shared__ EncodeWarpMemory<kHeadDim> memory[kPlainAppendWarps];
    if (p.early) {
        device::launch_dependents();
        device::wait_for_predecessor();
    }
    const int warp = threadIdx.x / 32;
    const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * kPlainAppendWarps + warp;
    if (item < 2ll * p.tokens * p.kv_heads) append_item<kHeadDim>(p, item, memory[warp]);
}

const void* kernel_for(int head_dim) {
    return HeadDims::pick(head_dim, [](auto d) { return reinterpret_cast<const void*>(&plain_append_kernel<d>); });
}

}  // namespace

Status plain_append(const PagedCache& cache, const AppendArgs& args, void* stream) {
    PlainAppendParams p = plain_append_params(cache, args);
    const std::int64_t grid = (2ll * p.tokens * p.kv_heads + kPlainAppendWarps - 1) / kPlainAppendWarps;
    if (grid > 0x7fffffff) return invalid_argument("tokens is " + std::to_string(args.tokens) + "; supported: times kv_heads below 2^33");
    void* arguments[] = {&p};
    return launch(kernel_for(cache.spec.head_dim), static_cast<int>(grid), kPlainAppendWarps * 32, 0, p.early, arguments, stream);
}

}  // namespace turboquant::cuda

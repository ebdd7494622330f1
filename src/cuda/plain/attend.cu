// The attention kernel over pages of records, and its launch. A warp has an item of its own; nothing is shared but the tables of levels.
#include "cuda/checks.hpp"
#include "cuda/device/dependent_launch.cuh"
#include "cuda/head_dims.hpp"
#include "cuda/launch.hpp"
#include "cuda/plain/attend.cuh"
#include "cuda/plain/launch.hpp"
#include "cuda/plain/tables.hpp"

namespace turboquant::cuda {
namespace {

template <int kHeadDim>
__global__ void __launch_bounds__(kPlainAttendWarps * 32) plain_attend_kernel(const __grid_constant__ PlainAttendParams p) {
    __shared__ LevelTables levels;
    __shared__ AttendWarpMemory<kHeadDim> memory[kPlainAttendWarps];
    for (int i = threadIdx.x; i < 256; i += kPlainAttendWarps * 32) fill_levels(p, i, levels);
    if (p.early) {
        device::launch_dependents();
        device::wait_for_predecessor();
    }
    __syncthreads();
    const int warp = threadIdx.x / 32;
    const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * kPlainAttendWarps + warp;
    if (item < p.items) attend_item<kHeadDim>(p, item, levels, memory[warp]);
}

const void* kernel_for(int head_dim) {
    return HeadDims::pick(head_dim, [](auto d) { return reinterpret_cast<const void*>(&plain_attend_kernel<d>); });
}

}  // namespace

Result<Workspace> plain_workspace(const PageSpec& spec) {
    const auto processors = num_processors();
    if (!processors.ok()) return processors.status();
    return Workspace{plain_workspace_bytes(spec.head_dim, processors.value()), zeroed_bytes(processors.value())};
}

Status plain_attend(const PagedCache& cache, const AttendArgs& args, void* stream) {
    const auto processors = num_processors();
    if (!processors.ok()) return processors.status();
    const std::size_t needed = plain_workspace_bytes(cache.spec.head_dim, processors.value());
    if (args.workspace == nullptr || reinterpret_cast<std::uintptr_t>(args.workspace) % 256 != 0) return invalid_argument("workspace is null or not aligned to 256 bytes");
    if (args.workspace_bytes < needed) return invalid_argument("workspace_bytes is " + std::to_string(args.workspace_bytes) + "; this call needs " + std::to_string(needed));
    PlainAttendParams p = plain_attend_params(cache, args, processors.value());
    const std::int64_t grid = (p.items + kPlainAttendWarps - 1) / kPlainAttendWarps;
    if (grid > 0x7fffffff) return invalid_argument("batch times query heads times num_queries is too large for one launch; supported: below 2^33");
    void* arguments[] = {&p};
    return launch(kernel_for(cache.spec.head_dim), static_cast<int>(grid), kPlainAttendWarps * 32, 0, p.early, arguments, stream);
}

}  // namespace turboquant::cuda

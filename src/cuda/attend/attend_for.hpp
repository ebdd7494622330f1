// attend() with the kernels of a given target, or the device's own: for tests, and benchmarks of them. A newer device can run older ones, if
// the build was told to compile them for it (TQ_CUDA_FORCED_TARGETS).
#pragma once

#include <optional>

#include "cuda/target.hpp"
#include "turboquant/cuda.hpp"

namespace turboquant::cuda {

Result<Workspace> attend_workspace_for(std::optional<Target> wanted, const PageSpec& spec, int kv_heads, int query_heads, int num_queries);
Status attend_for(std::optional<Target> wanted, const PagedCache& cache, const AttendArgs& args, void* stream);

}  // namespace turboquant::cuda

// attend() with the kernels of a given target instead of the device's own: for tests, and benchmarks of them. A newer device can run them, if
// the build was told to compile them for it (TQ_CUDA_FORCED_TARGETS).
#pragma once

#include "cuda/target.hpp"
#include "turboquant/cuda.hpp"

namespace turboquant::cuda {

Result<Workspace> attend_workspace_for(Target target, const PageSpec& spec, int kv_heads, int query_heads, int num_queries);
Status attend_for(Target target, const PagedCache& cache, const AttendArgs& args, void* stream);

}  // namespace turboquant::cuda

// prefill() with the kernels of a given target instead of the device's own: for tests, and benchmarks of them (as attend/attend_for.hpp).
#pragma once

#include "cuda/target.hpp"
#include "turboquant/cuda.hpp"

namespace turboquant::cuda {

Result<Workspace> prefill_workspace_for(Target target, const PageSpec& spec);
Status prefill_for(Target target, const PagedCache& cache, const AttendArgs& args, void* stream);

}  // namespace turboquant::cuda

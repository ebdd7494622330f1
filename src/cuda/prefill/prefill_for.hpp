// prefill() with the kernels of a given target, or the device's own: for tests, and benchmarks of them (as attend/attend_for.hpp).
#pragma once

#include <optional>

#include "cuda/target.hpp"
#include "turboquant/cuda.hpp"

namespace turboquant::cuda {

Result<Workspace> prefill_workspace_for(std::optional<Target> wanted, const PageSpec& spec);
Status prefill_for(std::optional<Target> wanted, const PagedCache& cache, const AttendArgs& args, void* stream);

}  // namespace turboquant::cuda

// Launching a kernel and asking the current device, with errors as values.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "cuda/target.hpp"
#include "turboquant/status.hpp"

namespace turboquant::cuda {

// Streaming multiprocessors of the current device.
Result<int> num_processors();

// Which kernels the current device runs.
Result<Target> current_target();
// The same, but where a caller wants those of another one.
inline Result<Target> target_or_own(std::optional<Target> wanted) { return wanted ? Result<Target>(*wanted) : current_target(); }
// Whether these are kernels of the current device that may use warpgroup instructions: of the devices of its target, 9.0 alone has them.
bool has_warpgroups(Target target);
// As in "8.6".
std::string current_capability();

// overlapped: programmatic dependent launch, where the device has it (compute capability 9.0); else ordinary stream order, which is stricter.
Status launch(const void* kernel, int grid, int threads, std::size_t shared_bytes, bool overlapped, void** arguments, void* stream);

}  // namespace turboquant::cuda

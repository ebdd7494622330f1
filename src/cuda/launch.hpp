// Launching a kernel and asking the current device, with errors as values.
#pragma once

#include <cstddef>

#include "cuda/target.hpp"
#include "turboquant/status.hpp"

namespace turboquant::cuda {

// Streaming multiprocessors of the current device.
Result<int> num_processors();

// Which kernels the current device runs.
Result<Target> current_target();

// overlapped: programmatic dependent launch, where the device has it (compute capability 9.0); else ordinary stream order, which is stricter.
Status launch(const void* kernel, int grid, int threads, std::size_t shared_bytes, bool overlapped, void** arguments, void* stream);

}  // namespace turboquant::cuda

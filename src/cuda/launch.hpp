// Launching a kernel and asking the current device, with errors as values.
#pragma once

#include <cstddef>

#include "turboquant/status.hpp"

namespace turboquant::cuda {

// Streaming multiprocessors of the current device.
Result<int> num_processors();

// overlapped: programmatic dependent launch.
Status launch(const void* kernel, int grid, int threads, std::size_t shared_bytes, bool overlapped, void** arguments, void* stream);

}  // namespace turboquant::cuda

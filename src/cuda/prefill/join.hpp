// The shape of the kernel that joins pieces.
#pragma once

namespace turboquant::cuda {

inline constexpr int kJoinThreads = 256, kJoinParts = 8;  // CTAs that share the rows of a unit

}  // namespace turboquant::cuda

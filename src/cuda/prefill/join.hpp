// The kernel that joins pieces, for every kernel that leaves some: compiled once for all architectures.
#pragma once

namespace turboquant::cuda {

inline constexpr int kJoinThreads = 256, kJoinParts = 8;  // CTAs that share the rows of a unit

// void(PrefillParams, int clusters); rows: of a unit. Null where no kernel has such units.
const void* prefill_join(int head_dim, int rows);

}  // namespace turboquant::cuda

// How the plain kernels are shaped: rows and warps, and into how many pieces a history is cut. Host code, no CUDA: unit-tested.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/attend/policy.hpp"

namespace turboquant::cuda {

inline constexpr int kPlainRows = 4;          // query rows of a warp
inline constexpr int kPlainAttendWarps = 4;   // of a CTA
inline constexpr int kPlainAppendWarps = 8;
inline constexpr int kPlainBusyWarps = 16;    // per processor
static_assert(kPlainBusyWarps <= kMostRows, "the counters are those of the other attention kernels");

constexpr std::int64_t plain_units(int batch, int kv_heads, int group, int num_queries) {
    return static_cast<std::int64_t>(batch) * kv_heads * ((static_cast<std::int64_t>(group) * num_queries + kPlainRows - 1) / kPlainRows);
}

// Pieces of each unit's pages, so that there are about kPlainBusyWarps warps per processor and never more pieces than the workspace holds.
// Lengths are not known here: a warp whose piece is empty leaves.
constexpr int plain_splits(std::int64_t units, int processors) {
    const std::int64_t fitting = static_cast<std::int64_t>(processors) * kPlainBusyWarps / (units > 0 ? units : 1);
    return static_cast<int>(fitting < 1 ? 1 : fitting);
}

// Floats of a piece of one unit in the workspace: per row the sums, their reference and the sum of weights, two unused.
constexpr std::size_t plain_row_floats(int head_dim) { return static_cast<std::size_t>(head_dim + 31) / 32 * 32 + 4; }
constexpr std::size_t plain_piece_floats(int head_dim) { return kPlainRows * plain_row_floats(head_dim); }
constexpr std::size_t plain_workspace_bytes(int head_dim, int processors) {
    return zeroed_bytes(processors) + 4 * static_cast<std::size_t>(processors) * kPlainBusyWarps * plain_piece_floats(head_dim);
}

}  // namespace turboquant::cuda

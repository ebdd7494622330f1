// The page whose reference a short run takes over, found through the sequences of the call. For any params that name them.
#pragma once

#include "core/page.hpp"
#include "cuda/device/warp.cuh"

namespace turboquant::cuda {

// The page before the one that token `token` begins; negative: none.
template <class Params>
TQ_DEV std::int32_t page_before(const Params& p, std::int32_t token) {
    if (p.query_start == nullptr || p.batch == 0 || token < p.query_start[0] || token >= p.query_start[p.batch]) return -1;
    int low = 0, high = p.batch;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (p.query_start[middle] <= token) low = middle; else high = middle;
    }
    const int position = p.lengths[low] - (p.query_start[low + 1] - token);
    return position < kPageTokens ? -1 : p.block_table[static_cast<std::int64_t>(low) * p.table_stride + position / kPageTokens - 1];
}

}  // namespace turboquant::cuda

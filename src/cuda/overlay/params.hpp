// What the overlay's kernels are handed: plain data, trusted.
#pragma once

#include "cuda/append/params.hpp"
#include "cuda/attend/params.hpp"
#include "cuda/overlay/assign.hpp"

namespace turboquant::cuda {

// New rows into slots, and pages that lose theirs into codes.
struct RecordParams {
    AppendSide sides[2];                // the new rows: keys, values
    RopeParams rope;
    Number number;
    OverlayTables tables;
    std::uint16_t* rows;                // of the slots
    std::uint8_t* pool;
    const std::int64_t* places;
    std::uint32_t page_units, head_units;
    std::int32_t kv_heads;
    float norm;
    std::int32_t centred;
};

// Attention on exact pages, and the outcome of the coded ones beside it.
struct JoinParams {
    AttendParams a;                     // with the caller's output
    const std::uint16_t* rows;
    const float* coded;                 // [tokens][query heads][head_dim]: what attention on the coded pages gives
    const float* coded_sum;             // [tokens][query heads]: logarithm of its denominator
    std::int32_t tiles;                 // of query rows, per sequence and KV head: CTAs
    std::int32_t prefill_rows;          // 0: after attend; else after prefill, with tiles of so many rows: where one sees no coded page, prefill works on some page all
                                        // the same, which does not count
};

}  // namespace turboquant::cuda

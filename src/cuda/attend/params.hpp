// What one launch of the attention kernel is handed: plain data, trusted. include/turboquant/cuda.hpp says what it means to users.
#pragma once

#include <cstdint>

#include "turboquant/cuda.hpp"

namespace turboquant::cuda {

struct RotationBits {
    std::uint32_t sign[10];           // bit j % 32 of word j / 32: minus; the last two words are zero
    std::uint32_t paley[28];          // PaleyBits::row of the matrix (keys) or its transpose (values)
};

struct AttendParams {
    const void* query;                // [tokens][query heads][head_dim], bf16 or fp16
    void* output;                     // the same shape, bf16, fp16 or fp32
    float* log_sum;                   // [tokens][query heads] or null
    const std::uint8_t* pool;
    const std::int32_t* block_table;  // [batch][table_stride]
    const std::int32_t* lengths;      // [batch]
    const std::int32_t* query_start;  // [batch + 1] or null: num_queries positions per sequence
    const float* sinks;               // [query heads] or null
    std::int64_t query_token_stride, query_head_stride, output_token_stride, output_head_stride;  // in numbers
    std::uint32_t page_units, head_units;  // bytes from page to page and from head to head, in units of 128
    std::int32_t table_stride, batch, kv_heads, group, num_queries;
    std::uint32_t group_inverse;      // 2^32 / group, rounded up: row / group is the upper half of a product
    std::int32_t window;              // 0: none
    float scale, norm, cap;           // scale: times log2(e); norm: of the rotation; cap: times log2(e), 0: none
    Number query_number, output_number;
    std::int32_t early;               // programmatic dependent launch: 0 no, 1 wait at once, 2 wait before what an append writes; with an
                                      // overlay, whose kernel follows and waits for no other: 3 wait at once, 4 no
    // overlay
    std::int32_t num_pages;
    const std::int32_t* slot_of_page; // see OverlayTables; null: none, all pages are read as codes
    // workspace
    unsigned* counters;               // [grid][kMostRows], zero between launches
    float* handed;                    // [2 grid][kPartial], the same: of a CTA's first and last unit, handed over directly
    float* partials;                  // [2 grid][kPartial]: the same, counted
    float* scratch;                   // [grid][warps][2][kPartial]: a warp's first piece, and what it writes out
    RotationBits keys, values;        // last: what a plan needs lies together, each line of parameters that is fetched anew takes its time
};

}  // namespace turboquant::cuda

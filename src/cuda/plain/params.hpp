// What one launch of the plain kernels is handed: plain data, trusted. include/turboquant/cuda.hpp says what it means to users.
#pragma once

#include "core/record_page.hpp"
#include "cuda/attend/params.hpp"
#include "turboquant/cuda.hpp"

namespace turboquant::cuda {

// What the codes of one side stand for. A code's number is level[(code ^ u2) << trellis | u1], with u1 and u2 the lowest bits of the codes
// before it along the trellis, 0 without one. 8 bits: code - 128; groups: the code itself.
struct PlainCode {
    std::int32_t trellis;            // 0 or 1
    float level[32];
};

// How vectors of one side are coded, beside that.
struct PlainBook {
    PlainCode code;
    std::int32_t gain_search;
    float alpha;                     // integer units per standard deviation
    float gain[9];                   // 9 of plain codes, 5 along a trellis; the middle one is 1
    float positive[8], threshold[8]; // levels of magnitudes, ascending, and from where on each is taken; threshold[0] is not used
};

// The random matrix of a prod estimator, in rotated space.
struct PlainSketch {
    const float* table;              // [head_dim][head_dim], transposed; null: root times the rotation below
    float factor;                    // of sign bits times the residual's norm
    float root;                      // sqrt(head_dim)
    RotationBits rotation;
};

struct PlainAttendParams {
    const void* query;               // [tokens][query heads][head_dim], bf16 or fp16
    void* output;                    // the same shape, bf16, fp16 or fp32
    float* log_sum;                  // [tokens][query heads] or null
    const std::uint8_t* pool;
    const std::int32_t* block_table; // [batch][table_stride]
    const std::int32_t* lengths;     // [batch]
    const std::int32_t* query_start; // [batch + 1] or null: num_queries positions per sequence
    const float* sinks;              // [query heads] or null
    std::int64_t query_token_stride, query_head_stride, output_token_stride, output_head_stride;  // in numbers
    std::int64_t page_stride, head_stride;  // bytes
    std::int32_t table_stride, kv_heads, group, num_queries;
    std::int32_t tiles, splits;      // of a (sequence, KV head): tiles of kPlainRows rows; of a unit: pieces
    std::int64_t items;              // units times splits
    std::int32_t window;             // 0: none
    float scale, norm, cap;          // scale: times log2(e); norm: of the rotation; cap: times log2(e), 0: none
    Number query_number, output_number;
    std::int32_t early;              // programmatic dependent launch: waits before it reads anything
    RecordPage page;
    PlainCode key_code, value_code;
    RotationBits keys, values;       // values: the inverse; not used by groups
    PlainSketch sketch;
    unsigned* counters;              // [units], zero between launches; where there is more than one split
    float* pieces;                   // [items][plain_piece_floats]
};

struct PlainAppendSide {
    const void* rows;                // [tokens][kv_heads][head_dim]
    std::int64_t token_stride, head_stride;  // in numbers
    PlainBook book;
    RotationBits rotation;
};

struct PlainAppendParams {
    PlainAppendSide keys, values;
    RecordPage page;
    PlainSketch sketch;
    std::uint8_t* pool;
    std::int64_t page_stride, head_stride;  // bytes
    const std::int64_t* slots;
    const std::int32_t* query_start; // null: no sequences given
    const std::int32_t* lengths;
    const std::int32_t* block_table;
    std::int32_t tokens, kv_heads, batch, table_stride;
    float norm;
    Number number;
    std::int32_t centred, early;
};

}  // namespace turboquant::cuda

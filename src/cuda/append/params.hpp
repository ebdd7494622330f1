// What one launch of the encoding kernel is handed: plain data, trusted. include/turboquant/cuda.hpp says what it means to users.
#pragma once

#include "core/page.hpp"
#include "cuda/attend/params.hpp"
#include "cuda/device/encode.cuh"

namespace turboquant::cuda {

// Where a slot that is not negative lies: its page, and its place there. (Divisions of signed numbers take several instructions.)
constexpr std::int64_t page_of(std::int64_t slot) { return slot >> 6; }
constexpr int place_of(std::int64_t slot) { return static_cast<int>(slot & 63); }
static_assert(kPageTokens == 64);

struct AppendSide {
    const void* rows;                    // [tokens][kv_heads][head_dim]
    std::int64_t token_stride, head_stride;  // in numbers
    device::EncodeBook book;
    RotationBits rotation;
};

// How keys are turned; half 0: not at all.
struct RopeParams {
    const float *cosine, *sine;          // [max_position][half]
    const void* positions;               // [tokens]
    std::int64_t stride;                 // numbers from position to position in both tables
    std::int32_t half;                   // pairs of a row
    std::int32_t max_position;
    bool interleaved, wide;              // wide: positions are 64 bits, else 32
};

struct AppendParams {
    AppendSide sides[2];                 // keys, values: an array, so that which one is chosen at run time costs no copy
    RopeParams rope;
    std::uint8_t* pool;
    const std::int64_t* slots;
    const std::int32_t* query_start;     // null: no sequences given
    const std::int32_t* lengths;
    const std::int32_t* block_table;
    std::uint32_t page_units, head_units;
    std::int32_t tokens, kv_heads, batch, table_stride;
    std::int32_t tile;                   // tokens per CTA: 4 .. 64
    float norm;
    Number number;
    std::int32_t centred, early;
};

}  // namespace turboquant::cuda

// The competitor: decode attention on a binary16 cache, by the algorithm of llama.cpp's CPU backend
// (ggml_compute_forward_flash_attn_ext_f16_one_chunk): each query head by itself goes over all cells, one dot product in
// binary16 inputs and float sums, an online softmax, and a value accumulator kept in binary16.
#pragma once

#include <cstddef>
#include <cstdint>

namespace turboquant::bench {

struct F16Attention {
    int num_heads, group_size, head_dim, num_cells;
    const float* query;            // [num_heads][head_dim]
    const std::uint16_t* keys;     // [num_cells][KV heads][head_dim]
    const std::uint16_t* values;
    float scale;
    float* out;                    // [num_heads][head_dim]
};

// One per instruction set, as ggml has it.
void f16_attention_scalar(const F16Attention& args);
void f16_attention_avx2(const F16Attention& args);
void f16_attention_avx512(const F16Attention& args);

}  // namespace turboquant::bench

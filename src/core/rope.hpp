// Rotary position embedding, as a definition: what append() does to keys before they are coded, and what an engine does that rotates them
// itself and appends the rotated rows.
#pragma once

#include <span>

namespace turboquant::reference {

// Which two numbers of a row turn together.
enum class RopePairs {
    halves,      // j and j + rotary_dim / 2 (GPT-NeoX, Llama in most engines)
    neighbours,  // 2 j and 2 j + 1 (GPT-J)
};

// Turns the first 2 * cosine.size() numbers of a row in place; the others stay. Pair (a, b), by the row's entry j of both tables:
//   a' = a cos - b sin     b' = b cos + a sin
// in float32, two products and one sum, each rounded. A caller whose rows are bf16 or fp16 rounds what comes out to that format.
void rope(RopePairs pairs, std::span<const float> cosine, std::span<const float> sine, float* row);

}  // namespace turboquant::reference

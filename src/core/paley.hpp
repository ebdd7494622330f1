// The Paley matrices of rotation.hpp as bits that a kernel can be handed: the order is at most 28 here, so a row is one word.
// A test compares them with paley_hadamard().
#pragma once

#include <cstdint>

namespace turboquant {

inline constexpr int kMaxPaleyBits = 28;

struct PaleyBits {
    int order = 1;
    std::uint32_t row[kMaxPaleyBits] = {};  // bit a of row i: the entry is -1
};

// order 1, 12, 20 (first construction) or 28 (second construction).
constexpr PaleyBits paley_bits(int order) {
    PaleyBits bits{order, {}};
    if (order == 1) return bits;
    const bool second = order == 28;
    const int q = second ? order / 2 - 1 : order - 1, n = q + 1;
    bool square[kMaxPaleyBits] = {};
    for (int x = 1; x < q; ++x) square[x * x % q] = true;
    for (int i = 0; i < n; ++i) {
        for (int j = 0; j < n; ++j) {
            int s = 0;  // the bordered Jacobsthal matrix, skew for the first construction
            if (i == 0 && j > 0) s = 1;
            if (j == 0 && i > 0) s = second ? 1 : -1;
            if (i > 0 && j > 0 && i != j) s = square[((i - j) % q + q) % q] ? 1 : -1;
            if (!second) {
                if (i != j && s < 0) bits.row[i] |= 1u << j;
                continue;
            }
            const int zero_block[4] = {1, -1, -1, -1}, one_block[4] = {1, 1, 1, -1};
            for (int e = 0; e < 4; ++e) {
                if ((s == 0 ? zero_block[e] : s * one_block[e]) < 0) bits.row[2 * i + e / 2] |= 1u << (2 * j + e % 2);
            }
        }
    }
    return bits;
}

}  // namespace turboquant

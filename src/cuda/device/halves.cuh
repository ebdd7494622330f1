// From the packed words of a group (32 codes of one lane, core/page.hpp) to binary16 codewords, for matrix products on binary16 units.
// In between they are bytes, codeword + 128, four to a register, in the order of the codes. Under a high byte of 0x48 such a byte is the
// number 8 + byte / 128: subtracting 9 leaves codeword / 128, exactly.
#pragma once

#include "cuda/device/lookup.cuh"

namespace turboquant::device {

inline constexpr float kHalvesUnit = 128.0f;  // a decoded number times this is codeword times scale
inline constexpr std::uint32_t kMinusNine = 0xc880c880u;

// What look-ups take from registers. Through a shuffle the compiler cannot see through the constants, which it would copy at every use.
template <int kBits>
struct ByteTables {
    std::uint32_t first = 0, second = 0;
    TQ_DEV void init() {
        // 4 bits: upper codewords and lower ones' magnitudes.
        if constexpr (kBits == 4) {
            first = from_lane(table_word(4, 8), 0);
            second = from_lane(~table_word(4, 0) + 0x01010101u, 0);
        } else if constexpr (kBits < 4) {
            first = from_lane(table_word(kBits, 0, 128), 0);
        }
    }
};

// bytes[i]: codes 4 i .. 4 i + 3.
template <int kBits>
TQ_DEV void decode_bytes(const ByteTables<kBits>& tables, const std::uint32_t* words, std::uint32_t* bytes) {
    if constexpr (kBits == 4) {
        // A permutation looks up three bits and gives "the sign of the entry", 0, where the fourth is set: upper codes in one look-up, the
        // lower ones' magnitudes in another. No byte of the difference plus 128 borrows from its neighbour.
        constexpr std::uint32_t kUpper = table_word(4, 12), kLower = ~table_word(4, 4) + 0x01010101u;
        TQ_UNROLL
        for (int i = 0; i < 4; ++i) {
            const std::uint32_t flipped = words[i] ^ 0x88888888u;
            bytes[2 * i] = permute_bytes(tables.first, kUpper, flipped) - permute_bytes(tables.second, kLower, words[i]) + 0x80808080u;
            bytes[2 * i + 1] = permute_bytes(tables.first, kUpper, flipped >> 16) - permute_bytes(tables.second, kLower, words[i] >> 16) + 0x80808080u;
        }
    } else if constexpr (kBits == 3) {
        constexpr std::uint32_t kUpper = table_word(3, 4, 128);
        const std::uint32_t spare = (words[0] >> 3 & 0x11111111u) | (words[1] >> 2 & 0x22222222u) | (words[2] >> 1 & 0x44444444u);
        const std::uint32_t s[4] = {words[0] & 0x77777777u, words[1] & 0x77777777u, words[2] & 0x77777777u, spare};
        TQ_UNROLL
        for (int i = 0; i < 4; ++i) {
            bytes[2 * i] = permute_bytes(tables.first, kUpper, s[i]);
            bytes[2 * i + 1] = permute_bytes(tables.first, kUpper, s[i] >> 16);
        }
    } else if constexpr (kBits == 2) {
        TQ_UNROLL
        for (int i = 0; i < 2; ++i) {
            const std::uint32_t low = words[i] & 0x33333333u, high = words[i] >> 2 & 0x33333333u;
            bytes[4 * i] = permute_bytes(tables.first, tables.first, low);
            bytes[4 * i + 1] = permute_bytes(tables.first, tables.first, low >> 16);
            bytes[4 * i + 2] = permute_bytes(tables.first, tables.first, high);
            bytes[4 * i + 3] = permute_bytes(tables.first, tables.first, high >> 16);
        }
    } else {
        TQ_UNROLL
        for (int i = 0; i < 8; ++i) bytes[i] = words[i];
    }
}

// Bytes i and j of four codewords as a pair of binary16 numbers, codeword / 128. exponents: kExponents, from a register where there is one to spare: a
// permutation has one immediate operand, and the other constant would be copied every time.
inline constexpr std::uint32_t kExponents = 0x48484848u;
template <int i, int j>
TQ_DEV std::uint32_t halves_of(std::uint32_t bytes, std::uint32_t exponents = kExponents) {
    return add_halves(permute_bytes(bytes, exponents, 0x4040u | i | j << 8), kMinusNine);
}

}  // namespace turboquant::device

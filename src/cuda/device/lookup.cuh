// From the packed words of a group (32 codes of one lane, core/page.hpp) to int8 codewords, four to a register, in the order of the
// codes. How codes become codewords is said here and nowhere else: another kind of code is another Lookup.
#pragma once

#include "cuda/device/warp.cuh"

namespace turboquant::device {

// The scalar codebooks (docs/format.md, section 4): positive codewords, ascending.
constexpr int positive_codeword(int bits, int k) {
    constexpr int two[2] = {21, 70}, three[4] = {10, 31, 55, 88}, four[8] = {5, 15, 25, 36, 48, 62, 79, 104};
    return bits == 2 ? two[k] : bits == 3 ? three[k] : four[k];
}
constexpr int scalar_codeword(int bits, int code) {
    const int half = 1 << (bits - 1);
    return code < half ? -positive_codeword(bits, half - 1 - code) : positive_codeword(bits, code - half);
}

// Four codewords, from code `first` on, as the bytes of a table word. plus: added to each.
constexpr std::uint32_t table_word(int bits, int first, int plus = 0) {
    std::uint32_t word = 0;
    for (int i = 0; i < 4; ++i) word |= (static_cast<std::uint32_t>(scalar_codeword(bits, (first + i) & ((1 << bits) - 1)) + plus) & 255u) << (8 * i);
    return word;
}

template <int kBits>
struct ScalarLookup;

// A permutation looks up three bits and takes the fourth for "the sign of the entry". The lower codes' entries are negative: where
// the code is an upper one, they give -1. The upper codes' are positive: where the code is a lower one, they give 0. So with the upper
// entries stored plus one the two look-ups add up to the codeword, and the addition is left to a second matrix product.
template <>
struct ScalarLookup<4> {
    static constexpr bool kTwoParts = true;
    std::uint32_t lower, upper;
    // Through a shuffle the compiler cannot see through the constants, which it would copy from uniform registers at every use.
    TQ_DEV void init() {
        lower = from_lane(table_word(4, 0), 0);
        upper = from_lane(table_word(4, 8, 1), 0);
    }
    TQ_DEV void decode(const std::uint32_t* words, std::uint32_t* r, std::uint32_t* second) const {
        constexpr std::uint32_t kLower = table_word(4, 4), kUpper = table_word(4, 12, 1);
        TQ_UNROLL
        for (int i = 0; i < 4; ++i) {
            const std::uint32_t flipped = words[i] ^ 0x88888888u;
            r[2 * i] = permute_bytes(lower, kLower, words[i]);
            r[2 * i + 1] = permute_bytes(lower, kLower, words[i] >> 16);
            second[2 * i] = permute_bytes(upper, kUpper, flipped);
            second[2 * i + 1] = permute_bytes(upper, kUpper, flipped >> 16);
        }
    }
};

template <>
struct ScalarLookup<3> {
    static constexpr bool kTwoParts = false;
    std::uint32_t table;
    TQ_DEV void init() { table = from_lane(table_word(3, 0), 0); }
    TQ_DEV void decode(const std::uint32_t* words, std::uint32_t* r, std::uint32_t*) const {
        constexpr std::uint32_t kUpper = table_word(3, 4);
        const std::uint32_t spare = (words[0] >> 3 & 0x11111111u) | (words[1] >> 2 & 0x22222222u) | (words[2] >> 1 & 0x44444444u);
        const std::uint32_t s[4] = {words[0] & 0x77777777u, words[1] & 0x77777777u, words[2] & 0x77777777u, spare};
        TQ_UNROLL
        for (int i = 0; i < 4; ++i) {
            r[2 * i] = permute_bytes(table, kUpper, s[i]);
            r[2 * i + 1] = permute_bytes(table, kUpper, s[i] >> 16);
        }
    }
};

template <>
struct ScalarLookup<2> {
    static constexpr bool kTwoParts = false;
    std::uint32_t table;
    TQ_DEV void init() { table = from_lane(table_word(2, 0), 0); }
    TQ_DEV void decode(const std::uint32_t* words, std::uint32_t* r, std::uint32_t*) const {
        TQ_UNROLL
        for (int i = 0; i < 2; ++i) {
            const std::uint32_t low = words[i] & 0x33333333u, high = words[i] >> 2 & 0x33333333u;
            r[4 * i] = permute_bytes(table, table, low);
            r[4 * i + 1] = permute_bytes(table, table, low >> 16);
            r[4 * i + 2] = permute_bytes(table, table, high);
            r[4 * i + 3] = permute_bytes(table, table, high >> 16);
        }
    }
};

// 8 bits: code - 128.
template <>
struct ScalarLookup<8> {
    static constexpr bool kTwoParts = false;
    TQ_DEV void init() {}
    TQ_DEV void decode(const std::uint32_t* words, std::uint32_t* r, std::uint32_t*) const {
        TQ_UNROLL
        for (int i = 0; i < 8; ++i) r[i] = words[i] ^ 0x80808080u;
    }
};

}  // namespace turboquant::device

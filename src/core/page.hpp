// mma64: how CUDA kernels store a page of 64 tokens. One blob per (page, KV head) holds keys and values, so that the key part and
// the value part are one bulk copy each:
//   key codes | 64 key scales | key reference | value codes | 64 value scales | up to a multiple of 128 bytes
//
// Codes lie as the lanes of a warp need them for m16n8k32 integer matrix products. Lane = 4 g + t. 32 codes are a group: `bits`
// 32-bit words of one lane.
//   keys    lane (g, t) owns tokens 8 r + g, r = 0..7, and the d/4 dims from (d/4) t on, in natural order, row after row
//   values  lane (g, t) owns the d/8 dims from (d/8) g on. Group (s, j), s a half of the tokens, j four dims: code 16 hh + 8 e + 4 r + b
//           is dim 4 j + 2 e + r of the lane, token 32 s + 16 hh + 8 (b / 2) + 2 t + b % 2
// d is head_dim rounded up to a multiple of 32; the codes of dims beyond head_dim are zero bits. docs/format.md has all of it.
//
// Everything here is constexpr and compiles for the device too.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/rotation.hpp"
#include "turboquant/spec.hpp"

namespace turboquant {

inline constexpr int kPageTokens = kTileTokens;
inline constexpr int kWarpLanes = 32;

constexpr bool page_has_bits(int bits) { return bits == 2 || bits == 3 || bits == 4 || bits == 8; }

// One side of a blob.
struct PageSide {
    Side side;
    int head_dim;
    int bits;

    constexpr int padded_dim() const { return (head_dim + 31) / 32 * 32; }
    constexpr int words_per_lane() const { return padded_dim() / 16 * bits; }
    constexpr std::size_t codes_bytes() const { return static_cast<std::size_t>(padded_dim()) * bits * kPageTokens / 8; }
    constexpr std::size_t scales_offset() const { return codes_bytes(); }
    constexpr std::size_t reference_offset() const { return scales_offset() + 2 * kPageTokens; }
    // Without the padding at the end of the blob. A reference has padded_dim numbers.
    constexpr std::size_t part_bytes() const {
        return reference_offset() + (side == Side::key ? 2 * static_cast<std::size_t>(padded_dim()) : 0);
    }
    // A scale's place among the 64: a lane's eight lie side by side.
    static constexpr int scale_index(int token) { return token % 8 * 8 + token / 8; }

    // Byte of a lane's word: four words of a lane are side by side, a warp's loads are contiguous.
    constexpr std::size_t word_offset(int lane, int word) const {
        const int block = word / 4, full = words_per_lane() / 4, width = block < full ? 4 : words_per_lane() % 4;
        return static_cast<std::size_t>(block) * 16 * kWarpLanes + static_cast<std::size_t>(lane) * 4 * width + static_cast<std::size_t>(word % 4) * 4;
    }
    // Number of word w (0 .. bits-1) of a group among the lane's words. Of values, groups count s * (d / 32) + j.
    constexpr int group_word(int group, int w) const {
        const int dims = padded_dim() / 32, s = group / dims, j = group % dims;
        if (side == Side::value && bits == 4) return (2 * s + w / 2) * 2 * dims + 2 * j + w % 2;
        if (side == Side::value && bits == 2) return (2 * s + w) * dims + j;
        return group * bits + w;
    }

    // Where a code lies: which lane, which group of it, which of the group's 32 codes.
    struct Place {
        int lane, group, index;
    };
    constexpr Place place(int token, int dim) const {
        if (side == Side::key) {
            const int per_lane = padded_dim() / 4, position = token / 8 * per_lane + dim % per_lane;
            return {token % 8 * 4 + dim / per_lane, position / 32, position % 32};
        }
        const int per_lane = padded_dim() / 8, within = dim % per_lane, row = token % 16;
        const int b = row / 8 * 2 + row % 2;
        return {dim / per_lane * 4 + row % 8 / 2, token / 32 * (padded_dim() / 32) + within / 4,
                token / 16 % 2 * 16 + within / 2 % 2 * 8 + within % 2 * 4 + b};
    }

    // The inverse: whose code it is.
    struct Code {
        int token, dim;
    };
    constexpr Code code_at(int lane, int group, int index) const {
        const int g = lane / 4, t = lane % 4;
        if (side == Side::key) {
            const int per_lane = padded_dim() / 4, position = 32 * group + index;
            return {8 * (position / per_lane) + g, per_lane * t + position % per_lane};
        }
        const int dims = padded_dim() / 32, s = group / dims, j = group % dims, b = index % 4;
        return {32 * s + index / 16 * 16 + b / 2 * 8 + 2 * t + b % 2, padded_dim() / 8 * g + 4 * j + index / 8 % 2 * 2 + index / 4 % 2};
    }

    // Which bits of which word are bits [from, from + width) of a code: piece p of num_pieces(index).
    //   8 bits: code n is byte n % 4 of word n / 4.   4 bits: nibble n % 8 of word n / 8.
    //   3 bits: code n < 24 is the low part of nibble n % 8 of word n / 8; bit p of code 24 + n is the top of nibble n of word p.
    //   2 bits: codes n and n + 8 are the low and the high half of nibble n % 8 of word n / 16.
    struct Piece {
        int word, shift, from, width;
    };
    constexpr int num_pieces(int index) const { return bits == 3 && index >= 24 ? 3 : 1; }
    constexpr Piece piece(int index, int p) const {
        if (bits == 8) return {index / 4, index % 4 * 8, 0, 8};
        if (bits == 2) return {index / 16, index % 8 * 4 + index / 8 % 2 * 2, 0, 2};
        if (bits == 3 && index >= 24) return {p, index % 8 * 4 + 3, p, 1};
        return {index / 8, index % 8 * 4, 0, bits};
    }
};

struct PageLayout {
    int head_dim;
    int key_bits, value_bits;

    constexpr PageSide keys() const { return {Side::key, head_dim, key_bits}; }
    constexpr PageSide values() const { return {Side::value, head_dim, value_bits}; }
    constexpr PageSide of(Side side) const { return side == Side::key ? keys() : values(); }
    constexpr std::size_t offset(Side side) const { return side == Side::key ? 0 : keys().part_bytes(); }
    constexpr std::size_t blob_bytes() const { return (keys().part_bytes() + values().part_bytes() + 127) / 128 * 128; }
};

// part: of one side, that is blob + PageLayout::offset(side).
constexpr int page_get_code(const PageSide& layout, const std::uint8_t* part, int token, int dim) {
    const auto [lane, group, index] = layout.place(token, dim);
    int code = 0;
    for (int p = 0; p < layout.num_pieces(index); ++p) {
        const auto [word, shift, from, width] = layout.piece(index, p);
        const std::size_t byte = layout.word_offset(lane, layout.group_word(group, word)) + shift / 8;
        code |= (part[byte] >> shift % 8 & ((1 << width) - 1)) << from;
    }
    return code;
}

constexpr void page_set_code(const PageSide& layout, std::uint8_t* part, int token, int dim, int code) {
    const auto [lane, group, index] = layout.place(token, dim);
    for (int p = 0; p < layout.num_pieces(index); ++p) {
        const auto [word, shift, from, width] = layout.piece(index, p);
        const std::size_t byte = layout.word_offset(lane, layout.group_word(group, word)) + shift / 8;
        const int mask = ((1 << width) - 1) << shift % 8;
        part[byte] = static_cast<std::uint8_t>((part[byte] & ~mask) | ((code >> from) << shift % 8 & mask));
    }
}

static_assert(PageLayout{128, 4, 4}.blob_bytes() == 8704);
static_assert(PageLayout{128, 3, 2}.blob_bytes() == 5632);
static_assert(PageLayout{128, 4, 4}.keys().word_offset(0, 0) == 0);

}  // namespace turboquant

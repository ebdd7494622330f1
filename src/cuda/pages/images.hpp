// What a thread computes when a page changes its layout: one byte or one group of words from codes that lie one to a byte,
// codes[token * head_dim + dim]. The inverse of the layouts' get functions; compiles for the host too, where it is tested.
#pragma once

#include "core/layout.hpp"
#include "core/page.hpp"

namespace turboquant::cuda {

// Byte `byte` of a record's codes. codes: the token's.
constexpr std::uint8_t row_byte(int bits, const std::uint8_t* codes, int byte) {
    int value = 0;
    for (int j = 8 * byte / bits; j * bits < 8 * byte + 8; ++j) {
        const int shift = j * bits - 8 * byte;
        value |= shift < 0 ? codes[j] >> -shift : codes[j] << shift;
    }
    return static_cast<std::uint8_t>(value);
}

// Byte `byte` of a tile's codes.
constexpr std::uint8_t tile_byte(const TileLayout& layout, const std::uint8_t* codes, int byte) {
    const int chunk_bytes = static_cast<int>(layout.chunk_bytes()), chunk = byte / chunk_bytes, within = byte % chunk_bytes;
    const int main_bits = main_plane_bits(layout.bits), main_bytes = kLanes * main_bits;
    const bool extra = within >= main_bytes;
    const int width = extra ? extra_plane_bits(layout.bits) : main_bits, per_byte = 8 / width, at = extra ? within - main_bytes : within;
    const int lane = at % kLanes;
    int value = 0;
    for (int i = 0; i < per_byte; ++i) {
        const int vector = chunk * kChunkVectors + at / kLanes * per_byte + i;
        const bool key = layout.side == Side::key;
        const int token = key ? vector % 4 * 16 + lane / 4 : vector % 16 * 4 + lane % 4, dim = key ? vector / 4 * 4 + lane % 4 : vector / 16 * 16 + lane / 4;
        const int code = codes[token * layout.head_dim + dim];
        value |= ((extra ? code >> main_bits : code) & ((1 << width) - 1)) << (i * width);
    }
    return static_cast<std::uint8_t>(value);
}

// The words of group `group` of a lane. Codes of dims beyond head_dim are zero.
constexpr void page_words(const PageSide& layout, const std::uint8_t* codes, int lane, int group, std::uint32_t* words) {
    for (int w = 0; w < layout.bits; ++w) words[w] = 0;
    for (int n = 0; n < 32; ++n) {
        const auto [token, dim] = layout.code_at(lane, group, n);
        if (dim >= layout.head_dim) continue;
        const std::uint32_t code = codes[token * layout.head_dim + dim];
        for (int i = 0; i < layout.num_pieces(n); ++i) {
            const auto piece = layout.piece(n, i);
            words[piece.word] |= (code >> piece.from & ((1u << piece.width) - 1)) << piece.shift;
        }
    }
}

constexpr int groups_per_lane(const PageSide& layout) { return layout.padded_dim() / 16; }

}  // namespace turboquant::cuda

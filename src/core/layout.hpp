// Where each byte lies. Two layouts hold the same codes and scales; converting between them is exact.
//
// rows    one record per (token, KV head): K codes, K scale, V codes, V scale. Codes are a little-endian bit string.
// simd64  one blob per (64-token tile, KV head, side): codes, 64 fp16 scales, and for keys the fp16 reference.
//
// simd64 sees a tile as head_dim "vectors" of 64 one-byte lanes, so that a vector load, a shift and a mask yield
// whole vectors of codes, and four neighbouring lanes are what one dot-product instruction adds up:
//   keys    vector (j/4)*4 + t/16, lane (t%16)*4 + j%4     four dims of one token side by side
//   values  vector (j/16)*16 + t/4, lane (j%16)*4 + t%4    four tokens of one dim side by side
// Eight vectors make a chunk of 64*bits bytes: a main plane of 2, 4 or 8 bits, then an extra plane of 1 or 2 bits
// (the code's high bits) for the widths 3, 5 and 6. docs/format.md has the picture.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/rotation.hpp"
#include "turboquant/spec.hpp"

namespace turboquant {

inline constexpr int kLanes = 64;          // lanes of a code vector
inline constexpr int kChunkVectors = 8;    // code vectors that share their planes' bytes

constexpr int main_plane_bits(int bits) { return bits >= 8 ? 8 : bits >= 4 ? 4 : 2; }
constexpr int extra_plane_bits(int bits) { return bits - main_plane_bits(bits); }

// --- simd64 ---

struct TileLayout {
    Side side;
    int head_dim;
    int bits;

    constexpr std::size_t chunk_bytes() const { return static_cast<std::size_t>(kLanes) * bits; }
    constexpr std::size_t codes_bytes() const { return static_cast<std::size_t>(head_dim) * bits * kTileTokens / 8; }
    constexpr std::size_t scales_offset() const { return codes_bytes(); }
    constexpr std::size_t reference_offset() const { return scales_offset() + 2 * kTileTokens; }
    // A key tile always has room for its reference; without centring it is zero.
    constexpr std::size_t blob_bytes() const {
        return reference_offset() + (side == Side::key ? 2 * static_cast<std::size_t>(head_dim) : 0);
    }

    struct Place {
        int vector, lane;
    };
    constexpr Place place(int token, int dim) const {
        if (side == Side::key) return {dim / 4 * 4 + token / 16, token % 16 * 4 + dim % 4};
        return {dim / 16 * 16 + token / 4, dim % 16 * 4 + token % 4};
    }
};

namespace detail {

// Byte and bit of one vector's lane within a plane of `width` bits per code.
struct PlaneBit {
    std::size_t byte;
    int shift;
};
constexpr PlaneBit plane_bit(int width, int vector_in_chunk, int lane) {
    const int per_byte = 8 / width;
    return {static_cast<std::size_t>(vector_in_chunk / per_byte) * kLanes + lane, vector_in_chunk % per_byte * width};
}

}  // namespace detail

constexpr int tile_get_code(const TileLayout& layout, const std::uint8_t* codes, int token, int dim) {
    const auto [vector, lane] = layout.place(token, dim);
    const std::uint8_t* chunk = codes + vector / kChunkVectors * layout.chunk_bytes();
    const int main_bits = main_plane_bits(layout.bits), extra_bits = extra_plane_bits(layout.bits);
    const auto main = detail::plane_bit(main_bits, vector % kChunkVectors, lane);
    int code = chunk[main.byte] >> main.shift & ((1 << main_bits) - 1);
    if (extra_bits) {
        const auto extra = detail::plane_bit(extra_bits, vector % kChunkVectors, lane);
        const std::uint8_t* plane = chunk + static_cast<std::size_t>(kLanes) * main_bits;
        code |= (plane[extra.byte] >> extra.shift & ((1 << extra_bits) - 1)) << main_bits;
    }
    return code;
}

constexpr void tile_set_code(const TileLayout& layout, std::uint8_t* codes, int token, int dim, int code) {
    const auto [vector, lane] = layout.place(token, dim);
    std::uint8_t* chunk = codes + vector / kChunkVectors * layout.chunk_bytes();
    const int main_bits = main_plane_bits(layout.bits), extra_bits = extra_plane_bits(layout.bits);
    const auto put = [](std::uint8_t& byte, int width, int shift, int value) {
        const int mask = ((1 << width) - 1) << shift;
        byte = static_cast<std::uint8_t>((byte & ~mask) | (value << shift & mask));
    };
    const auto main = detail::plane_bit(main_bits, vector % kChunkVectors, lane);
    put(chunk[main.byte], main_bits, main.shift, code & ((1 << main_bits) - 1));
    if (extra_bits) {
        const auto extra = detail::plane_bit(extra_bits, vector % kChunkVectors, lane);
        put(chunk[static_cast<std::size_t>(kLanes) * main_bits + extra.byte], extra_bits, extra.shift, code >> main_bits);
    }
}

// --- rows ---

struct RowLayout {
    int head_dim;
    int key_bits, value_bits;

    static constexpr std::size_t packed_bytes(int head_dim, int bits) { return static_cast<std::size_t>(head_dim) * bits / 8; }
    constexpr std::size_t key_scale_offset() const { return packed_bytes(head_dim, key_bits); }
    constexpr std::size_t value_offset() const { return key_scale_offset() + 2; }
    constexpr std::size_t value_scale_offset() const { return value_offset() + packed_bytes(head_dim, value_bits); }
    constexpr std::size_t record_bytes() const { return value_scale_offset() + 2; }
};

// Code j of a little-endian bit string of `bits` bits per code.
constexpr int row_get_code(const std::uint8_t* packed, int bits, int j) {
    const std::size_t bit = static_cast<std::size_t>(j) * bits;
    int code = packed[bit / 8] >> (bit % 8);
    if (bit % 8 + bits > 8) code |= packed[bit / 8 + 1] << (8 - bit % 8);
    return code & ((1 << bits) - 1);
}

constexpr void row_set_code(std::uint8_t* packed, int bits, int j, int code) {
    for (int i = 0; i < bits; ++i) {
        const std::size_t bit = static_cast<std::size_t>(j) * bits + i;
        const int mask = 1 << (bit % 8);
        packed[bit / 8] = static_cast<std::uint8_t>((packed[bit / 8] & ~mask) | ((code >> i & 1) ? mask : 0));
    }
}

static_assert(TileLayout{Side::key, 128, 4}.blob_bytes() == 8192 / 2 + 128 + 256);
static_assert(TileLayout{Side::value, 128, 4}.blob_bytes() == 8192 / 2 + 128);
static_assert(RowLayout{128, 4, 4}.record_bytes() == 132);

}  // namespace turboquant

// The algorithm, slow and plain: the oracle for every other path, and the definition of every code's bits.
// All of it works on one KV head; x, q and outputs are head_dim floats.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/layout.hpp"
#include "core/rotation.hpp"
#include "core/trellis.hpp"

namespace turboquant {

// How vectors of one side of one layer are coded.
struct Coder {
    int head_dim = 0;
    int bits = 0;
    bool gain_search = true;
    bool trellis_codes = false;  // as in Spec; see follows_trellis()
    Side side = Side::key;
    std::shared_ptr<const RotationTables> rotation;

    bool follows_trellis() const { return trellis_codes && bits <= kMaxTrellisBits; }
};

// spec must be valid.
Coder make_coder(const Spec& spec, Side side);

// Which scale is kept with a vector's codes c. Both make up for the shrinking of least squares, <y,c>/<c,c>: a sum over many
// coded values keeps its size, and a logit's spread, so that coded and exact cells weigh alike (docs/decisions/0007-scales.md).
//   keys    norm-matched, |y| / |c|
//   values  unbiased, <y,y> / <y,c>

// Balance of one KV head's key channels: channel j is multiplied by 2^balance[j] before it is coded, and the query by
// 2^-balance[j]. Empty: none.
using Balance = std::span<const std::int8_t>;

// Gains tried per vector; the middle one is 1 and is the only one without gain search.
inline constexpr int kGains = 9;
inline constexpr float kGain[kGains] = {0.8f, 0.85f, 0.9f, 0.95f, 1.0f, 1.05f, 1.1f, 1.15f, 1.2f};

namespace reference {

// Sum over the binary tree on index bits, highest bit first, zero-padded to a power of two:
// with n' = that power, element i is added to element i + n'/2, then n'/4, ... (registers before lanes).
float tree_sum(std::span<const float> terms);

// codes: [head_dim], one per byte. scale: binary16. The vector decodes to R^-1 (scale * codeword(code)).
// A zero vector has scale 0; a vector with a non-finite number (or one whose squares overflow, far beyond binary16) has
// a NaN scale; codes are then the middle code.
void encode(const Coder& coder, const float* x, std::uint8_t* codes, std::uint16_t* scale);

// What the codes stand for, before the scale: codeword [head_dim].
void codewords(const Coder& coder, const std::uint8_t* codes, std::int8_t* codeword);

// In rotated space: y[j] = scale * codeword.
void decode_rotated(const Coder& coder, const std::uint8_t* codes, std::uint16_t scale, float* y);
// In the space of x.
void decode(const Coder& coder, const std::uint8_t* codes, std::uint16_t scale, float* x);

// The key reference of a tile: per dim the mean over the rows whose bit is set in `counted`, in binary16. Rows with an
// infinity or NaN do not count.
// rows: [64] pointers to head_dim binary16 numbers. No row counted: zero.
void tile_reference(int head_dim, const std::uint16_t* const rows[kTileTokens], std::uint64_t counted, std::uint16_t* reference);

// Seals a tile of 64 rows into a simd64 blob: reference, codes, scales. Rows whose bit is not set in `counted` get scale 0.
// centred: keys only; otherwise the reference is zero.
void seal_tile(const Coder& coder, const std::uint16_t* const rows[kTileTokens], std::uint64_t counted, bool centred, std::uint8_t* blob,
               Balance balance = {});

// Row `token` of a blob as binary16 numbers, reference added.
void open_row(const Coder& coder, const std::uint8_t* blob, int token, std::uint16_t* row, Balance balance = {});

// What attention does beside the scores; as ggml's FLASH_ATTN_EXT has it.
struct AttendOptions {
    float scale = 1;            // of q . k
    float softcap = 0;          // 0: none; else scores become softcap * tanh(score / softcap), before mask
    float slope = 1;            // of the mask: it is added times this (ALiBi; 1 without)
    const float* sink = nullptr;  // an extra logit that takes weight but has no value
};

// One query against decoded keys and values, in double precision. keys [n][key_dim], values [n][value_dim], mask [n] or null.
void attend(std::span<const float> q, const float* keys, const float* values, const float* mask, int n, int value_dim,
            const AttendOptions& options, float* out);

}  // namespace reference
}  // namespace turboquant

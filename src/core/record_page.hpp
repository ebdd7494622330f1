// records64: how CUDA keeps pages whose vectors are coded one by one, as records (core/scheme.hpp), or along a trellis. One blob per (page of
// 64 tokens, KV head), so that a page is one piece of memory, as with mma64 (core/page.hpp):
//   64 key records | key reference | 64 value records | up to a multiple of 128 bytes
//
// A record is that of docs/format.md, section 12; of codes that stand for themselves it is half of a `rows` record: codes, then the scale. The
// reference is there for such keys only. So the part of a side that is coded by a scheme is a sealed tile of the CPU's stores, byte by byte.
//
// Everything here is constexpr and compiles for the device too.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/rotation.hpp"
#include "turboquant/spec.hpp"

namespace turboquant {

enum class RecordKind : std::uint8_t {
    codes,  // codes | scale
    prod,   // codes of one bit less | signs | norm | norm of the residual
    group,  // codes | scale and zero of each group
};

// One side of a blob. bits: as in Spec, the sign of prod counted.
struct RecordSide {
    Side side;
    RecordKind kind;
    int head_dim;
    int bits;

    static constexpr int kRecords = kTileTokens, kGroup = 32;  // kGroup: numbers that share a scale and a zero

    constexpr int code_bits() const { return kind == RecordKind::prod ? bits - 1 : bits; }
    constexpr int num_halves() const { return kind == RecordKind::codes ? 1 : kind == RecordKind::prod ? 2 : 2 * ((head_dim + kGroup - 1) / kGroup); }
    constexpr int codes_bytes() const { return head_dim * code_bits() / 8; }
    constexpr int signs_offset() const { return codes_bytes(); }                                                      // prod
    constexpr int halves_offset() const { return codes_bytes() + (kind == RecordKind::prod ? head_dim / 8 : 0); }    // binary16 numbers; even
    constexpr int record_bytes() const { return halves_offset() + 2 * num_halves(); }
    constexpr bool has_reference() const { return side == Side::key && kind == RecordKind::codes; }
    constexpr int reference_offset() const { return kRecords * record_bytes(); }
    constexpr int part_bytes() const { return reference_offset() + (has_reference() ? 2 * head_dim : 0); }
};

struct RecordPage {
    RecordSide keys, values;

    constexpr const RecordSide& of(Side side) const { return side == Side::key ? keys : values; }
    constexpr int offset(Side side) const { return side == Side::key ? 0 : keys.part_bytes(); }
    constexpr std::size_t blob_bytes() const { return static_cast<std::size_t>(keys.part_bytes() + values.part_bytes() + 127) / 128 * 128; }
};

// paper-k3v2 at the commonest head size: 3.25 bits per key number, 3 per value number.
static_assert(RecordPage{{Side::key, RecordKind::prod, 128, 3}, {Side::value, RecordKind::group, 128, 2}}.blob_bytes() == 64 * (52 + 48));
static_assert(RecordSide{Side::key, RecordKind::codes, 128, 4}.part_bytes() == 64 * 66 + 256);

}  // namespace turboquant

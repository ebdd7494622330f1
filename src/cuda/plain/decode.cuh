// What records give attention, without ever becoming vectors: products with queries, one record per lane; weighted sums, one record after
// another with its numbers spread over the lanes. Rows of queries go four at a time.
#pragma once

#include "core/layout.hpp"
#include "core/trellis.hpp"
#include "cuda/device/rotation.cuh"
#include "cuda/plain/params.hpp"
#include "cuda/plain/policy.hpp"

namespace turboquant::cuda {

// A vector in a warp: lane l has the numbers l, l + 32, ...
template <int kHeadDim>
inline constexpr int kStrided = device::RotationShape<kHeadDim>::kPadded / 32;

// Four rows' numbers of one dim, side by side.
struct alignas(16) FourRows {
    float row[kPlainRows];
};

// A warp's queries: the rotated ones, and for prod their sketches, for keys with a reference the ones before rotation.
template <int kHeadDim>
struct PreparedQueries {
    FourRows rotated[kHeadDim], second[kHeadDim];
};

TQ_DEV float record_half(const std::uint8_t* record, int offset) { return device::half_value(*reinterpret_cast<const std::uint16_t*>(record + offset)); }
TQ_DEV std::uint32_t low_bit(const std::uint8_t* codes, int bits, int j) { return codes[j * bits / 8] >> (j * bits % 8) & 1u; }

// Eight codes of a bit string, from number 8 * n on, as its bytes.
TQ_DEV std::uint64_t eight_codes(const std::uint8_t* codes, int bits, int n) {
    std::uint64_t word = 0;
    for (int i = 0; i < bits; ++i) word |= static_cast<std::uint64_t>(codes[n * bits + i]) << (8 * i);
    return word;
}

// This lane's record with four queries. level: by code, 256 of 8 bits. score: before what a reference adds.
template <int kHeadDim>
TQ_DEV void score_record(const RecordSide& side, const PlainCode& code, const float* level, const std::uint8_t* record, const PreparedQueries<kHeadDim>& queries, float* score) {
    const int bits = side.code_bits();
    const std::uint32_t mask = (1u << bits) - 1, trellis = static_cast<std::uint32_t>(code.trellis);
    // Along the trellis keys have four chains, dims of equal remainder mod 4; each goes on from the end of the one before.
    std::uint32_t u1[4] = {}, u2[4] = {};
    if (trellis) {
        TQ_UNROLL
        for (int c = 1; c < 4; ++c) {
            u1[c] = low_bit(record, bits, kHeadDim - 5 + c);
            u2[c] = low_bit(record, bits, kHeadDim - 9 + c);
        }
    }
    float sum[kPlainRows] = {}, signs[kPlainRows] = {};
    for (int n = 0; n < kHeadDim / 8; ++n) {
        std::uint64_t word = eight_codes(record, bits, n);
        TQ_UNROLL
        for (int i = 0; i < 8; ++i, word >>= bits) {
            const std::uint32_t c = static_cast<std::uint32_t>(word) & mask;
            const float y = level[((c ^ u2[i % 4]) << trellis) | u1[i % 4]];
            u2[i % 4] = u1[i % 4];
            u1[i % 4] = c & trellis;
            const FourRows q = queries.rotated[8 * n + i];
            TQ_UNROLL
            for (int r = 0; r < kPlainRows; ++r) sum[r] += q.row[r] * y;
        }
        if (side.kind == RecordKind::prod) {
            const std::uint32_t minus = record[side.signs_offset() + n];
            TQ_UNROLL
            for (int i = 0; i < 8; ++i) {
                const FourRows q = queries.second[8 * n + i];
                TQ_UNROLL
                for (int r = 0; r < kPlainRows; ++r) signs[r] += device::with_sign(q.row[r], minus >> i & 1);
            }
        }
    }
    const float unit = record_half(record, side.halves_offset());
    const float residual = side.kind == RecordKind::prod ? record_half(record, side.halves_offset() + 2) : 0.0f;
    TQ_UNROLL
    for (int r = 0; r < kPlainRows; ++r) score[r] = unit * sum[r] + (side.kind == RecordKind::prod ? residual * signs[r] : 0.0f);
}

// The products of four queries with a page's key reference, in every lane.
template <int kHeadDim>
TQ_DEV void score_reference(const std::uint8_t* reference, const PreparedQueries<kHeadDim>& queries, float* score) {
    TQ_UNROLL
    for (int r = 0; r < kPlainRows; ++r) score[r] = 0;
    for (int j = device::lane_id(); j < kHeadDim; j += 32) {
        const float x = record_half(reference, 2 * j);
        TQ_UNROLL
        for (int r = 0; r < kPlainRows; ++r) score[r] += queries.second[j].row[r] * x;
    }
    TQ_UNROLL
    for (int h = 16; h >= 1; h /= 2) {
        TQ_UNROLL
        for (int r = 0; r < kPlainRows; ++r) score[r] += device::exchange(score[r], h);
    }
}

// Adds weight[r] times a value record to four sums; a weight of 0 adds nothing, whatever the record holds. A warp, one record.
template <int kHeadDim>
TQ_DEV void add_record(const RecordSide& side, const PlainCode& code, const float* level, const std::uint8_t* record, const float* weight, float (*sum)[kStrided<kHeadDim>]) {
    const int bits = side.bits, lane = device::lane_id();
    const std::uint32_t mask = (1u << bits) - 1, trellis = static_cast<std::uint32_t>(code.trellis);
    float y[kStrided<kHeadDim>];
    TQ_UNROLL
    for (int k = 0; k < kStrided<kHeadDim>; ++k) {
        const int j = lane + 32 * k;
        y[k] = 0;
        if (j >= kHeadDim) continue;
        const std::size_t bit = static_cast<std::size_t>(j) * bits;
        std::uint32_t c = record[bit / 8];
        if (bit % 8 + bits > 8) c |= static_cast<std::uint32_t>(record[bit / 8 + 1]) << 8;
        c = c >> (bit % 8) & mask;
        std::uint32_t index = c;
        if (trellis) {
            const int place = trellis_place(Side::value, kHeadDim, j);
            const std::uint32_t u1 = place < 1 ? 0 : low_bit(record, bits, trellis_dim(Side::value, kHeadDim, place - 1));
            const std::uint32_t u2 = place < 2 ? 0 : low_bit(record, bits, trellis_dim(Side::value, kHeadDim, place - 2));
            index = (c ^ u2) << 1 | u1;
        }
        if (side.kind == RecordKind::group) {
            const int at = side.halves_offset() + 4 * k;
            y[k] = record_half(record, at) * level[index] + record_half(record, at + 2);
        } else {
            y[k] = record_half(record, side.halves_offset()) * level[index];
        }
    }
    TQ_UNROLL
    for (int r = 0; r < kPlainRows; ++r) {
        if (weight[r] == 0) continue;
        TQ_UNROLL
        for (int k = 0; k < kStrided<kHeadDim>; ++k) sum[r][k] += weight[r] * y[k];
    }
}

}  // namespace turboquant::cuda

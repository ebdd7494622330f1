// The Hadamard rotation (docs/format.md, section 3) in a warp, in two ways of owning a vector:
//   strided  n lanes, 8, 16 or all 32, have one vector, lane l the numbers l, l + n, ...: bit for bit as core/rotation.cpp
//   quads    four lanes have one vector, lane t the d/4 numbers from (d/4) t on: for queries and outputs, whose order of additions is free;
//            or eight lanes, lane 4 h + t the d/8 numbers from (d/4) t + (d/8) h on, for powers of two
// Neither multiplies by 1 / sqrt(head_dim).
#pragma once

#include <initializer_list>

#include "cuda/device/warp.cuh"

namespace turboquant::device {

// What the rotation of one head_dim is made of; d is head_dim rounded up to a multiple of 32.
template <int kHeadDim>
struct RotationShape {
    static constexpr int kPadded = (kHeadDim + 31) / 32 * 32;
    static constexpr int kPower = kHeadDim & -kHeadDim;
    static constexpr int kBase = kHeadDim == kPower ? 1 : 4 * (kHeadDim / kPower);
    static constexpr int kRun = kHeadDim / kBase;
};

TQ_DEV float with_sign(float x, std::uint32_t minus) { return as_float(as_bits(x) ^ (minus << 31)); }

// x[k] is number lane + kLanes k of the vector, where neighbouring lanes from a multiple of kLanes on have one vector; numbers beyond head_dim
// must be zero and stay so. paley: as PaleyBits::row, of the matrix or, for the inverse, of its transpose.
template <int kHeadDim, int kLanes = 32>
TQ_DEV void butterflies_strided(float* x) {
    using Shape = RotationShape<kHeadDim>;
    constexpr int kNum = (kHeadDim + kLanes - 1) / kLanes;
    const int lane = lane_id();
    TQ_UNROLL
    for (int h = Shape::kRun / 2; h >= kLanes; h /= 2) {
        TQ_UNROLL
        for (int k = 0; k < kNum; ++k) {
            if (k & (h / kLanes)) continue;
            const float u = x[k], v = x[k + h / kLanes];
            x[k] = u + v;
            x[k + h / kLanes] = u - v;
        }
    }
    TQ_UNROLL
    for (int h = Shape::kRun / 2 < kLanes / 2 ? Shape::kRun / 2 : kLanes / 2; h >= 1; h /= 2) {
        const float side = lane & h ? -1.0f : 1.0f;  // times one: the sum is rounded once, as an addition
        TQ_UNROLL
        for (int k = 0; k < kNum; ++k) x[k] = fmaf(x[k], side, exchange(x[k], h));
    }
}

template <int kHeadDim, int kLanes = 32>
TQ_DEV void paley_strided(float* x, const std::uint32_t* paley) {
    using Shape = RotationShape<kHeadDim>;
    constexpr int kNum = (kHeadDim + kLanes - 1) / kLanes, kRun = Shape::kRun, kBase = Shape::kBase;
    static_assert(kRun <= kLanes);
    const int lane = lane_id() % kLanes, first = lane_id() - lane, b = lane % kRun;
    float y[kNum];
    std::uint32_t row[kNum];
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) {
        const int i = (lane + kLanes * k) / kRun;
        row[k] = i < kBase ? paley[i] : 0;
    }
    TQ_UNROLL
    for (int a = 0; a < kBase; ++a) {
        const float v = kRun == kLanes ? x[a] : from_lane(x[a * kRun / kLanes], first + a * kRun % kLanes + b);
        TQ_UNROLL
        for (int k = 0; k < kNum; ++k) {
            const float term = with_sign(v, row[k] >> a & 1);
            y[k] = a == 0 ? term : y[k] + term;
        }
    }
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) x[k] = lane + kLanes * k < kHeadDim ? y[k] : 0.0f;
}

// sign: bit j of the stream is bit j % 32 of word j / 32.
template <int kHeadDim, int kLanes = 32>
TQ_DEV void rotate_strided(float* x, const std::uint32_t* sign, const std::uint32_t* paley) {
    TQ_UNROLL
    for (int k = 0; k < (kHeadDim + kLanes - 1) / kLanes; ++k) x[k] = with_sign(x[k], sign[kLanes * k / 32] >> (kLanes * k % 32 + lane_id() % kLanes) & 1);
    butterflies_strided<kHeadDim, kLanes>(x);
    if constexpr (RotationShape<kHeadDim>::kBase > 1) paley_strided<kHeadDim, kLanes>(x, paley);
}

template <int kHeadDim>
TQ_DEV void unrotate_strided(float* x, const std::uint32_t* sign, const std::uint32_t* paley_transposed) {
    butterflies_strided<kHeadDim>(x);
    if constexpr (RotationShape<kHeadDim>::kBase > 1) paley_strided<kHeadDim>(x, paley_transposed);
    TQ_UNROLL
    for (int k = 0; k < RotationShape<kHeadDim>::kPadded / 32; ++k) x[k] = with_sign(x[k], sign[k] >> lane_id() & 1);
}

// x[i] is number first + i; numbers beyond head_dim are zero. sign: 10 words, the last two zero.
template <int kNum>
TQ_DEV void signs_from(int first, float* x, const std::uint32_t* sign) {
    const std::uint64_t window = (static_cast<std::uint64_t>(sign[first / 32 + 1]) << 32 | sign[first / 32]) >> (first % 32);
    TQ_UNROLL
    for (int i = 0; i < kNum; ++i) x[i] = with_sign(x[i], static_cast<std::uint32_t>(window >> i) & 1);
}
template <int kHeadDim>
TQ_DEV void signs_quads(float* x, const std::uint32_t* sign) {
    constexpr int kNum = RotationShape<kHeadDim>::kPadded / 4;
    signs_from<kNum>(kNum * (lane_id() & 3), x, sign);
}

// Butterflies among a lane's numbers, over distances below kRun; and between lanes that are `apart` from each other.
template <int kNum, int kRun>
TQ_DEV void butterflies_within(float* x) {
    TQ_UNROLL
    for (int h = 1; h < (kRun < kNum ? kRun : kNum); h *= 2) {
        TQ_UNROLL
        for (int i = 0; i < kNum; ++i) {
            if (i & h) continue;
            const float u = x[i], v = x[i + h];
            x[i] = u + v;
            x[i + h] = u - v;
        }
    }
}
template <int kNum>
TQ_DEV void butterfly_between(float* x, int apart) {
    const float side = lane_id() & apart ? -1.0f : 1.0f;  // times one: the sum is rounded once, as an addition
    TQ_UNROLL
    for (int i = 0; i < kNum; ++i) x[i] = fmaf(x[i], side, exchange(x[i], apart));
}

// Butterflies and Paley's matrix: in either order the same. kShort: fewer instructions, where fetching them takes longer than working on them.
template <int kHeadDim, bool kShort>
TQ_DEV void transform_quads(float* x, const std::uint32_t* paley) {
    using Shape = RotationShape<kHeadDim>;
    constexpr int kNum = Shape::kPadded / 4, kRun = Shape::kRun, kBase = Shape::kBase;
    [[maybe_unused]] constexpr int kAtOnce = kShort ? 1 : 4;
    [[maybe_unused]] const int t = lane_id() & 3;
    butterflies_within<kNum, kRun>(x);
    if constexpr (kBase == 1) {
        TQ_UNROLL_BY(kAtOnce)
        for (int o = 1; o < 4; o *= 2) butterfly_between<kNum>(x, o);
    } else {
        // A lane has whole runs: entry (i, b) of the vector is number (i - kRuns t) kRun + b of lane t = i / kRuns.
        constexpr int kRuns = kNum / kRun;
        float y[kNum];
        std::uint32_t row[kRuns];
        TQ_UNROLL
        for (int i = 0; i < kNum; ++i) y[i] = 0;
        TQ_UNROLL
        for (int i = 0; i < kRuns; ++i) row[i] = kRuns * t + i < kBase ? paley[kRuns * t + i] : 0;
        TQ_UNROLL_BY(kAtOnce)
        for (int o = 0; o < 4; ++o) {
            const int from = kRuns * (t ^ o);
            TQ_UNROLL
            for (int a = 0; a < kRuns; ++a) {
                TQ_UNROLL
                for (int b = 0; b < kRun; ++b) {
                    const float v = kShort || o ? exchange(x[a * kRun + b], o) : x[a * kRun + b];
                    TQ_UNROLL
                    for (int i = 0; i < kRuns; ++i) y[i * kRun + b] += with_sign(v, row[i] >> (from + a) & 1);
                }
            }
        }
        TQ_UNROLL
        for (int i = 0; i < kNum; ++i) x[i] = kRuns * t + i / kRun < kBase ? y[i] : 0.0f;
    }
}

template <int kHeadDim, bool kShort = false>
TQ_DEV void rotate_quads(float* x, const std::uint32_t* sign, const std::uint32_t* paley) {
    signs_quads<kHeadDim>(x, sign);
    transform_quads<kHeadDim, kShort>(x, paley);
}

// As rotate_quads, of eight lanes.
template <int kHeadDim>
TQ_DEV void rotate_eighths(float* x, const std::uint32_t* sign) {
    static_assert(RotationShape<kHeadDim>::kBase == 1);
    constexpr int kNum = kHeadDim / 8;
    signs_from<kNum>(2 * kNum * (lane_id() & 3) + (lane_id() & 4 ? kNum : 0), x, sign);
    butterflies_within<kNum, kNum>(x);
    TQ_UNROLL
    for (int apart : {4, 1, 2}) butterfly_between<kNum>(x, apart);
}

template <int kHeadDim, bool kShort = false>
TQ_DEV void unrotate_quads(float* x, const std::uint32_t* sign, const std::uint32_t* paley_transposed) {
    transform_quads<kHeadDim, kShort>(x, paley_transposed);
    signs_quads<kHeadDim>(x, sign);
}

}  // namespace turboquant::device

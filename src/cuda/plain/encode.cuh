// A warp codes one vector as core/reference.cpp and core/schemes do: the same operations in the same order, each rounded once. Compile with
// -fmad=false (host: -ffp-contract=off). Widths are known at run time only: these kernels are plain, and few.
#pragma once

#include "core/trellis.hpp"
#include "cuda/device/encode.cuh"
#include "cuda/plain/queries.cuh"

namespace turboquant::cuda {

// What a warp keeps in shared memory while it codes a vector.
template <int kHeadDim>
struct EncodeWarpMemory {
    std::uint8_t codes[32 * kStrided<kHeadDim>], signs[32 * kStrided<kHeadDim>];
    std::uint8_t path[kHeadDim];         // along the trellis: state after the number, and 4 * u2
    std::uint32_t from[kHeadDim];        // bit 4 * gain + state: u2 of the better way into it
    float numbers[kHeadDim];             // along the trellis
};

inline constexpr std::uint16_t kNanScale = 0x7e00;
TQ_DEV std::uint16_t finite_half(float x) { return device::half_bits(fminf(x, 65504.0f)); }

// Which dims of a lane's vector exist.
template <int kHeadDim>
TQ_DEV bool has_number(int k) { return device::lane_id() + 32 * k < kHeadDim; }

template <int kHeadDim>
TQ_DEV float sum_of_squares(const float* y) {
    float terms[kStrided<kHeadDim>];
    TQ_UNROLL
    for (int k = 0; k < kStrided<kHeadDim>; ++k) terms[k] = y[k] * y[k];
    return device::tree_sum<kStrided<kHeadDim>>(terms);
}

// The largest k for which magnitude >= threshold[k], or 0.
TQ_DEV int nearest_magnitude(const PlainBook& book, int half, float magnitude) {
    int n = 0;
    for (int k = 1; k < half; ++k) n = magnitude >= book.threshold[k] ? k : n;
    return n;
}
TQ_DEV std::uint8_t signed_code(float y, int half, int k) { return static_cast<std::uint8_t>(device::as_bits(y) >> 31 ? half - 1 - k : half + k); }

// Products with codewords and squares of these, summed, as scales are made of them.
struct CodeSums {
    float dot, power;
};

template <int kHeadDim>
TQ_DEV CodeSums code_uniform(const float* y, std::uint8_t* codes) {
    constexpr int kNum = kStrided<kHeadDim>;
    float largest = 0, terms[kNum];
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) largest = fmaxf(largest, fabsf(y[k]));
    TQ_UNROLL
    for (int h = 16; h >= 1; h /= 2) largest = fmaxf(largest, device::exchange(largest, h));
    const float units = 127.0f / largest;
    int squares = 0;
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) {
        const float rounded = device::round_even(fminf(fmaxf(y[k] * units, -127.0f), 127.0f));
        codes[k] = static_cast<std::uint8_t>(static_cast<int>(rounded) + 128);
        terms[k] = y[k] * rounded;
        squares += static_cast<int>(rounded * rounded);
    }
    return {device::tree_sum<kNum>(terms), static_cast<float>(device::sum_lanes(squares))};
}

// One gain; codes may be null.
template <int kHeadDim>
TQ_DEV CodeSums code_with_factor(const PlainBook& book, int half, const float* y, float factor, std::uint8_t* codes) {
    constexpr int kNum = kStrided<kHeadDim>;
    float terms[kNum];
    int squares = 0;
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) {
        const int n = nearest_magnitude(book, half, fabsf(y[k]) * factor);
        const float level = has_number<kHeadDim>(k) ? book.positive[n] : 0.0f;
        if (codes) codes[k] = signed_code(y[k], half, n);
        terms[k] = fabsf(y[k]) * level;
        squares += static_cast<int>(level * level);  // whole numbers: exact
    }
    return {device::tree_sum<kNum>(terms), static_cast<float>(device::sum_lanes(squares))};
}

template <int kHeadDim>
TQ_DEV CodeSums code_nearest(const PlainBook& book, int bits, const float* y, float units, std::uint8_t* codes) {
    const int half = 1 << (bits - 1), first = book.gain_search ? 0 : device::kEncodeGains / 2, last = book.gain_search ? device::kEncodeGains : device::kEncodeGains / 2 + 1;
    float best = -1, factor = 0;
    for (int g = first; g < last; ++g) {
        const CodeSums sums = code_with_factor<kHeadDim>(book, half, y, book.gain[g] * units, nullptr);
        const float score = sums.dot * sums.dot / sums.power;
        if (score > best) {
            best = score;
            factor = book.gain[g] * units;
        }
    }
    return code_with_factor<kHeadDim>(book, half, y, factor, codes);
}

// The level number of a subset that is nearest to x.
TQ_DEV int nearest_of_subset(const PlainBook& book, int bits, int subset, float x) {
    int n = 0;
    for (int k = 1; k < 1 << (bits - 1); ++k) n = x >= 0.5f * (book.code.level[4 * k - 4 + subset] + book.code.level[4 * k + subset]) ? k : n;
    return 4 * n + subset;
}

// Lane 4 g + s follows gain g's best path into state s = 2 u + u1 (core/trellis.cpp, path()).
template <int kHeadDim>
TQ_DEV CodeSums code_trellis(const PlainBook& book, Side side, int bits, const float* y, float units, EncodeWarpMemory<kHeadDim>& memory, std::uint8_t* codes) {
    constexpr int kNum = kStrided<kHeadDim>;
    const int lane = device::lane_id(), mine = lane / 4 < kTrellisGains && book.gain_search ? lane / 4 : kTrellisGains / 2, s = lane % 4, u = s >> 1, u1 = s & 1;
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) {
        if (has_number<kHeadDim>(k)) memory.numbers[trellis_place(side, kHeadDim, lane + 32 * k)] = y[k];
    }
    device::sync_lanes();
    const float factor = book.gain[mine] * units;
    float error = s == 0 ? 0.0f : INFINITY;
    for (int n = 0; n < kHeadDim; ++n) {
        const float x = memory.numbers[n] * factor;
        const float near0 = x - book.code.level[nearest_of_subset(book, bits, 2 * u + u1, x)], near1 = x - book.code.level[nearest_of_subset(book, bits, 2 * (u ^ 1) + u1, x)];
        const float if_0 = device::from_lane(error, (lane & ~3) + 2 * u1) + near0 * near0, if_1 = device::from_lane(error, (lane & ~3) + 2 * u1 + 1) + near1 * near1;
        const std::uint32_t from = device::ballot(if_0 > if_1);
        error = if_0 > if_1 ? if_1 : if_0;
        if (lane == 0) memory.from[n] = from;
    }
    // The best state of each gain, then the best gain; of equal ones the first.
    int state = 0, gain = 0;
    float least = 0;
    for (int g = 0; g < (book.gain_search ? kTrellisGains : 1); ++g) {
        int best = 0;
        float smallest = device::from_lane(error, 4 * g);
        for (int i = 1; i < 4; ++i) {
            const float other = device::from_lane(error, 4 * g + i);
            if (smallest > other) {
                smallest = other;
                best = i;
            }
        }
        const float own = book.gain[book.gain_search ? g : kTrellisGains / 2], normal = smallest / (own * own);
        if (g == 0 || normal < least) {
            least = normal;
            state = best;
            gain = g;
        }
    }
    device::sync_lanes();
    for (int n = kHeadDim - 1; n >= 0; --n) {
        const int u2 = static_cast<int>(memory.from[n] >> (4 * gain + state) & 1u);
        if (lane == 0) memory.path[n] = static_cast<std::uint8_t>(state | u2 << 2);
        state = 2 * (state & 1) + u2;
    }
    device::sync_lanes();
    const float chosen = book.gain[book.gain_search ? gain : kTrellisGains / 2] * units;
    float terms[kNum];
    int squares = 0;
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) {
        terms[k] = 0;
        codes[k] = 0;
        if (!has_number<kHeadDim>(k)) continue;
        const int step = memory.path[trellis_place(side, kHeadDim, lane + 32 * k)], u2 = step >> 2;
        const int level = nearest_of_subset(book, bits, 2 * ((step >> 1 & 1) ^ u2) + (step & 1), y[k] * chosen);
        const float codeword = book.code.level[level];
        codes[k] = static_cast<std::uint8_t>(level >> 1 ^ u2);
        terms[k] = y[k] * codeword;
        squares += static_cast<int>(codeword * codeword);
    }
    return {device::tree_sum<kNum>(terms), static_cast<float>(device::sum_lanes(squares))};
}

// Our own codes. y: rotated. Returns the scale.
template <int kHeadDim>
TQ_DEV std::uint16_t encode_codes(const PlainBook& book, const RecordSide& side, const float* y, EncodeWarpMemory<kHeadDim>& memory, std::uint8_t* codes) {
    const float norm2 = sum_of_squares<kHeadDim>(y);
    if (!(norm2 > 0.0f) || norm2 > 3.402823466e38f) {
        TQ_UNROLL
        for (int k = 0; k < kStrided<kHeadDim>; ++k) codes[k] = static_cast<std::uint8_t>(1 << (side.bits - 1));
        return norm2 == 0.0f ? std::uint16_t{0} : kNanScale;
    }
    const float units = book.alpha / sqrtf(norm2 / static_cast<float>(kHeadDim));
    const CodeSums sums = side.bits == 8       ? code_uniform<kHeadDim>(y, codes)
                          : book.code.trellis ? code_trellis<kHeadDim>(book, side.side, side.bits, y, units, memory, codes)
                                              : code_nearest<kHeadDim>(book, side.bits, y, units, codes);
    return finite_half(side.side == Side::key ? sqrtf(norm2 / sums.power) : norm2 / sums.dot);
}

// core/schemes/prod.cpp. y: rotated, becomes the residual.
template <int kHeadDim>
TQ_DEV void encode_prod(const PlainBook& book, const PlainSketch& sketch, int code_bits, float norm, float* y, std::uint8_t* codes, std::uint8_t* signs, std::uint16_t* halves) {
    constexpr int kNum = kStrided<kHeadDim>;
    const int half = 1 << (code_bits - 1);
    const float norm2 = sum_of_squares<kHeadDim>(y);
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) signs[k] = 0;
    if (!(norm2 > 0.0f) || norm2 > 3.402823466e38f) {
        TQ_UNROLL
        for (int k = 0; k < kNum; ++k) codes[k] = static_cast<std::uint8_t>(half);
        halves[0] = halves[1] = norm2 == 0.0f ? std::uint16_t{0} : kNanScale;
        return;
    }
    const float units = sketch.root / sqrtf(norm2);
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) codes[k] = signed_code(y[k], half, nearest_magnitude(book, half, fabsf(y[k]) * units));
    halves[0] = halves[1] = finite_half(sqrtf(norm2));
    if (halves[0] == 0) return;
    const float unit = device::half_value(halves[0]) * norm;
    float sketched[1][kNum], residual[1][kNum];
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) residual[0][k] = has_number<kHeadDim>(k) ? y[k] - unit * book.code.level[codes[k]] : 0.0f;
    sketch_vectors<kHeadDim, 1>(sketch, norm, residual, sketched);
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) signs[k] = sketched[0][k] < 0;
    halves[1] = finite_half(sqrtf(sum_of_squares<kHeadDim>(residual[0])));
}

// core/schemes/group.cpp: lanes have the 32 numbers of group k in x[k]. halves: scale and zero of each group.
template <int kHeadDim>
TQ_DEV void encode_group(int bits, const float* x, std::uint8_t* codes, std::uint16_t* halves) {
    const float steps = static_cast<float>((1 << bits) - 1);
    TQ_UNROLL
    for (int k = 0; k < kStrided<kHeadDim>; ++k) {
        const bool there = has_number<kHeadDim>(k);
        codes[k] = 0;
        halves[2 * k] = halves[2 * k + 1] = kNanScale;
        const bool broken = device::any_lane(there && (device::as_bits(x[k]) & 0x7f800000u) == 0x7f800000u);
        float smallest = there ? x[k] : INFINITY, largest = there ? x[k] : -INFINITY;
        std::uint32_t who = static_cast<std::uint32_t>(device::lane_id());  // of equal numbers the first: there are two zeros
        TQ_UNROLL
        for (int h = 16; h >= 1; h /= 2) {
            largest = fmaxf(largest, device::exchange(largest, h));
            const float other = device::exchange(smallest, h);
            const std::uint32_t other_who = device::exchange(who, h);
            if (other < smallest || (other == smallest && other_who < who)) {
                smallest = other;
                who = other_who;
            }
        }
        if (broken) continue;
        halves[2 * k] = finite_half(fabsf(largest - smallest) / steps);  // of zeros too: which of two zeros fmaxf takes is open on hosts
        halves[2 * k + 1] = device::half_bits(fminf(fmaxf(smallest, -65504.0f), 65504.0f));
        const float scale = device::half_value(halves[2 * k]), zero = device::half_value(halves[2 * k + 1]);
        if (scale > 0) codes[k] = static_cast<std::uint8_t>(static_cast<int>(device::round_even(fminf(fmaxf((x[k] - zero) / scale, 0.0f), steps))));
    }
}

}  // namespace turboquant::cuda

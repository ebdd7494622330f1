// A warp codes one vector exactly as core/reference.cpp does: the same operations in the same order, each rounded once. Compile with
// -fmad=false (host: -ffp-contract=off). Lane l has the numbers l, l + 32, ... of the vector.
#pragma once

#include "cuda/device/lookup.cuh"
#include "cuda/device/rotation.cuh"

namespace turboquant::device {

inline constexpr int kEncodeGains = 9;

// How vectors of one side are coded, as plain data. The codewords are those of lookup.cuh.
struct EncodeBook {
    int bits;                        // 2, 3, 4 or 8
    bool gain_search;                // else only the middle gain is tried
    bool norm_matched;               // keys; else the scale is the values' unbiased one
    float alpha;
    float threshold[8];              // threshold[0] is not used
    float gain[kEncodeGains];
};

// Sum over the binary tree on index bits, highest bit first: the part within a lane, and the part between lanes, of several sums at once.
template <int kNum>
TQ_DEV float lane_sum(const float* terms) {
    constexpr int kPadded = kNum <= 2 ? kNum : kNum <= 4 ? 4 : 8;
    float sum[kPadded];
    TQ_UNROLL
    for (int k = 0; k < kPadded; ++k) sum[k] = k < kNum ? terms[k] : 0.0f;
    TQ_UNROLL
    for (int h = kPadded / 2; h >= 1; h /= 2) {
        TQ_UNROLL
        for (int k = 0; k < h; ++k) sum[k] = sum[k] + sum[k + h];
    }
    return sum[0];
}
template <int kSums>
TQ_DEV void sum_between_lanes(float* sums) {
    TQ_UNROLL
    for (int h = 16; h >= 1; h /= 2) {
        TQ_UNROLL
        for (int i = 0; i < kSums; ++i) sums[i] = sums[i] + exchange(sums[i], h);
    }
}
template <int kNum>
TQ_DEV float tree_sum(const float* terms) {
    float sum = lane_sum<kNum>(terms);
    sum_between_lanes<1>(&sum);
    return sum;
}

// The positive codeword that a magnitude (in units of the codebook) takes.
template <int kBits>
TQ_DEV float nearest_level(const EncodeBook& book, float magnitude) {
    float level = positive_codeword(kBits, 0);
    TQ_UNROLL
    for (int i = 1; i < 1 << (kBits - 1); ++i) level = magnitude >= book.threshold[i] ? static_cast<float>(positive_codeword(kBits, i)) : level;
    return level;
}

// What a choice of gain gives: products with the codewords and their squares, summed.
struct Fit {
    float factor, dot, power;
};

// The best of kTried gains from number `first` on.
template <int kHeadDim, int kBits, int kTried>
TQ_DEV Fit fit_gain(const EncodeBook& book, const float* x, float units, int first) {
    constexpr int kNum = RotationShape<kHeadDim>::kPadded / 32;
    float dot[kTried];
    int squares[kTried];
    TQ_UNROLL
    for (int g = 0; g < kTried; ++g) {
        const float trial = book.gain[first + g] * units;
        float terms[kNum], sum = 0;
        TQ_UNROLL
        for (int k = 0; k < kNum; ++k) {
            float level = nearest_level<kBits>(book, fabsf(x[k]) * trial);
            if (32 * k + 31 >= kHeadDim && lane_id() + 32 * k >= kHeadDim) level = 0;
            terms[k] = fabsf(x[k]) * level;
            sum = fmaf(level, level, sum);  // whole numbers below 2^24: exact
        }
        dot[g] = lane_sum<kNum>(terms);
        squares[g] = static_cast<int>(sum);
    }
    sum_between_lanes<kTried>(dot);
    TQ_UNROLL
    for (int g = 0; g < kTried; ++g) squares[g] = sum_lanes(squares[g]);
    Fit fit{0, 0, 0};
    float best = -1;
    TQ_UNROLL
    for (int g = 0; g < kTried; ++g) {
        const float power = static_cast<float>(squares[g]), score = dot[g] * dot[g] / power;
        if (score > best) {
            best = score;
            fit = {book.gain[first + g] * units, dot[g], power};
        }
    }
    return fit;
}

// x: the vector (numbers beyond head_dim zero), destroyed. codes[k]: code of number lane + 32 k (0 beyond head_dim). Returns the scale.
template <int kHeadDim, int kBits>
TQ_DEV std::uint16_t encode_vector(const EncodeBook& book, float* x, float norm, const std::uint32_t* sign, const std::uint32_t* paley, std::uint8_t* codes) {
    constexpr int kNum = RotationShape<kHeadDim>::kPadded / 32, kHalf = 1 << (kBits - 1);
    rotate_strided<kHeadDim>(x, sign, paley);
    float terms[kNum];
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) {
        x[k] = x[k] * norm;
        terms[k] = x[k] * x[k];
    }
    const float norm2 = tree_sum<kNum>(terms);
    std::uint16_t scale = 0;
    if (!(norm2 > 0.0f) || norm2 > 3.402823466e38f) {
        TQ_UNROLL
        for (int k = 0; k < kNum; ++k) codes[k] = kHalf;
        scale = norm2 == 0.0f ? 0 : 0x7e00;
    } else {
        float dot, power;
        if constexpr (kBits == 8) {
            float largest = 0;
            TQ_UNROLL
            for (int k = 0; k < kNum; ++k) largest = fmaxf(largest, fabsf(x[k]));
            TQ_UNROLL
            for (int h = 16; h >= 1; h /= 2) largest = fmaxf(largest, exchange(largest, h));
            const float units = 127.0f / largest;
            int squares = 0;
            TQ_UNROLL
            for (int k = 0; k < kNum; ++k) {
                const float rounded = round_even(fminf(fmaxf(x[k] * units, -127.0f), 127.0f));
                codes[k] = static_cast<std::uint8_t>(static_cast<int>(rounded) + 128);
                terms[k] = x[k] * rounded;
                squares += static_cast<int>(rounded * rounded);
            }
            dot = tree_sum<kNum>(terms);
            power = static_cast<float>(sum_lanes(squares));
        } else {
            const float units = book.alpha / sqrtf(norm2 / static_cast<float>(kHeadDim));
            const Fit fit = book.gain_search ? fit_gain<kHeadDim, kBits, kEncodeGains>(book, x, units, 0) : fit_gain<kHeadDim, kBits, 1>(book, x, units, kEncodeGains / 2);
            dot = fit.dot;
            power = fit.power;
            TQ_UNROLL
            for (int k = 0; k < kNum; ++k) {
                int n = 0;
                TQ_UNROLL
                for (int i = 1; i < kHalf; ++i) n = fabsf(x[k]) * fit.factor >= book.threshold[i] ? i : n;
                codes[k] = static_cast<std::uint8_t>(as_bits(x[k]) >> 31 ? kHalf - 1 - n : kHalf + n);
            }
        }
        const float kept = book.norm_matched ? sqrtf(norm2 / power) : norm2 / dot;
        scale = half_bits(fminf(kept, 65504.0f));
    }
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) {
        if (32 * k + 31 >= kHeadDim && lane_id() + 32 * k >= kHeadDim) codes[k] = 0;
    }
    return scale;
}

}  // namespace turboquant::device

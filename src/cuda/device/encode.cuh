// A warp codes one vector exactly as core/reference.cpp does: the same operations in the same order, each rounded once. Compile with
// -fmad=false (host: -ffp-contract=off). Lane l has the numbers l, l + 32, ... of the vector.
#pragma once

#include "cuda/device/rotation.cuh"

namespace turboquant::device {

inline constexpr int kEncodeGains = 9;

// How vectors of one side are coded, as plain data.
struct EncodeBook {
    int bits;                        // 2, 3, 4 or 8
    int half;                        // positive codewords; 0 for 8 bits
    int gains, first_gain;           // which of the gains are tried
    float alpha;
    float positive[8], threshold[8]; // threshold[0] is not used
    float gain[kEncodeGains];
    bool norm_matched;               // keys; else the scale is the values' unbiased one
};

// Sum over the binary tree on index bits, highest bit first; all lanes get it.
template <int kNum>
TQ_DEV float tree_sum(const float* terms) {
    constexpr int kPadded = kNum <= 2 ? kNum : kNum <= 4 ? 4 : 8;
    float sum[kPadded];
    TQ_UNROLL
    for (int k = 0; k < kPadded; ++k) sum[k] = k < kNum ? terms[k] : 0.0f;
    TQ_UNROLL
    for (int h = kPadded / 2; h >= 1; h /= 2) {
        TQ_UNROLL
        for (int k = 0; k < h; ++k) sum[k] = sum[k] + sum[k + h];
    }
    TQ_UNROLL
    for (int h = 16; h >= 1; h /= 2) sum[0] = sum[0] + exchange(sum[0], h);
    return sum[0];
}

// Which positive codeword a magnitude (in units of the codebook) takes.
TQ_DEV int nearest(const EncodeBook& book, float magnitude, float* level) {
    int k = 0;
    *level = book.positive[0];
    TQ_UNROLL
    for (int i = 1; i < 8; ++i) {
        if (i < book.half && magnitude >= book.threshold[i]) {
            k = i;
            *level = book.positive[i];
        }
    }
    return k;
}

// x: the vector (numbers beyond head_dim zero), destroyed. codes[k]: code of number lane + 32 k (0 beyond head_dim). Returns the scale.
template <int kHeadDim>
TQ_DEV std::uint16_t encode_vector(const EncodeBook& book, float* x, float norm, const std::uint32_t* sign, const std::uint32_t* paley, std::uint8_t* codes) {
    constexpr int kNum = RotationShape<kHeadDim>::kPadded / 32;
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
        for (int k = 0; k < kNum; ++k) codes[k] = static_cast<std::uint8_t>(1 << (book.bits - 1));
        scale = norm2 == 0.0f ? 0 : 0x7e00;
    } else {
        float dot, power;
        if (book.bits == 8) {
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
            float best = -1, factor = 0;
            dot = power = 0;
            for (int g = book.first_gain; g < book.first_gain + book.gains; ++g) {
                const float trial = book.gain[g] * units;
                int squares = 0;
                TQ_UNROLL
                for (int k = 0; k < kNum; ++k) {
                    float level;
                    nearest(book, fabsf(x[k]) * trial, &level);
                    if (lane_id() + 32 * k >= kHeadDim) level = 0;
                    terms[k] = fabsf(x[k]) * level;
                    squares += static_cast<int>(level * level);
                }
                const float trial_dot = tree_sum<kNum>(terms), trial_power = static_cast<float>(sum_lanes(squares));
                const float score = trial_dot * trial_dot / trial_power;
                if (score > best) {
                    best = score;
                    factor = trial;
                    dot = trial_dot;
                    power = trial_power;
                }
            }
            TQ_UNROLL
            for (int k = 0; k < kNum; ++k) {
                float level;
                const int n = nearest(book, fabsf(x[k]) * factor, &level);
                codes[k] = static_cast<std::uint8_t>(as_bits(x[k]) >> 31 ? book.half - 1 - n : book.half + n);
            }
        }
        const float kept = book.norm_matched ? sqrtf(norm2 / power) : norm2 / dot;
        scale = half_bits(fminf(kept, 65504.0f));
    }
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) {
        if (lane_id() + 32 * k >= kHeadDim) codes[k] = 0;
    }
    return scale;
}

}  // namespace turboquant::device

// A group of lanes codes one vector exactly as core/reference.cpp does: the same operations in the same order, each rounded once. Compile
// with -fmad=false (host: -ffp-contract=off). Lane l of the kLanes lanes of a group has the numbers l, l + kLanes, ... of the vector: the sums'
// trees begin with the highest bits of the index, so few lanes mean few shuffles, and many lanes little latency.
//
// The gain search is the work: nine gains, each with a codeword for every number. What bounds it is comparing, at half the rate of
// arithmetic. So a number is placed among all thresholds once, at the middle gain. No other gain is so far away that it could pass
// more than one threshold (kGainsReachNeighbours): one comparison each is left, and the two products and squares it chooses between are
// the same for four gains.
#pragma once

#include <type_traits>

#include "cuda/device/lookup.cuh"
#include "cuda/device/rotation.cuh"

namespace turboquant::device {

inline constexpr int kEncodeGains = 9, kMiddleGain = 4;
inline constexpr float kLeastGain = 0.8f, kMostGain = 1.2f;

// How vectors of one side are coded, as plain data. The codewords are those of lookup.cuh.
struct EncodeBook {
    int bits;                        // 2, 3, 4 or 8
    bool gain_search;                // else only the middle gain counts
    bool norm_matched;               // keys; else the scale is the values' unbiased one
    float alpha;
    float gain[kEncodeGains];
};

// From this magnitude on (in units of the codebook) the codeword is number k; half-way between two whole numbers, so exact.
constexpr float threshold(int bits, int k) {
    return k == 0 ? 0.0f : k == 1 << (bits - 1) ? 3.402823466e38f : 0.5f * static_cast<float>(positive_codeword(bits, k - 1) + positive_codeword(bits, k));
}

// A magnitude between thresholds k and k + 1 at the middle gain lies above threshold k - 1 at the least and below threshold k + 2 at the
// greatest, with room for rounding.
constexpr bool gains_reach_neighbours(int bits) {
    for (int k = 2; k < 1 << (bits - 1); ++k) {
        if (threshold(bits, k) * (kLeastGain - 1e-5f) < threshold(bits, k - 1) || threshold(bits, k - 1) * (kMostGain + 1e-5f) > threshold(bits, k)) return false;
    }
    return true;
}
static_assert(gains_reach_neighbours(2) && gains_reach_neighbours(3) && gains_reach_neighbours(4));

// What the gains choose between for a magnitude that has codeword k at the middle one. Two chunks of 16 bytes.
struct alignas(16) LevelChunk {
    float number[4];
};
struct LevelRow {
    LevelChunk levels;               // threshold k, threshold k + 1, codewords k - 1 and k + 1
    LevelChunk squares;              // codeword k, its square, and what codewords k - 1 and k + 1 have less and more
};
constexpr LevelRow level_row(int bits, int k) {
    const int own = positive_codeword(bits, k), below = k == 0 ? own : positive_codeword(bits, k - 1);
    const int above = k + 1 == 1 << (bits - 1) ? own : positive_codeword(bits, k + 1);
    return {{threshold(bits, k), threshold(bits, k + 1), static_cast<float>(below), static_cast<float>(above)},
            {static_cast<float>(own), static_cast<float>(own * own), static_cast<float>(below * below - own * own), static_cast<float>(above * above - own * own)}};
}

// The rows in shared memory, eight times, so that eight neighbouring lanes read without bank conflicts whatever their rows are.
struct LevelTable {
    LevelChunk chunk[8][2][8];       // [k][levels, squares][copy]
};
inline constexpr int kLevelRowBytes = sizeof(LevelTable) / 8;

// Writes copy `copy` of row k.
template <int kBits>
TQ_DEV void fill_level_row(LevelTable& table, int k, int copy) {
    TQ_UNROLL
    for (int i = 0; i < 1 << (kBits - 1); ++i) {
        if (i != k) continue;
        table.chunk[i][0][copy] = level_row(kBits, i).levels;
        table.chunk[i][1][copy] = level_row(kBits, i).squares;
    }
}

// Sums over the binary tree on index bits, highest bit first: the part within a lane. term(std::integral_constant<int, k>, out) gives the
// kSums terms of number k. Missing numbers would add zeros to sums that are not negative: left out.
template <int kNum, int kSums, int kFrom = 0, int kStep = 1, class Term>
TQ_DEV void lane_sums(float* sums, const Term& term) {
    if constexpr (kFrom + kStep >= kNum) {
        term(std::integral_constant<int, kFrom>(), sums);
    } else {
        float other[kSums];
        lane_sums<kNum, kSums, kFrom, 2 * kStep>(sums, term);
        lane_sums<kNum, kSums, kFrom + kStep, 2 * kStep>(other, term);
        TQ_UNROLL
        for (int i = 0; i < kSums; ++i) sums[i] = sums[i] + other[i];
    }
}
// The part between lanes.
template <int kLanes, int kSums>
TQ_DEV void sum_between_lanes(float* sums) {
    TQ_UNROLL
    for (int h = kLanes / 2; h >= 1; h /= 2) {
        TQ_UNROLL
        for (int i = 0; i < kSums; ++i) sums[i] = sums[i] + exchange(sums[i], h);
    }
}

// What a choice of gain gives: products with the codewords and their squares, summed.
struct Fit {
    float factor, dot, power;
};

// Number of the codeword, in bits 8 to 10: a float whose last place is 1 / 256, plus one for every threshold that is reached.
template <int kBits>
TQ_DEV std::uint32_t place_among_thresholds(float magnitude) {
    float sum = 49152.0f;
    TQ_UNROLL
    for (int i = 1; i < 1 << (kBits - 1); ++i) sum = sum + (magnitude >= threshold(kBits, i) ? 1.0f : 0.0f);
    return as_bits(sum) & 0x700;
}
static_assert(kLevelRowBytes == 256);

// The best of all gains; without a search, the middle one.
template <int kHeadDim, int kBits, int kLanes>
TQ_DEV Fit fit_gain(const EncodeBook& book, const LevelTable& table, const float* x, float units) {
    constexpr int kNum = (kHeadDim + kLanes - 1) / kLanes;
    const char* copy = reinterpret_cast<const char*>(&table.chunk[0][0][lane_id() & 7]);
    float factor[kEncodeGains], dot[kEncodeGains], power[kEncodeGains];
    TQ_UNROLL
    for (int g = 0; g < kEncodeGains; ++g) {
        factor[g] = book.gain[g] * units;
        power[g] = 0;
    }
    lane_sums<kNum, kEncodeGains>(dot, [&](auto number, float* term) {
        constexpr int k = decltype(number)::value;
        const float magnitude = fabsf(x[k]);
        const char* row = copy + place_among_thresholds<kBits>(magnitude * factor[kMiddleGain]);
        const LevelChunk levels = *reinterpret_cast<const LevelChunk*>(row), squares = *reinterpret_cast<const LevelChunk*>(row + sizeof(table.chunk[0][0]));
        const float below = magnitude * levels.number[2], own = magnitude * squares.number[0], above = magnitude * levels.number[3];
        TQ_UNROLL
        for (int g = 0; g < kEncodeGains; ++g) {
            if (g == kMiddleGain) {
                term[g] = own;
            } else if (g < kMiddleGain) {
                const bool fallen = !(magnitude * factor[g] >= levels.number[0]);
                term[g] = fallen ? below : own;
                if (fallen) power[g] = power[g] + squares.number[2];
            } else {
                const bool risen = magnitude * factor[g] >= levels.number[1];
                term[g] = risen ? above : own;
                if (risen) power[g] = power[g] + squares.number[3];
            }
        }
        if (kLanes * (k + 1) <= kHeadDim || lane_id() % kLanes + kLanes * k < kHeadDim) power[kMiddleGain] = power[kMiddleGain] + squares.number[1];
    });
    TQ_UNROLL
    for (int g = 0; g < kEncodeGains; ++g) {  // whole numbers below 2^24: exact in any order
        if (g != kMiddleGain) power[g] = power[g] + power[kMiddleGain];
    }
    sum_between_lanes<kLanes, kEncodeGains>(dot);
    if constexpr (kLanes == 32) {
        TQ_UNROLL
        for (int g = 0; g < kEncodeGains; ++g) power[g] = static_cast<float>(sum_lanes(static_cast<int>(power[g])));
    } else {
        sum_between_lanes<kLanes, kEncodeGains>(power);
    }
    Fit fit{factor[kMiddleGain], dot[kMiddleGain], power[kMiddleGain]};
    if (book.gain_search) {
        float best = -1;
        TQ_UNROLL
        for (int g = 0; g < kEncodeGains; ++g) {
            const float score = dot[g] * dot[g] / power[g];
            if (score > best) {
                best = score;
                fit = {factor[g], dot[g], power[g]};
            }
        }
    }
    return fit;
}

// x: the vector (numbers beyond head_dim zero), destroyed. codes[k]: code of number lane + kLanes k (0 beyond head_dim). Returns the scale. All
// lanes of the warp take part, whether their vectors are wanted or not.
template <int kHeadDim, int kBits, int kLanes>
TQ_DEV std::uint16_t encode_vector(const EncodeBook& book, const LevelTable& table, float* x, float norm, const std::uint32_t* sign, const std::uint32_t* paley,
                                   std::uint8_t* codes) {
    constexpr int kNum = (kHeadDim + kLanes - 1) / kLanes, kHalf = 1 << (kBits - 1);
    rotate_strided<kHeadDim, kLanes>(x, sign, paley);
    float norm2;
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) x[k] = x[k] * norm;
    lane_sums<kNum, 1>(&norm2, [&](auto k, float* term) { *term = x[k] * x[k]; });
    sum_between_lanes<kLanes, 1>(&norm2);
    const bool ordinary = norm2 > 0.0f && norm2 <= 3.402823466e38f;
    float dot, power;
    if constexpr (kBits == 8) {
        float largest = 0;
        TQ_UNROLL
        for (int k = 0; k < kNum; ++k) largest = fmaxf(largest, fabsf(x[k]));
        TQ_UNROLL
        for (int h = kLanes / 2; h >= 1; h /= 2) largest = fmaxf(largest, exchange(largest, h));
        const float units = ordinary ? 127.0f / largest : 0.0f;
        float sums[2];
        lane_sums<kNum, 2>(sums, [&](auto k, float* term) {
            const float rounded = round_even(fminf(fmaxf(x[k] * units, -127.0f), 127.0f));
            codes[k] = static_cast<std::uint8_t>(static_cast<int>(rounded) + 128);
            term[0] = x[k] * rounded;
            term[1] = rounded * rounded;
        });
        sum_between_lanes<kLanes, 2>(sums);
        dot = sums[0];
        power = sums[1];
    } else {
        const float units = book.alpha / sqrtf(norm2 / static_cast<float>(kHeadDim));
        const Fit fit = fit_gain<kHeadDim, kBits, kLanes>(book, table, x, units);
        dot = fit.dot;
        power = fit.power;
        TQ_UNROLL
        for (int k = 0; k < kNum; ++k) {
            const int n = static_cast<int>(place_among_thresholds<kBits>(fabsf(x[k]) * fit.factor) >> 8);
            codes[k] = static_cast<std::uint8_t>(as_bits(x[k]) >> 31 ? kHalf - 1 - n : kHalf + n);
        }
    }
    const float kept = book.norm_matched ? sqrtf(norm2 / power) : norm2 / dot;
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) {
        if (!ordinary) codes[k] = kHalf;
        if (kLanes * (k + 1) > kHeadDim && lane_id() % kLanes + kLanes * k >= kHeadDim) codes[k] = 0;
    }
    return ordinary ? half_bits(fminf(kept, 65504.0f)) : norm2 == 0.0f ? 0 : 0x7e00;
}

}  // namespace turboquant::device

// A group of lanes codes one vector exactly as core/reference.cpp does: the same operations in the same order, each rounded once. Compile
// with -fmad=false (host: -ffp-contract=off). Lane l of the kLanes lanes of a group has the numbers l, l + kLanes, ... of the vector: the sums'
// trees begin with the highest bits of the index, so few lanes mean few shuffles, and many lanes little latency.
//
// The gain search is the work: nine gains, each with a codeword for every number. What bounds it is comparing, at half the rate of
// arithmetic, and fetching instructions. So a number is placed among all thresholds once, at the middle gain. No other gain is so far away
// that it could pass more than one threshold (gains_reach_neighbours): one comparison each is left, and the two products and squares it
// chooses between are the same for four gains. The loop over numbers is rolled where a lane has more than four.
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

// Sums over the binary tree on index bits, highest bit first: the part within a lane. term(std::integral_constant<int, k>) gives number k's
// term. Missing numbers would add zeros to sums that are not negative: left out.
template <int kNum, int kFrom = 0, int kStep = 1, class Term>
TQ_DEV float lane_sum(const Term& term) {
    if constexpr (kFrom + kStep >= kNum) return term(std::integral_constant<int, kFrom>());
    else return lane_sum<kNum, kFrom, 2 * kStep>(term) + lane_sum<kNum, kFrom + kStep, 2 * kStep>(term);
}

// The same sums of several terms at a time, in a loop of which each turn adds up four numbers (fewer, if there are no more): numbers
// i, i + kTurns, ... of turn i, and turns in the order in which the tree takes them. Numbers from kNum on are there, as zeros.
template <int kNum>
struct Turns {
    static constexpr int kPower = kNum <= 1 ? 1 : kNum <= 2 ? 2 : kNum <= 4 ? 4 : kNum <= 8 ? 8 : kNum <= 16 ? 16 : 32;
    static constexpr int kTurns = kPower > 4 ? kPower / 4 : 1, kEach = (kNum + kTurns - 1) / kTurns, kAll = kTurns * kEach;
    static_assert(kTurns <= 4);

    static TQ_DEV int number(int turn) { return kTurns < 4 ? turn : turn >> 1 | (turn & 1) << 1; }  // of a turn's first
    // body(i, x of numbers i, i + kTurns, ...): x is turned round in registers, so that no index depends on the turn.
    template <class Body>
    static TQ_DEV void run(float* x, const Body& body) {
        if constexpr (kTurns == 1) {
            body(0, x);
        } else {
            float own[kAll];  // in the order of turns
            TQ_UNROLL
            for (int i = 0; i < kAll; ++i) own[i] = x[number(i / kEach) + kTurns * (i % kEach)];
            TQ_UNROLL_BY(1)
            for (int turn = 0; turn < kTurns; ++turn) {
                body(turn, own);
                TQ_UNROLL
                for (int i = 0; i + kEach < kAll; ++i) own[i] = own[i + kEach];
            }
        }
    }
    // Adds a turn's sums (never negative) to those of the turns before. pair, sum: zero before the first turn.
    template <int kSums>
    static TQ_DEV void add(int turn, const float* turn_sums, float* pair, float* sum) {
        TQ_UNROLL
        for (int g = 0; g < kSums; ++g) pair[g] = pair[g] + turn_sums[g];
        if (kTurns < 4 || turn % 2 != 0) {
            TQ_UNROLL
            for (int g = 0; g < kSums; ++g) {
                sum[g] = sum[g] + pair[g];
                pair[g] = 0;
            }
        }
    }
};

// The part between lanes.
template <int kLanes, int kSums>
TQ_DEV void sum_between_lanes(float* sums) {
    TQ_UNROLL
    for (int h = kLanes / 2; h >= 1; h /= 2) {
        TQ_UNROLL
        for (int i = 0; i < kSums; ++i) sums[i] = sums[i] + exchange(sums[i], h);
    }
}

// A whole warp's sum over the tree of all its numbers; lane l has the terms of numbers l, l + 32, ...
template <int kNum>
TQ_DEV float tree_sum(const float* terms) {
    float sum = lane_sum<kNum>([&](auto k) { return terms[k]; });
    sum_between_lanes<32, 1>(&sum);
    return sum;
}

// As sum_between_lanes, for one sum per gain, after which a lane has two neighbouring gains', number `gain` and the one after: with each of the first
// three steps a lane keeps only what it then has to add.
TQ_DEV int gain_of_lane(int lanes) { return (lane_id() & lanes / 2 ? 4 : 0) + (lane_id() & lanes / 4 ? 2 : 0) + (lane_id() & lanes / 8 ? 1 : 0); }
template <int kLanes>
TQ_DEV void spread_between_lanes(float* sums) {
    TQ_UNROLL
    for (int step = 0; step < 3; ++step) {
        const int h = kLanes / 2 >> step, apart = 4 >> step;  // sums: 9, 5, 3
        const bool upper = lane_id() & h;
        TQ_UNROLL
        for (int i = 0; i <= apart; ++i) {
            const float kept = upper ? sums[i + apart] : sums[i], sent = upper ? sums[i] : sums[i + apart];
            sums[i] = kept + exchange(sent, h);
        }
    }
    TQ_UNROLL
    for (int h = kLanes / 16; h >= 1; h /= 2) {
        TQ_UNROLL
        for (int i = 0; i < 2; ++i) sums[i] = sums[i] + exchange(sums[i], h);
    }
}

// What a choice of gain gives: products with the codewords and their squares, summed.
struct Fit {
    int gain;
    float score, dot, power;
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

// The best of all gains, the first of equal ones; without a search, the middle one. x: Turns<kNum>::kAll numbers.
template <int kHeadDim, int kBits, int kLanes>
TQ_DEV Fit fit_gain(const EncodeBook& book, const LevelTable& table, float* x, float units) {
    using Loop = Turns<(kHeadDim + kLanes - 1) / kLanes>;
    const char* copy = reinterpret_cast<const char*>(&table.chunk[0][0][lane_id() & 7]);
    float factor[kEncodeGains], pair[kEncodeGains], dot[kEncodeGains], power[kEncodeGains];
    TQ_UNROLL
    for (int g = 0; g < kEncodeGains; ++g) {
        factor[g] = book.gain[g] * units;
        pair[g] = dot[g] = power[g] = 0;
    }
    Loop::run(x, [&](int turn, const float* own) {
        float products[Loop::kEach][kEncodeGains], sums[kEncodeGains];
        TQ_UNROLL
        for (int n = 0; n < Loop::kEach; ++n) {
            const float magnitude = fabsf(own[n]);
            const char* row = copy + place_among_thresholds<kBits>(magnitude * factor[kMiddleGain]);
            const LevelChunk levels = *reinterpret_cast<const LevelChunk*>(row), squares = *reinterpret_cast<const LevelChunk*>(row + sizeof(table.chunk[0][0]));
            const float below = magnitude * levels.number[2], middle = magnitude * squares.number[0], above = magnitude * levels.number[3];
            TQ_UNROLL
            for (int g = 0; g < kEncodeGains; ++g) {
                if (g == kMiddleGain) {
                    products[n][g] = middle;
                } else if (g < kMiddleGain) {
                    const bool fallen = !(magnitude * factor[g] >= levels.number[0]);
                    products[n][g] = fallen ? below : middle;
                    if (fallen) power[g] = power[g] + squares.number[2];
                } else {
                    const bool risen = magnitude * factor[g] >= levels.number[1];
                    products[n][g] = risen ? above : middle;
                    if (risen) power[g] = power[g] + squares.number[3];
                }
            }
            const bool always = kLanes * (Loop::kTurns * (n + 1)) <= kHeadDim;
            if (always || lane_id() % kLanes + kLanes * (Loop::number(turn) + Loop::kTurns * n) < kHeadDim) power[kMiddleGain] = power[kMiddleGain] + squares.number[1];
        }
        TQ_UNROLL
        for (int g = 0; g < kEncodeGains; ++g) sums[g] = lane_sum<Loop::kEach>([&](auto n) { return products[n][g]; });
        Loop::template add<kEncodeGains>(turn, sums, pair, dot);
    });
    TQ_UNROLL
    for (int g = 0; g < kEncodeGains; ++g) {  // whole numbers below 2^24: exact in any order
        if (g != kMiddleGain) power[g] = power[g] + power[kMiddleGain];
    }
    spread_between_lanes<kLanes>(dot);
    spread_between_lanes<kLanes>(power);
    const int gain = gain_of_lane(kLanes);
    Fit fit{gain, dot[0] * dot[0] / power[0], dot[0], power[0]}, next{gain + 1, dot[1] * dot[1] / power[1], dot[1], power[1]};
    if (!book.gain_search) {
        fit.score = fit.gain == kMiddleGain;
        next.score = next.gain == kMiddleGain;
    }
    if (next.score > fit.score) fit = next;
    TQ_UNROLL
    for (int h = kLanes / 2; h >= kLanes / 8; h /= 2) {
        const Fit other{static_cast<int>(exchange(static_cast<std::uint32_t>(fit.gain), h)), exchange(fit.score, h), exchange(fit.dot, h), exchange(fit.power, h)};
        if (other.score > fit.score || (other.score == fit.score && other.gain < fit.gain)) fit = other;
    }
    return fit;
}

// How many numbers a lane holds for encode_vector(): those from kHeadDim on are zero.
template <int kHeadDim, int kLanes>
inline constexpr int kEncodeNumbers = Turns<(kHeadDim + kLanes - 1) / kLanes>::kAll;

// x: the vector, kEncodeNumbers of it, destroyed. store(k, code) is called for every k of a lane's numbers lane + kLanes k, also beyond
// head_dim. Returns the scale. All lanes of the warp take part, whether their vectors are wanted or not.
template <int kHeadDim, int kBits, int kLanes, class Store>
TQ_DEV std::uint16_t encode_vector(const EncodeBook& book, const LevelTable& table, float* x, float norm, const std::uint32_t* sign, const std::uint32_t* paley, const Store& store) {
    constexpr int kNum = (kHeadDim + kLanes - 1) / kLanes, kHalf = 1 << (kBits - 1);
    using Loop = Turns<kNum>;
    rotate_strided<kHeadDim, kLanes>(x, sign, paley);
    TQ_UNROLL
    for (int k = 0; k < kNum; ++k) x[k] = x[k] * norm;
    float norm2 = lane_sum<kNum>([&](auto k) { return x[k] * x[k]; });
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
        float pair[2] = {0, 0}, sums[2] = {0, 0};
        Loop::run(x, [&](int turn, const float* own) {
            float products[Loop::kEach][2];
            TQ_UNROLL
            for (int n = 0; n < Loop::kEach; ++n) {
                const float level = round_even(fminf(fmaxf(own[n] * units, -127.0f), 127.0f));
                products[n][0] = own[n] * level;
                products[n][1] = level * level;
                store(Loop::number(turn) + Loop::kTurns * n, ordinary ? static_cast<int>(level) + 128 : kHalf);
            }
            const float turn_sums[2] = {lane_sum<Loop::kEach>([&](auto n) { return products[n][0]; }), lane_sum<Loop::kEach>([&](auto n) { return products[n][1]; })};
            Loop::template add<2>(turn, turn_sums, pair, sums);
        });
        sum_between_lanes<kLanes, 2>(sums);
        dot = sums[0];
        power = sums[1];
    } else {
        const float units = book.alpha / sqrtf(norm2 / static_cast<float>(kHeadDim));
        const Fit fit = fit_gain<kHeadDim, kBits, kLanes>(book, table, x, units);
        dot = fit.dot;
        power = fit.power;
        const float factor = book.gain[fit.gain] * units;
        Loop::run(x, [&](int turn, const float* own) {
            TQ_UNROLL
            for (int n = 0; n < Loop::kEach; ++n) {
                const int place = static_cast<int>(place_among_thresholds<kBits>(fabsf(own[n]) * factor) >> 8);
                const int code = as_bits(own[n]) >> 31 ? kHalf - 1 - place : kHalf + place;
                store(Loop::number(turn) + Loop::kTurns * n, ordinary ? code : kHalf);
            }
        });
    }
    const float kept = book.norm_matched ? sqrtf(norm2 / power) : norm2 / dot;
    return ordinary ? half_bits(fminf(kept, 65504.0f)) : norm2 == 0.0f ? 0 : 0x7e00;
}

}  // namespace turboquant::device

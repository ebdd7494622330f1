// Trellis-coded quantisation: codes of 2, 3 or 4 bits that reach twice as many levels, because a code's meaning depends on the two
// codes before it (Ungerboeck 1982; Marcellin and Fischer 1990). About .25 bit better than codes that stand alone, at the same size.
//
// The 2^(bits+1) levels, ascending, are dealt to four subsets in turn: level i belongs to subset i % 4. A code is 2 * upper + u. Along
// the trellis order of a vector's numbers, with u1 and u2 the lowest bits of the two codes before (0 at the start),
//   level = 4 * upper + 2 * (u ^ u2) + u1
// so that the four states (u1, u2) each allow half of the levels, and no decoder needs more than two exclusive-ors and a table.
#pragma once

#include <cstdint>

#include "core/rotation.hpp"

namespace turboquant {

inline constexpr int kMaxTrellisBits = 4;

// Gains tried per vector; the middle one is 1 and is the only one without gain search.
inline constexpr int kTrellisGains = 5;
inline constexpr float kTrellisGain[kTrellisGains] = {0.8f, 0.9f, 1.0f, 1.1f, 1.2f};

struct TrellisBook {
    int bits;
    float alpha;             // integer units per standard deviation
    std::int8_t level[32];   // 2^(bits+1), ascending, level[n-1-i] = -level[i]

    int num_levels() const { return 2 << bits; }
    // What code and its two predecessors' lowest bits stand for.
    int codeword(int code, int u1, int u2) const { return level[2 * (code ^ u2) + u1]; }
    // Levels of subset s: level[s], level[s + 4], ...
    constexpr int subset_size() const { return 1 << (bits - 1); }
    // From here on (x >= threshold) level k of subset s is nearest, k = 1..subset_size - 1.
    constexpr float threshold(int s, int k) const { return 0.5f * static_cast<float>(level[4 * (k - 1) + s] + level[4 * k + s]); }
};

// Numbers in units of the levels fall into seven buckets of the same width, of which the outer two have no end. No bucket holds more
// than one threshold of a subset (asserted in trellis.cpp), so that kernels find a nearest level with one comparison.
inline constexpr float kBucketsPerUnit = 1 / 19.5f;
inline constexpr int kOuterBucket = 3;
constexpr int trellis_bucket(float x) {
    const float at = x * kBucketsPerUnit;
    int bucket = -kOuterBucket;
    while (bucket < kOuterBucket && at > static_cast<float>(bucket) + 0.5f) ++bucket;
    return bucket;
}

// bits is 2, 3 or 4.
const TrellisBook& trellis_book(int bits);

// The dimension that comes n-th along the trellis. Neighbours lie in the same lane of neighbouring code vectors (core/layout.hpp), but
// for the step from a lane's last vector to the next lane's first.
constexpr int trellis_dim(Side side, int head_dim, int n) {
    const int lanes = side == Side::key ? 4 : 16, per_lane = head_dim / lanes;
    return n % per_lane * lanes + n / per_lane;
}

// Its inverse: the place of a dimension along the trellis.
constexpr int trellis_place(Side side, int head_dim, int dim) {
    const int lanes = side == Side::key ? 4 : 16;
    return dim % lanes * (head_dim / lanes) + dim / lanes;
}

// --- the solver ---

// Levels by generalised Lloyd steps on Gaussian numbers from the counter generator, then the integers that lose least. Deterministic
// up to the C library's log and cos.
TrellisBook solve_trellis(int bits);

// Mean squared error of a book (without gain search, least-squares scale) on num_numbers fresh Gaussian numbers.
double trellis_mse(const TrellisBook& book, int num_numbers);

// The best path: levels' indices for x[0..num) (in units of the levels), starting from state 0. index [num]. Returns its squared error.
float best_path(const TrellisBook& book, const float* x, int num, std::uint8_t* index);

}  // namespace turboquant

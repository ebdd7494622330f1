// Lloyd-Max codebooks: how a coordinate of a rotated vector becomes a code, and what a code stands for.
//
// The tables that encode and decode use are int8 (codebook_tables.inc, checked in): a codeword is an integer, a
// coordinate of a unit-variance vector is multiplied by `alpha` to be on the integers' scale. The solver that makes
// them is here too, and a test runs it against the tables.
#pragma once

#include <cstdint>
#include <vector>

namespace turboquant {

inline constexpr int kMaxHalf = 32;  // positive codewords of the largest codebook (6 bits)

// A symmetric codebook of 2^bits int8 codewords. Code c < half is -positive[half-1-c], code c >= half is
// positive[c-half]: codes ascend with their codewords.
struct Codebook {
    int bits;
    int half;                          // 2^(bits-1)
    float alpha;                       // integer units per standard deviation
    std::int8_t positive[kMaxHalf];    // ascending
    float threshold[kMaxHalf];         // threshold[k]: from here on the magnitude is positive[k]; [0] is 0
    std::int8_t codeword[2 * kMaxHalf];
};

// bits is 2, 3, 4, 5 or 6. (8 bits are uniform: the codeword of code c is c - 128, c = 0 is not used.)
const Codebook& codebook(int bits);

// Codeword of a code at any stored width, 8 included.
inline int codeword_of(int bits, int code) {
    return bits == 8 ? code - 128 : codebook(bits).codeword[code];
}

// --- the solver ---

// A symmetric density of mean 0 and variance 1 given by its partial moments over [a, b], 0 <= a <= b <= infinity.
struct Moments {
    double mass, first, second;
};
enum class Density { gaussian, beta };
// dimension: for beta, the coordinate of a uniform unit vector of that dimension, times sqrt(dimension)
// (arXiv 2504.19874, Lemma 1). Ignored for gaussian.
Moments partial_moments(Density density, int dimension, double a, double b);

struct LloydMax {
    std::vector<double> positive;  // positive levels, ascending, unit-variance scale
    double mse;                    // E (x - nearest level)^2
};
LloydMax solve_lloyd_max(Density density, int dimension, int bits);

struct IntegerLevels {
    std::vector<int> positive;
    double alpha;      // integer units per standard deviation, with the best scale
    double mse;        // at that scale
};
// The int8 codebook nearest in distortion to the exact one: the best over all ways to scale and round it whose largest
// codeword lies between half of max_codeword and max_codeword; of equally good ones the one with the smallest numbers.
IntegerLevels round_to_int8(const LloydMax& exact, int max_codeword);

}  // namespace turboquant

// Estimator `mse` (arXiv 2504.19874, Algorithm 1) in double precision, for study: any symmetric codebook, any gains and
// each of the scale rules that are in use somewhere. What is shipped is core/reference.hpp; this is what it is compared with.
//
// All of it works on a vector y that has been rotated already.
#pragma once

#include <span>
#include <vector>

#include "core/schemes/mse_code.hpp"

namespace turboquant::study {

// All rules, plain first.
inline constexpr ScaleRule kScaleRules[] = {ScaleRule::plain, ScaleRule::norm_matched, ScaleRule::least_squares,
                                            ScaleRule::unbiased};
const char* name_of(ScaleRule rule);

// The codewords chosen for a vector (in units of a coordinate's standard deviation) and the sums that the scales are made of.
struct Choice {
    std::vector<double> codeword;  // [d]
    double norm2 = 0;              // <y,y>
    double dot = 0;                // <y,c>
    double power = 0;              // <c,c>
};

// positive: the codebook's positive levels for coordinates of variance 1, ascending. Each gain g is tried: coordinates are multiplied
// by g sqrt(d) / |y| and take the nearest level; the gain whose codewords have the smallest angle to y wins, the first of equals.
// y must not be zero. `choice` is reused: its vector keeps its memory.
void choose(std::span<const double> y, std::span<const double> positive, std::span<const double> gains, Choice& choice);

// s of the decoded vector s * codeword (c), for a vector y of d numbers: plain |y| / sqrt(d), norm-matched |y| / |c|, least squares
// <y,c> / <c,c>, unbiased <y,y> / <y,c>. plain is meant for the gain 1 only.
double scale_of(ScaleRule rule, const Choice& choice);

// |y - s c|^2 / |y|^2.
double relative_error(ScaleRule rule, const Choice& choice);

// 1, or `num` gains evenly spaced from first to last.
std::vector<double> gain_grid(int num, double first, double last);

}  // namespace turboquant::study

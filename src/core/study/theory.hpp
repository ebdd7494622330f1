// What can be said without measuring: the theorems of arXiv 2504.19874 and exact figures of Lloyd-Max codebooks.
// b: bits per coordinate; d: dimension. Distortions are relative to |x|^2.
#pragma once

#include <vector>

#include "core/codebook.hpp"

namespace turboquant::study {

double theorem1_bound(int bits);           // of `mse`: sqrt(3) pi / 2 * 4^-b
double theorem2_bound(int bits, int dim);  // of `prod`, for a unit query: sqrt(3) pi^2 / d * 4^-b
double theorem3_bound(int bits);           // below which no code of b bits per number can be for all vectors: 4^-b

// P(X <= x) for a coordinate X of a uniform unit vector, times sqrt(d).
double coordinate_distribution(int dim, double x);

// E (x - nearest level)^2 for a coordinate x of variance 1 and any symmetric levels (positive, ascending).
double codebook_distortion(Density density, int dim, const std::vector<double>& positive);

// Entropy of the codes, in bits.
double code_entropy(Density density, int dim, const std::vector<double>& positive);

// E of the least-squares scale's distortion at a finite dimension: the plain scale's D, less the part of the error that lies along the
// codewords. With e = c (y - c) per coordinate, of mean 0 (the centroid condition), the sum of e over the vector has variance
// d (E e^2 - (E e (y^2 - 1))^2 / 2), the second term because |y|^2 is always d; the gain is that over d^2 E c^2. First order in 1 / d.
double least_squares_distortion(int dim, const LloydMax& book);

// The same vectors with the other rules, from the mean and variance (over vectors) of the least-squares distortion x = sin^2 of the
// angle between y and c: norm-matched is 2 - 2 sqrt(1 - x), unbiased x / (1 - x); second order in x's spread.
double norm_matched_distortion(double mean, double variance);
double unbiased_distortion(double mean, double variance);

}  // namespace turboquant::study

#include "core/study/theory.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace turboquant::study {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The half-line cell of positive level k.
double cell_start(const std::vector<double>& positive, std::size_t k) {
    return k == 0 ? 0.0 : 0.5 * (positive[k - 1] + positive[k]);
}
double cell_end(const std::vector<double>& positive, std::size_t k) {
    return k + 1 == positive.size() ? kInfinity : 0.5 * (positive[k] + positive[k + 1]);
}

}  // namespace

double theorem1_bound(int bits) { return std::sqrt(3.0) * std::numbers::pi / 2 * theorem3_bound(bits); }
double theorem2_bound(int bits, int dim) {
    return std::sqrt(3.0) * std::numbers::pi * std::numbers::pi / dim * theorem3_bound(bits);
}
double theorem3_bound(int bits) { return std::pow(4.0, -bits); }

double coordinate_distribution(int dim, double x) {
    const double half = partial_moments(Density::beta, dim, 0, std::abs(x)).mass;
    return x < 0 ? 0.5 - half : 0.5 + half;
}

double codebook_distortion(Density density, int dim, const std::vector<double>& positive) {
    double error = 0;
    for (std::size_t k = 0; k < positive.size(); ++k) {
        const Moments m = partial_moments(density, dim, cell_start(positive, k), cell_end(positive, k));
        error += 2 * (m.second - 2 * positive[k] * m.first + positive[k] * positive[k] * m.mass);
    }
    return error;
}

double code_entropy(Density density, int dim, const std::vector<double>& positive) {
    double bits = 0;
    for (std::size_t k = 0; k < positive.size(); ++k) {
        const double p = partial_moments(density, dim, cell_start(positive, k), cell_end(positive, k)).mass;
        bits -= 2 * p * std::log2(p);
    }
    return bits;
}

double least_squares_distortion(int dim, const LloydMax& book) {
    constexpr int kSlices = 400;  // per cell; within one, y is its slice's mean
    const double root = std::sqrt(static_cast<double>(dim));
    double c2 = 0, e2 = 0, e_norm = 0, norm_variance = 0;
    for (std::size_t k = 0; k < book.positive.size(); ++k) {
        const double c = book.positive[k];
        const double a = cell_start(book.positive, k), b = std::min({cell_end(book.positive, k), root, 9.0});
        for (int i = 0; i < kSlices; ++i) {
            const double low = a + (b - a) * i / kSlices, high = a + (b - a) * (i + 1) / kSlices;
            const double mass = 2 * partial_moments(Density::gaussian, dim, low, high).mass;  // d (1 + 2/d...) is of the next order
            const double y = 0.5 * (low + high), e = c * (y - c);
            c2 += mass * c * c;
            e2 += mass * e * e;
            e_norm += mass * e * (y * y - 1);
            norm_variance += mass * (y * y - 1) * (y * y - 1);
        }
    }
    return book.mse - (e2 - e_norm * e_norm / norm_variance) / (dim * c2);
}

double norm_matched_distortion(double mean, double variance) {
    const double rest = 1 - mean;
    return 2 - 2 * std::sqrt(rest) + 0.5 * variance * 0.5 / (rest * std::sqrt(rest));
}

double unbiased_distortion(double mean, double variance) {
    const double rest = 1 - mean;
    return mean / rest + variance / (rest * rest * rest);
}

}  // namespace turboquant::study

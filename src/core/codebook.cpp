#include "core/codebook.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

namespace turboquant {
namespace {

constexpr Codebook make(int bits, float alpha, std::array<std::int8_t, kMaxHalf> positive) {
    Codebook book{};
    book.bits = bits;
    book.half = 1 << (bits - 1);
    book.alpha = alpha;
    for (int k = 0; k < book.half; ++k) {
        book.positive[k] = positive[k];
        book.threshold[k] = k == 0 ? 0.0f : 0.5f * static_cast<float>(positive[k - 1] + positive[k]);
        book.codeword[book.half + k] = positive[k];
        book.codeword[book.half - 1 - k] = static_cast<std::int8_t>(-positive[k]);
    }
    return book;
}

constexpr Codebook kBooks[] = {
#define TQ_CODEBOOK(bits, alpha, ...) make(bits, alpha, {__VA_ARGS__}),
#include "core/codebook_tables.inc"
#undef TQ_CODEBOOK
};

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double gaussian_density(double x) {
    return std::isinf(x) ? 0.0 : std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
}

Moments gaussian_moments(double a, double b) {
    const double upper_a = 0.5 * std::erfc(a / std::numbers::sqrt2);
    const double upper_b = std::isinf(b) ? 0.0 : 0.5 * std::erfc(b / std::numbers::sqrt2);
    const double fa = gaussian_density(a), fb = gaussian_density(b);
    const double mass = upper_a - upper_b;
    return {mass, fa - fb, mass + a * fa - (std::isinf(b) ? 0.0 : b * fb)};
}

// Simpson's rule on the density of sqrt(d) times a coordinate of a unit vector of dimension d.
Moments beta_moments(int dimension, double a, double b) {
    const double d = dimension, root = std::sqrt(d);
    a = std::min(a, root);
    b = std::min(b, root);
    const double log_norm = std::lgamma(d / 2) - std::lgamma((d - 1) / 2) - 0.5 * std::log(std::numbers::pi * d);
    const int steps = 512;
    const double h = (b - a) / steps;
    Moments sum{0, 0, 0};
    for (int i = 0; i <= steps; ++i) {
        const double x = a + i * h;
        const double inside = std::max(0.0, 1 - x * x / d);
        const double f = inside == 0 ? 0.0 : std::exp(log_norm + 0.5 * (d - 3) * std::log(inside));
        const double weight = (i == 0 || i == steps ? 1 : i % 2 ? 4 : 2) * h / 3;
        sum.mass += weight * f;
        sum.first += weight * f * x;
        sum.second += weight * f * x * x;
    }
    return sum;
}

// Distortion of symmetric levels with nearest-level decisions (both halves).
double distortion(Density density, int dimension, const std::vector<double>& positive) {
    double mse = 0;
    for (std::size_t k = 0; k < positive.size(); ++k) {
        const double a = k == 0 ? 0.0 : 0.5 * (positive[k - 1] + positive[k]);
        const double b = k + 1 == positive.size() ? kInfinity : 0.5 * (positive[k] + positive[k + 1]);
        const Moments m = partial_moments(density, dimension, a, b);
        mse += 2 * (m.second - 2 * positive[k] * m.first + positive[k] * positive[k] * m.mass);
    }
    return mse;
}

// Standard deviations per integer unit for which the levels step * integer are best: E |x| i = step * E i^2, each level
// over its own cell; by bisection around the guess.
double best_step(const std::vector<int>& integer, double guess) {
    const std::size_t half = integer.size();
    const auto too_small = [&](double step) {
        double excess = 0;
        for (std::size_t k = 0; k < half; ++k) {
            const double a = k == 0 ? 0.0 : 0.5 * step * (integer[k - 1] + integer[k]);
            const double b = k + 1 == half ? kInfinity : 0.5 * step * (integer[k] + integer[k + 1]);
            const Moments m = gaussian_moments(a, b);
            excess += integer[k] * (m.first - step * integer[k] * m.mass);
        }
        return excess > 0;
    };
    double low = 0.8 * guess, high = 1.25 * guess;
    for (int round = 0; round < 50; ++round) {
        const double middle = 0.5 * (low + high);
        (too_small(middle) ? low : high) = middle;
    }
    return 0.5 * (low + high);
}

}  // namespace

const Codebook& codebook(int bits) {
    return kBooks[bits - 2];
}

Moments partial_moments(Density density, int dimension, double a, double b) {
    return density == Density::gaussian ? gaussian_moments(a, b) : beta_moments(dimension, a, b);
}

LloydMax solve_lloyd_max(Density density, int dimension, int bits) {
    const int half = 1 << (bits - 1);
    std::vector<double> level(half);
    for (int k = 0; k < half; ++k) level[k] = 3.0 * (k + 0.5) / half;
    double largest_move = 1;
    for (int round = 0; round < 20000 && largest_move > 1e-11; ++round) {
        largest_move = 0;
        for (int k = 0; k < half; ++k) {
            const double a = k == 0 ? 0.0 : 0.5 * (level[k - 1] + level[k]);
            const double b = k + 1 == half ? kInfinity : 0.5 * (level[k] + level[k + 1]);
            const Moments m = partial_moments(density, dimension, a, b);
            const double centroid = m.first / m.mass;
            largest_move = std::max(largest_move, std::abs(centroid - level[k]));
            level[k] = centroid;
        }
    }
    return {level, distortion(density, dimension, level)};
}

IntegerLevels round_to_int8(const LloydMax& exact, int max_codeword) {
    const std::size_t half = exact.positive.size();
    IntegerLevels best{{}, 0, kInfinity};
    const double largest = (max_codeword + 0.499) / exact.positive.back();
    for (double scale = largest; scale > largest / 2; scale *= 0.9998) {
        std::vector<int> integer(half);
        for (std::size_t k = 0; k < half; ++k) integer[k] = static_cast<int>(std::lround(scale * exact.positive[k]));
        if (integer[0] == 0 || std::adjacent_find(integer.begin(), integer.end()) != integer.end()) continue;
        if (integer == best.positive) continue;
        const double step = best_step(integer, 1 / scale);
        std::vector<double> level(half);
        for (std::size_t k = 0; k < half; ++k) level[k] = step * integer[k];
        const double mse = distortion(Density::gaussian, 0, level);
        // Proportional levels are equally good (24, 80 and 21, 70): the smallest win, not the last digit of the C library.
        if (mse <= best.mse * (1 + 1e-9)) best = {integer, 1 / step, mse};
    }
    return best;
}

}  // namespace turboquant

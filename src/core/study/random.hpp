// Random numbers for studies: pure functions of (seed, stream, index), so that work may be split over threads in any way
// and gives the same numbers on every machine whose C library rounds log and cos alike.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>

#include "core/counter_rng.hpp"

namespace turboquant::study {

// Uniform in (0, 1).
inline double uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
    return (static_cast<double>(counter_word(seed, stream, index) >> 11) + 0.5) * 0x1p-53;
}

// Independent standard normals (Box-Muller, both of each pair).
inline void fill_normal(std::uint64_t seed, std::uint64_t stream, std::span<double> out) {
    for (std::size_t i = 0; i < out.size(); i += 2) {
        const double radius = std::sqrt(-2 * std::log(uniform(seed, stream, i)));
        const double angle = 2 * std::numbers::pi * uniform(seed, stream, i + 1);
        out[i] = radius * std::cos(angle);
        if (i + 1 < out.size()) out[i + 1] = radius * std::sin(angle);
    }
}

inline double dot(std::span<const double> a, std::span<const double> b) {
    double sum = 0;
    for (std::size_t j = 0; j < a.size(); ++j) sum += a[j] * b[j];
    return sum;
}

// Uniform on the unit sphere.
inline void fill_unit_vector(std::uint64_t seed, std::uint64_t stream, std::span<double> out) {
    fill_normal(seed, stream, out);
    const double inverse = 1 / std::sqrt(dot(out, out));
    for (double& v : out) v *= inverse;
}

}  // namespace turboquant::study

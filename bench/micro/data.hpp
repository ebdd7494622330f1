// Data and counters of the micro-benchmarks.
#pragma once

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "core/half.hpp"

namespace turboquant::bench {

inline std::vector<float> normals(std::size_t num, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    std::vector<float> x(num);
    for (float& v : x) v = normal(engine);
    return x;
}

inline std::vector<std::uint16_t> halves(std::size_t num, unsigned seed) {
    const std::vector<float> x = normals(num, seed);
    std::vector<std::uint16_t> h(num);
    for (std::size_t i = 0; i < num; ++i) h[i] = float_to_half(x[i]);
    return h;
}

// Seconds per unit, of which one iteration handles `units`.
inline benchmark::Counter per(double units) {
    return {units, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert};
}

}  // namespace turboquant::bench

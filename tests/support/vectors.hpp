// Test data and comparisons shared by the tests. Everything is a function of its seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "core/half.hpp"
#include "core/reference.hpp"

namespace turboquant::testing {

inline std::vector<float> gaussian(std::size_t num, std::uint64_t seed, float mean = 0.0f, float deviation = 1.0f) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<float> normal(mean, deviation);
    std::vector<float> x(num);
    for (float& v : x) v = normal(engine);
    return x;
}

// |x - y|^2 and |x|^2 added up over many vectors.
struct RelativeError {
    double error = 0, power = 0;

    void add(const float* x, const float* y, std::size_t num) {
        for (std::size_t j = 0; j < num; ++j) {
            error += (static_cast<double>(x[j]) - y[j]) * (static_cast<double>(x[j]) - y[j]);
            power += static_cast<double>(x[j]) * x[j];
        }
    }
    double value() const { return error / power; }
};

inline Spec spec_of(int head_dim, int bits) {
    Spec spec;
    spec.head_dim = head_dim;
    spec.key_bits = bits;
    spec.value_bits = bits;
    return spec;
}

struct Encoded {
    std::vector<std::uint8_t> codes;
    std::uint16_t scale = 0xffff;
};

inline Encoded encode(const Coder& coder, const float* x) {
    Encoded result;
    result.codes.resize(coder.head_dim);
    reference::encode(coder, x, result.codes.data(), &result.scale);
    return result;
}

// 64 rows of binary16 numbers with the pointers that the tile functions take.
struct Tile {
    int head_dim;
    std::vector<std::uint16_t> numbers;
    const std::uint16_t* rows[kTileTokens];

    // Row t is mean + noise.
    Tile(int dim, std::uint64_t seed, float mean_deviation = 0.0f)
        : head_dim(dim), numbers(static_cast<std::size_t>(dim) * kTileTokens) {
        const std::vector<float> noise = gaussian(numbers.size(), seed),
                                 mean = gaussian(dim, seed + 1, 0.0f, mean_deviation + 1e-30f);
        for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = float_to_half(noise[i] + mean[i % dim]);
        point();
    }
    Tile(const Tile&) = delete;
    void operator=(const Tile&) = delete;

    void point() {
        for (int t = 0; t < kTileTokens; ++t) rows[t] = &numbers[static_cast<std::size_t>(t) * head_dim];
    }
};

inline constexpr std::uint64_t kAllRows = ~0ull;

}  // namespace turboquant::testing

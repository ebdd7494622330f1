// Vectors that several groups of rows measure on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/rotation.hpp"
#include "core/study/random.hpp"

namespace turboquant::validation {

// A uniform unit vector, rotated by the product's own single precision rotation. out: head_dim numbers.
inline void rotated_unit_vector(const RotationTables& rotation, std::uint64_t seed, std::uint64_t index, std::span<double> out) {
    study::fill_unit_vector(seed, index, out);
    std::vector<float> x(out.begin(), out.end());
    rotate_forward(rotation, x.data());
    for (std::size_t j = 0; j < out.size(); ++j) out[j] = x[j];
}

}  // namespace turboquant::validation

// Algorithm 1 of arXiv 2504.19874 on vectors of any size that has a rotation: nearest codewords of the rotated vector, and one
// binary16 factor. What schemes are made of, and what studies of the method compare; the default codes (core/reference.hpp) add
// gains, references and balance to it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/rotation.hpp"

namespace turboquant {

inline constexpr int kMaxVector = 576;

// Positive levels for coordinates of variance 1, ascending: those of the stored codebooks for 2 to 6 bits, sqrt(2 / pi) for 1.
std::vector<float> unit_levels(int bits);

// The factor f kept with a vector's codes c; y[j] decodes to f / sqrt(dim) * level(c[j]).
enum class ScaleRule : std::uint8_t {
    plain,          // |y|, the paper's
    norm_matched,   // so that the decoded vector has y's norm
    least_squares,  // so that it is nearest to y
    unbiased,       // so that its product with y is |y|^2
};

class MseCode {
public:
    // levels: 2^(bits - 1) positive ones.
    MseCode(std::shared_ptr<const RotationTables> rotation, std::vector<float> levels, ScaleRule rule = ScaleRule::plain);

    int dim() const { return rotation_->head_dim; }
    int bits() const { return bits_; }
    const RotationTables& rotation() const { return *rotation_; }
    std::size_t packed_bytes() const { return (static_cast<std::size_t>(dim()) * bits_ + 7) / 8; }

    // y: already rotated. packed: a little-endian bit string of codes. A zero vector has factor 0; one whose squares do not have a
    // finite sum has factor NaN; codes are then the middle one.
    void encode_rotated(const float* y, std::uint8_t* packed, std::uint16_t* factor) const;

    // The levels of packed codes, [dim].
    void unpack(const std::uint8_t* packed, float* levels) const;

    // Of a factor: what a level is multiplied by.
    float unit(std::uint16_t factor) const;

private:
    std::shared_ptr<const RotationTables> rotation_;
    ScaleRule rule_;
    int bits_ = 1;
    std::vector<float> positive_, threshold_;
    std::vector<float> level_;  // by code
};

// Sum of products with eight running sums: the compiler may use registers of any width.
inline float dot_product(const float* a, const float* b, int num) {
    float sum[8] = {};
    int j = 0;
    for (; j + 8 <= num; j += 8) {
        for (int i = 0; i < 8; ++i) sum[i] += a[j + i] * b[j + i];
    }
    for (; j < num; ++j) sum[0] += a[j] * b[j];
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

inline void add_scaled(float factor, const float* x, int num, float* sum) {
    for (int j = 0; j < num; ++j) sum[j] += factor * x[j];
}

}  // namespace turboquant

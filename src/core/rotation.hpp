// The random rotation (arXiv 2504.19874, section 3.1): signs, then an orthogonal matrix of exactly head_dim.
//
// hadamard: head_dim = base * 2^k. y = (P (x) S) (s * x) / sqrt(head_dim), with S the Sylvester-Hadamard matrix of
// order 2^k, P the Paley-Hadamard matrix of order base (1, 12, 20, 28, 36, ...) and s random signs: no padding.
// haar: y = Q x with Q uniformly distributed on the orthogonal group.
//
// forward() and inverse() are the definition, bit for bit: docs/format.md section 3 says the order of the operations.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "turboquant/spec.hpp"

namespace turboquant {

enum class Side : std::uint8_t { key = 0, value = 1 };  // also the number of the side's sign stream

struct RotationTables {
    int head_dim = 0;
    int base = 1;    // order of the Paley factor, 1 when head_dim is a power of two
    int run = 0;     // order of the Sylvester factor, 2^k
    Rotation kind = Rotation::hadamard;
    float norm = 0;                  // 1 / sqrt(head_dim)
    std::vector<float> sign;         // [head_dim] +1 or -1
    std::vector<float> paley;        // [base][base] +1 or -1, row-major
    std::vector<float> dense;        // haar: [head_dim][head_dim], row-major
};

// Streams of the counter generator beside those of the sides, which are 0 and 1.
inline constexpr std::uint64_t kSketchStream = 2;
constexpr std::uint64_t outlier_stream(Side side) { return 4 + static_cast<std::uint64_t>(side); }
constexpr std::uint64_t ordinary_stream(Side side) { return 6 + static_cast<std::uint64_t>(side); }

// Whether there is a Hadamard rotation of this order: 2^k, or 4 * odd * 2^k with a Paley matrix of order 4 * odd.
bool has_hadamard(int order);

// order must have a Hadamard rotation unless kind is haar (every supported head_dim and its quarters do). Tables of one
// (order, kind, seed, stream) are made once and shared.
std::shared_ptr<const RotationTables> rotation_tables(int order, Rotation kind, std::uint64_t seed, std::uint64_t stream);
inline std::shared_ptr<const RotationTables> rotation_tables(int head_dim, Rotation kind, std::uint64_t seed, Side side) {
    return rotation_tables(head_dim, kind, seed, static_cast<std::uint64_t>(side));
}

// [order][order] independent standard normals, row-major: number i is made from words 2i and 2i + 1 of the stream.
std::vector<float> normal_matrix(int order, std::uint64_t seed, std::uint64_t stream);

// In place over head_dim floats.
void rotate_forward(const RotationTables& tables, float* x);
void rotate_inverse(const RotationTables& tables, float* x);

// A Hadamard matrix of this order by Paley's constructions (+1/-1, row-major), the first one where order - 1 is a prime of the
// form 4n + 3, else the second one where order / 2 - 1 is a prime of the form 4n + 1. {1} for order 1; empty where neither exists.
std::vector<float> paley_hadamard(int order);

}  // namespace turboquant

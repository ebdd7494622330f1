// The random rotation (arXiv 2504.19874, section 3.1): signs, then an orthogonal matrix of exactly head_dim.
//
// hadamard: head_dim = base * 2^k. y = (P (x) S) (s * x) / sqrt(head_dim), with S the Sylvester-Hadamard matrix of
// order 2^k, P the Paley-Hadamard matrix of order base (1, 12, 20, 28 or 36) and s random signs: no padding.
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

// head_dim must be supported (validate() has said so). Tables of one (head_dim, kind, seed, side) are made once and shared.
std::shared_ptr<const RotationTables> rotation_tables(int head_dim, Rotation kind, std::uint64_t seed, Side side);

// In place over head_dim floats.
void rotate_forward(const RotationTables& tables, float* x);
void rotate_inverse(const RotationTables& tables, float* x);

// A Hadamard matrix of this order by Paley's constructions (+1/-1, row-major); order is 1, 12, 20, 28 or 36.
std::vector<float> paley_hadamard(int order);

}  // namespace turboquant

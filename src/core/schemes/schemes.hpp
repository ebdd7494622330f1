// The schemes of core/scheme.hpp, one file each. Arguments are those of a valid spec.
#pragma once

#include <cstring>

#include "core/scheme.hpp"

namespace turboquant {

inline constexpr int kGroupNumbers = 32;  // numbers of a vector that share a scale and a zero

std::unique_ptr<const RowScheme> make_prod_scheme(const Spec& spec, Side side);
std::unique_ptr<const RowScheme> make_group_scheme(const Spec& spec, Side side);
std::unique_ptr<const RowScheme> make_split_scheme(const Spec& spec, Side side, std::span<const std::uint16_t> outliers);

// What a sketch's sign bits are multiplied by, so that factor * |r| * sum over i of sign(S r)_i (S q)_i estimates r . q without bias.
//   gaussian    sqrt(pi / 2) / d: E |<g, u>| = sqrt(2 / pi) for a unit u (arXiv 2406.03482)
//   orthogonal  S is sqrt(d) times orthonormal rows, of which each is uniform on the sphere: E |<u_i, u>| is
//               Gamma(d / 2) / (sqrt(pi) Gamma((d + 1) / 2)), so that the factor is d^(-3/2) over that
double sketch_factor(Sketch sketch, int head_dim);

inline std::uint16_t load_half(const std::uint8_t* bytes) {
    std::uint16_t h;
    std::memcpy(&h, bytes, 2);
    return h;
}

inline void store_half(std::uint8_t* bytes, std::uint16_t h) { std::memcpy(bytes, &h, 2); }

}  // namespace turboquant

// How much noise coded keys add to attention's logits, and what can be done about it without spending bits: balance.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "turboquant/spec.hpp"

namespace turboquant {

// Relative squared error of the codes on rotated (Gaussian) vectors, by stored bits (arXiv 2504.19874, Theorem 1).
double relative_distortion(int bits);

// The same of the codes that are stored: with trellis_codes, widths of 2 to 4 bits follow a trellis (docs/decisions/0011-trellis-codes.md).
double shipped_distortion(int bits, bool trellis_codes);

// Mean squares per channel of one KV head: of keys around their tile's reference, and of the queries that look at them.
struct ChannelPower {
    std::vector<double> key, query;
};

// Balance: key channel j is multiplied by w_j, the query's by 1/w_j, before the rotation spreads the coding error evenly. The noise
// power is then proportional to (sum k_j w_j^2)(sum q_j / w_j^2), least for w_j^4 = q_j / k_j (Cauchy-Schwarz), where it is
// (sum sqrt(k_j q_j))^2: never more than without. These are log2 w_j, rounded to integers (so that scaling is exact), in [-8, 8],
// around a mean of 0.
std::vector<std::int8_t> balance_exponents(const ChannelPower& power);

// Standard deviation of the error of one logit scale * (q . k): after a random rotation the error of a coded key is nearly
// independent of the query, so var = scale^2 |q|^2 |k|^2 D / head_dim, both norms balanced.
double logit_noise(double scale, const ChannelPower& power, std::span<const std::int8_t> exponents, int bits);

// The same for keys coded as `spec` says, by a scheme or not. outliers: the channels that outlier_split codes apart.
double key_noise(const Spec& spec, std::span<const std::uint16_t> outliers, double scale, const ChannelPower& power, std::span<const std::int8_t> exponents);

// Above this a layer takes 8-bit keys. The KL divergence of attention weights grows as noise^2 / 2 (docs/decisions/0004-wide-keys.md).
inline constexpr double kWideKeyNoise = 1.0;

}  // namespace turboquant

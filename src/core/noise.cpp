#include "core/noise.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

namespace turboquant {

double relative_distortion(int bits) {
    switch (bits) {
        case 1: return 0.3634;
        case 2: return 0.1175;
        case 3: return 0.0345;
        case 4: return 0.0095;
        case 5: return 0.0025;
        case 6: return 0.00066;
        default: return 0.00004;
    }
}

double shipped_distortion(int bits, bool trellis_codes) {
    if (!trellis_codes) return relative_distortion(bits);
    switch (bits) {  // least-squares scale and gain search, head_dim 128 (turboquant validate)
        case 2: return 0.0865;
        case 3: return 0.0223;
        case 4: return 0.0056;
        default: return relative_distortion(bits);
    }
}

std::vector<std::int8_t> balance_exponents(const ChannelPower& power) {
    const std::size_t d = power.key.size();
    const auto floor_of = [d](const std::vector<double>& p) {  // a channel that was silent so far may speak later
        return 1e-3 * std::accumulate(p.begin(), p.end(), 0.0) / static_cast<double>(d) + 1e-30;
    };
    const double key_floor = floor_of(power.key), query_floor = floor_of(power.query);
    std::vector<double> log_weight(d);
    double mean = 0;
    for (std::size_t j = 0; j < d; ++j) {
        log_weight[j] = 0.25 * std::log2((power.query[j] + query_floor) / (power.key[j] + key_floor));
        mean += log_weight[j] / static_cast<double>(d);
    }
    std::vector<std::int8_t> exponents(d, 0);
    if (!std::isfinite(mean)) return exponents;
    for (std::size_t j = 0; j < d; ++j) exponents[j] = static_cast<std::int8_t>(std::clamp(std::round(log_weight[j] - mean), -8.0, 8.0));
    return exponents;
}

double logit_noise(double scale, const ChannelPower& power, std::span<const std::int8_t> exponents, int bits) {
    double key = 0, query = 0;
    for (std::size_t j = 0; j < power.key.size(); ++j) {
        key += std::ldexp(power.key[j], 2 * exponents[j]);
        query += std::ldexp(power.query[j], -2 * exponents[j]);
    }
    return scale * std::sqrt(query * key * relative_distortion(bits) / static_cast<double>(power.key.size()));
}

double key_noise(const Spec& spec, std::span<const std::uint16_t> outliers, double scale, const ChannelPower& power, std::span<const std::int8_t> exponents) {
    if (spec.key_estimator == Estimator::prod) {  // Theorem 2: pi / 2 of what the codes without the sign bit leave
        return std::sqrt(std::numbers::pi / 2) * logit_noise(scale, power, exponents, spec.key_bits - 1);
    }
    if (!spec.outlier_split) return logit_noise(scale, power, exponents, spec.key_bits);
    ChannelPower loud, others;
    for (std::size_t j = 0; j < power.key.size(); ++j) {
        ChannelPower& part = std::binary_search(outliers.begin(), outliers.end(), j) ? loud : others;
        part.key.push_back(power.key[j]);
        part.query.push_back(power.query[j]);
    }
    const std::vector<std::int8_t> none(power.key.size(), 0);  // the split excludes balance
    return std::hypot(logit_noise(scale, loud, none, spec.key_bits + 1), logit_noise(scale, others, none, spec.key_bits));
}

}  // namespace turboquant

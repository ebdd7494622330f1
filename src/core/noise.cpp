#include "core/noise.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace turboquant {

double relative_distortion(int bits) {
    switch (bits) {
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

}  // namespace turboquant

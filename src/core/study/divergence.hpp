// How far two attention weightings are apart.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>

namespace turboquant::study {

// KL divergence, in nats, of softmax(changed) from softmax(exact): sum p log(p / p'). Both non-empty and of equal length.
inline double softmax_divergence(std::span<const double> exact, std::span<const double> changed) {
    const double top = *std::max_element(exact.begin(), exact.end()),
                 top_changed = *std::max_element(changed.begin(), changed.end());
    double total = 0, total_changed = 0, difference = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
        const double weight = std::exp(exact[i] - top);
        total += weight;
        total_changed += std::exp(changed[i] - top_changed);
        difference += weight * (exact[i] - changed[i]);
    }
    return difference / total - (top + std::log(total)) + (top_changed + std::log(total_changed));
}

}  // namespace turboquant::study

#include "cpu/kept_keys.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace turboquant {

std::size_t KeptKeys::bytes(int head_dim) const { return 2 * static_cast<std::size_t>(std::popcount(rows)) * head_dim; }

KeptKeys KeptKeys::copy(int head_dim) const {
    KeptKeys other;
    other.rows = rows;
    if (const std::size_t numbers_kept = bytes(head_dim) / 2; numbers_kept > 0) {
        other.numbers = std::make_unique<std::uint16_t[]>(numbers_kept);
        std::copy_n(numbers.get(), numbers_kept, other.numbers.get());
    }
    return other;
}

void QueryTrend::reset(int num_streams, int num_heads, int head_dim) {
    const std::size_t pairs = static_cast<std::size_t>(num_streams) * num_heads;
    num_heads_ = num_heads;
    head_dim_ = head_dim;
    sum_.assign(pairs * head_dim, 0.0f);
    log_total_.assign(pairs, 0.0f);
    weight_.assign(pairs, 0.0f);
}

void QueryTrend::add(int stream, int head, const float* query, std::size_t query_stride, int num_queries, float scale, const float* log_totals) {
    const std::size_t pair = static_cast<std::size_t>(stream) * num_heads_ + head;
    float* sum = sum_.data() + pair * head_dim_;
    const int first = std::max(0, num_queries - kHorizon);
    const float fade = std::pow(1.0f - 1.0f / kHorizon, static_cast<float>(num_queries - first));
    for (int j = 0; j < head_dim_; ++j) sum[j] *= fade;
    log_total_[pair] *= fade;
    weight_[pair] *= fade;
    for (int i = first; i < num_queries; ++i) {
        if (!std::isfinite(log_totals[i])) continue;
        const float* q = query + static_cast<std::size_t>(i) * query_stride;
        for (int j = 0; j < head_dim_; ++j) sum[j] += q[j] * scale;
        log_total_[pair] += log_totals[i];
        weight_[pair] += 1;
    }
}

float QueryTrend::log_weight(int stream, int head, const float* key) const {
    std::size_t pair = static_cast<std::size_t>(stream) * num_heads_ + head;
    for (std::size_t other = head; weight_[pair] == 0 && other < weight_.size(); other += num_heads_) {
        if (weight_[other] > 0) pair = other;
    }
    if (weight_[pair] == 0) return -std::numeric_limits<float>::infinity();
    const float* sum = sum_.data() + pair * head_dim_;
    float dot = 0;
    for (int j = 0; j < head_dim_; ++j) dot += sum[j] * key[j];
    return (dot - log_total_[pair]) / weight_[pair];
}

std::uint64_t most_harmful(const std::array<float, kTileTokens>& harm, std::uint64_t candidates, int max_rows) {
    std::uint64_t kept = 0;
    for (int n = 0; n < max_rows; ++n) {
        int worst = -1;
        for (std::uint64_t left = candidates & ~kept; left; left &= left - 1) {
            const int t = std::countr_zero(left);
            if (harm[t] > kKeptKeyHarm && (worst < 0 || harm[t] > harm[worst])) worst = t;
        }
        if (worst < 0) break;
        kept |= 1ull << worst;
    }
    return kept;
}

}  // namespace turboquant

#include "divergence.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include <fmt/format.h>

#include "table.hpp"

namespace turboquant::tool {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// log of the sum of exponentials and the index of the largest; false when the row is not a distribution.
struct Normaliser {
    double log_sum = 0;
    std::size_t largest = 0;
    bool ok = false;
};

template <class F>
Normaliser normalise(std::span<const float> logits, F&& visit) {
    const std::int64_t largest = most_likely(logits);
    if (largest < 0) return {};
    const float top = logits[static_cast<std::size_t>(largest)];
    if (!std::isfinite(top)) return {};
    double sum = 0;
    for (float logit : logits) {
        const float e = std::exp(logit - top);
        visit(e);
        sum += e;
    }
    return {top + std::log(sum), static_cast<std::size_t>(largest), true};
}

}  // namespace

std::int64_t most_likely(std::span<const float> logits) {
    std::int64_t best = -1;
    bool wrong = false;
    float top = -std::numeric_limits<float>::infinity();
    for (std::size_t i = 0; i < logits.size(); ++i) {
        wrong |= std::isnan(logits[i]);
        if (best >= 0 && !(logits[i] > top)) continue;
        best = static_cast<std::int64_t>(i);
        top = logits[i];
    }
    return wrong ? -1 : best;
}

Distribution::Distribution(std::span<const float> logits) {
    probabilities_.reserve(logits.size());
    const Normaliser found = normalise(logits, [this](float e) { probabilities_.push_back(e); });
    ok_ = found.ok;
    log_normaliser_ = found.log_sum;
    if (!ok_) return;
    const double sum = std::exp(log_normaliser_ - logits[found.largest]);
    for (float& p : probabilities_) p = static_cast<float>(p / sum);
}

double Distribution::log_probability(std::span<const float> logits, std::size_t token) const {
    return ok_ ? logits[token] - log_normaliser_ : kNan;
}

TokenScore TokenScore::of(const Distribution& base, std::span<const float> base_logits, std::span<const float> other_logits,
                          std::size_t next) {
    const Normaliser other = normalise(other_logits, [](float) {});
    if (!base.ok() || !other.ok) return {kNan, kNan, kNan, false};
    // sum of p (log p - log q) = sum of p (base logit - other logit) - base normaliser + other normaliser
    double kl = 0;
    for (std::size_t i = 0; i < base_logits.size(); ++i) {
        const double p = base.probabilities_[i];
        if (p > 0) kl += p * (static_cast<double>(base_logits[i]) - other_logits[i]);
    }
    kl += other.log_sum - base.log_normaliser_;
    const double log_p = base.log_probability(base_logits, next);
    const double log_q = other_logits[next] - other.log_sum;
    return {static_cast<float>(kl), static_cast<float>(std::exp(log_q) - std::exp(log_p)), static_cast<float>(-log_q),
            static_cast<std::int64_t>(other.largest) == most_likely(base_logits)};
}

void Scores::add(const TokenScore& score) {
    kl.push_back(shortened(score.kl));
    change.push_back(shortened(score.change));
    nll.push_back(shortened(score.nll));
    same += score.same ? '1' : '0';
}

void Scores::append(const Scores& more) {
    kl.insert(kl.end(), more.kl.begin(), more.kl.end());
    change.insert(change.end(), more.change.begin(), more.change.end());
    nll.insert(nll.end(), more.nll.begin(), more.nll.end());
    same += more.same;
}

float shortened(float value) { return std::isfinite(value) ? std::strtof(fmt::format("{:.6g}", value).c_str(), nullptr) : value; }

double quantile(std::span<const float> ascending, double fraction) {
    const double place = fraction * static_cast<double>(ascending.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, ascending.size() - 1);
    const double share = place - static_cast<double>(below);
    return (1 - share) * ascending[below] + share * ascending[above];
}

double error_of_mean(std::span<const float> values) {
    std::vector<double> means;
    for (; values.size() >= kBlock; values = values.subspan(kBlock)) {
        double sum = 0;
        for (float value : values.first(kBlock)) sum += value;
        means.push_back(sum / kBlock);
    }
    if (means.size() < 2) return std::numeric_limits<double>::quiet_NaN();
    return spread(means).stddev / std::sqrt(static_cast<double>(means.size()));
}

Summary summarise(const Scores& scores) {
    Summary out;
    out.tokens = scores.size();
    if (out.tokens == 0) return out;
    double kl = 0, squares = 0, nll = 0;
    for (std::size_t i = 0; i < out.tokens; ++i) {
        out.not_finite += !std::isfinite(scores.kl[i]) || !std::isfinite(scores.nll[i]) || !std::isfinite(scores.change[i]);
        kl += scores.kl[i];
        squares += static_cast<double>(scores.change[i]) * scores.change[i];
        nll += scores.nll[i];
    }
    if (out.not_finite > 0) return out;
    const auto count = static_cast<double>(out.tokens);
    std::vector<float> sorted = scores.kl;
    std::sort(sorted.begin(), sorted.end());
    out.kl_mean = kl / count;
    out.kl_mean_error = error_of_mean(scores.kl);
    out.kl_median = quantile(sorted, 0.5);
    out.kl_99 = quantile(sorted, 0.99);
    out.kl_999 = quantile(sorted, 0.999);
    out.kl_max = sorted.back();
    out.top1 = static_cast<double>(std::count(scores.same.begin(), scores.same.end(), '1')) / count;
    out.rms_change = std::sqrt(squares / count);
    out.nll_mean = nll / count;
    return out;
}

}  // namespace turboquant::tool

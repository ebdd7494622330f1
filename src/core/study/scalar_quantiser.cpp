#include "core/study/scalar_quantiser.hpp"

#include <cmath>

namespace turboquant::study {

const char* name_of(ScaleRule rule) {
    switch (rule) {
        case ScaleRule::plain: return "plain";
        case ScaleRule::norm_matched: return "norm-matched";
        case ScaleRule::least_squares: return "least squares";
        case ScaleRule::unbiased: return "unbiased";
    }
    return "";
}

void choose(std::span<const double> y, std::span<const double> positive, std::span<const double> gains, Choice& best) {
    const std::size_t d = y.size();
    double norm2 = 0;
    for (double v : y) norm2 += v * v;
    const double units = std::sqrt(static_cast<double>(d) / norm2);
    double best_score = -1;
    std::vector<double> codeword(d);
    best.norm2 = norm2;
    for (const double gain : gains) {
        const double factor = gain * units;
        for (std::size_t j = 0; j < d; ++j) codeword[j] = positive[0];
        for (std::size_t k = 1; k < positive.size(); ++k) {  // level by level, so that the loop over coordinates has no branch
            const double threshold = 0.5 * (positive[k - 1] + positive[k]);
            const double level = positive[k];
            for (std::size_t j = 0; j < d; ++j) codeword[j] = std::abs(y[j]) * factor >= threshold ? level : codeword[j];
        }
        double dot = 0, power = 0;
        for (std::size_t j = 0; j < d; ++j) {
            dot += std::abs(y[j]) * codeword[j];
            power += codeword[j] * codeword[j];
        }
        if (const double score = dot * dot / power; score > best_score) {
            best_score = score;
            best.dot = dot;
            best.power = power;
            best.codeword.swap(codeword);
            codeword.resize(d);
        }
    }
    for (std::size_t j = 0; j < d; ++j) best.codeword[j] = std::copysign(best.codeword[j], y[j]);
}

double scale_of(ScaleRule rule, const Choice& choice) {
    switch (rule) {
        case ScaleRule::plain: return std::sqrt(choice.norm2 / static_cast<double>(choice.codeword.size()));
        case ScaleRule::norm_matched: return std::sqrt(choice.norm2 / choice.power);
        case ScaleRule::least_squares: return choice.dot / choice.power;
        case ScaleRule::unbiased: return choice.norm2 / choice.dot;
    }
    return 0;
}

double relative_error(ScaleRule rule, const Choice& choice) {
    const double s = scale_of(rule, choice);
    return (choice.norm2 - 2 * s * choice.dot + s * s * choice.power) / choice.norm2;
}

std::vector<double> gain_grid(int num, double first, double last) {
    if (num <= 1) return {1.0};
    std::vector<double> gains(static_cast<std::size_t>(num));
    for (int i = 0; i < num; ++i) gains[static_cast<std::size_t>(i)] = first + (last - first) * i / (num - 1);
    return gains;
}

}  // namespace turboquant::study

// KL divergence of attention weights: all bits in the codes against one bit in a sketch, at equal bits.
#include "validation/attention.hpp"

#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "core/codebook.hpp"
#include "core/reference.hpp"
#include "core/scheme.hpp"
#include "core/study/divergence.hpp"
#include "core/study/random.hpp"
#include "core/study/scalar_quantiser.hpp"
#include "core/study/theory.hpp"
#include "validation/product.hpp"

namespace turboquant::validation {
namespace {

constexpr int kDim = 128, kKeys = 2048, kQueries = 64;

// Decodes one key after another into the space where queries are; made anew for each set of keys, with a seed of its own.
class Decoder {
public:
    Decoder(KeyCode code, int bits, std::uint64_t seed) : code_(code) {
        Spec spec = product_spec(bits, Sketch::gaussian);
        spec.seed = seed;
        if (code == KeyCode::prod) {
            scheme_ = make_scheme(spec, Side::key);
        } else {
            coder_ = make_coder(spec, Side::key);
            positive_ = solve_lloyd_max(Density::beta, kDim, bits).positive;
        }
    }

    void operator()(const float* x, float* out) {
        if (code_ == KeyCode::prod) {
            std::vector<std::uint8_t> record(scheme_->record_bytes());
            scheme_->encode(x, record.data());
            scheme_->decode(record.data(), out);
        } else if (code_ == KeyCode::shipped) {
            std::uint8_t codes[kDim];
            std::uint16_t scale = 0;
            reference::encode(coder_, x, codes, &scale);
            reference::decode(coder_, codes, scale, out);
        } else {
            std::vector<float> turned(x, x + kDim);
            rotate_forward(*coder_.rotation, turned.data());
            study::choose(std::vector<double>(turned.begin(), turned.end()), positive_, std::vector<double>{1.0}, choice_);
            const double s = study::scale_of(ScaleRule::least_squares, choice_);
            for (int j = 0; j < kDim; ++j) out[j] = static_cast<float>(s * choice_.codeword[static_cast<std::size_t>(j)]);
            rotate_inverse(*coder_.rotation, out);
        }
    }

private:
    KeyCode code_;
    Coder coder_;
    std::unique_ptr<const RowScheme> scheme_;
    std::vector<double> positive_;
    study::Choice choice_;
};

double divergence_of_set(KeyCode code, int bits, std::uint64_t set) {
    Decoder decoder(code, bits, 0xa77 + set);
    std::vector<std::vector<double>> exact, coded;
    std::vector<double> normal(kDim);
    std::vector<float> decoded(kDim);
    for (int t = 0; t < kKeys; ++t) {
        study::fill_normal(0x4e7 + set, static_cast<std::uint64_t>(t), normal);
        const std::vector<float> key(normal.begin(), normal.end());
        decoder(key.data(), decoded.data());
        exact.emplace_back(key.begin(), key.end());
        coded.emplace_back(decoded.begin(), decoded.end());
    }
    std::vector<double> divergence, logits(kKeys), changed(kKeys);
    for (int i = 0; i < kQueries; ++i) {
        study::fill_normal(0x9e7 + set, static_cast<std::uint64_t>(i), normal);
        for (std::size_t t = 0; t < kKeys; ++t) {
            logits[t] = study::dot(normal, exact[t]) / std::sqrt(static_cast<double>(kDim));
            changed[t] = study::dot(normal, coded[t]) / std::sqrt(static_cast<double>(kDim));
        }
        divergence.push_back(study::softmax_divergence(logits, changed));
    }
    return sample_of(divergence).mean;
}

}  // namespace

Sample measure_divergence(const Options& options, KeyCode code, int bits) {
    const int sets = options.quick ? 4 : 12;
    std::vector<double> means(static_cast<std::size_t>(sets));
    parallel(options.threads, sets, [&](int set) {
        means[static_cast<std::size_t>(set)] = divergence_of_set(code, bits, static_cast<std::uint64_t>(set));
    });
    return sample_of(means);
}

Rows attention_rows(const Options& options) {
    Rows rows;
    // The error n of a logit is nearly Gaussian and independent of it but for the shrinking of least squares; then the divergence is half of n's
    // variance under the weights: D / 2 for least squares, (pi / 2 - 1 / d) D(b - 1) / 2 for prod, times the logits' variance, 1. What is left
    // out is of the next order: the divergence times itself.
    const std::string order = "the divergence's square (next order)";
    for (int bits = 2; bits <= 4; ++bits) {
        const double mse_theory = study::least_squares_distortion(kDim, solve_lloyd_max(Density::beta, kDim, bits)) / 2;
        const double prod_theory = residual_factor(Sketch::gaussian, kDim) * base_distortion(bits - 1, kDim) / 2;
        const Sample mse = measure_divergence(options, KeyCode::mse_least_squares, bits),
                     prod = measure_divergence(options, KeyCode::prod, bits);
        // Few sets: Student's distribution has wider tails than the normal one, twice as wide covers it for three degrees of freedom.
        const auto extra = [&](double theory, const Sample& s) { return theory * theory + kErrors * s.error + 0.01 * theory; };
        const std::string why = order + ", as many again for few sets, 1 % for finitely many keys";
        rows.push_back(row_of("attention", fmt::format("KL of weights, mse least squares, b={}", bits), std::nullopt, mse_theory,
                              mse, extra(mse_theory, mse), why));
        rows.push_back(row_of("attention", fmt::format("KL of weights, prod, b={}", bits), std::nullopt, prod_theory, prod,
                              extra(prod_theory, prod), why));
        rows.push_back({"attention", fmt::format("prod over mse, b={}", bits), std::nullopt, prod_theory / mse_theory,
                        prod.mean / mse.mean, rows[rows.size() - 1].low.value() / rows[rows.size() - 2].high.value(),
                        rows[rows.size() - 1].high.value() / rows[rows.size() - 2].low.value(), "from the two intervals above"});
    }
    return rows;
}

}  // namespace turboquant::validation

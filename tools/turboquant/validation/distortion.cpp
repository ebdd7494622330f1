// Estimator `mse` (Algorithm 1) on random unit vectors against Theorem 1 and the exact distortion of its codebooks, with each scale
// rule and with a gain search.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "core/codebook.hpp"
#include "core/rotation.hpp"
#include "core/study/random.hpp"
#include "core/study/scalar_quantiser.hpp"
#include "core/study/theory.hpp"
#include "validation/distortion.hpp"
#include "validation/samples.hpp"

namespace turboquant::validation {

namespace {

constexpr std::array kDims = {64, 128, 256};
constexpr std::array kPaperDistortion = {0.36, 0.117, 0.03, 0.009};  // below Theorem 1, b = 1 .. 4
constexpr double kTolerance = 0.005;                                 // what is asked of a full run at every dimension

// The four rules on the same codes of the same vectors: [rule][vector].
using RuleErrors = std::array<std::vector<double>, std::size(study::kScaleRules)>;

RuleErrors rule_errors(const Options& options, int dim, const std::vector<double>& positive, const std::vector<double>& gains,
                       int vectors, std::uint64_t seed) {
    RuleErrors errors;
    for (auto& e : errors) e.resize(static_cast<std::size_t>(vectors));
    constexpr int kBlock = 500;
    const auto rotation = rotation_tables(dim, Rotation::hadamard, seed, Side::key);
    parallel(options.threads, (vectors + kBlock - 1) / kBlock, [&](int block) {
        study::Choice choice;
        std::vector<double> y(static_cast<std::size_t>(dim));
        for (int i = block * kBlock; i < std::min(vectors, (block + 1) * kBlock); ++i) {
            rotated_unit_vector(*rotation, seed, static_cast<std::uint64_t>(i), y);
            study::choose(y, positive, gains, choice);
            for (std::size_t r = 0; r < errors.size(); ++r)
                errors[r][static_cast<std::size_t>(i)] = study::relative_error(study::kScaleRules[r], choice);
        }
    });
    return errors;
}

const std::vector<double>& of(const RuleErrors& errors, ScaleRule rule) { return errors[static_cast<std::size_t>(rule)]; }

void add_plain(Rows& rows, const Options& options, int dim, int bits, double paper, const LloydMax& book, const Sample& plain) {
    const std::string name = fmt::format("exact codebook, plain scale, d={} b={}", dim, bits);
    Row row = row_of("mse", name, paper, book.mse, plain);
    if (!options.quick && *row.high - book.mse > kTolerance * book.mse) {
        row.low = book.mse * (1 - kTolerance);
        row.high = book.mse * (1 + kTolerance);
        row.how = "theory ± 0.5 %";
    }
    rows.push_back(row);
    rows.push_back({"mse", fmt::format("Theorem 1, d={} b={}", dim, bits), study::theorem1_bound(bits), study::theorem1_bound(bits),
                    plain.mean, std::nullopt, study::theorem1_bound(bits), "at most the bound"});
    rows.push_back({"mse", fmt::format("Theorem 3, d={} b={}: distortion over its lower bound", dim, bits), std::nullopt,
                    std::nullopt, plain.mean / study::theorem3_bound(bits), 1.0, std::sqrt(3.0) * std::numbers::pi / 2,
                    "from the lower bound, 4^-b, to Theorem 1's distance from it, sqrt(3) pi / 2"});
}

void add_rules(Rows& rows, int dim, int bits, const LloydMax& book, const RuleErrors& errors) {
    const Sample least = sample_of(of(errors, ScaleRule::least_squares));
    const auto name = [&](ScaleRule rule) {
        return fmt::format("exact codebook, {} scale, d={} b={}", study::name_of(rule), dim, bits);
    };
    const double theory = study::least_squares_distortion(dim, book);
    const double order = (book.mse - theory) * 10 / dim;
    rows.push_back(
        row_of("mse", name(ScaleRule::least_squares), std::nullopt, theory, least, order, "10/d of the first-order gain"));
    const double variance = least.deviation * least.deviation;
    const auto derived = [&](ScaleRule rule, double value, double curvature) {
        rows.push_back(row_of("mse", name(rule), std::nullopt, value, sample_of(of(errors, rule)),
                              curvature * order + 0.1 * variance, "the same, + a tenth of the spread's square"));
    };
    const double rest = 1 - theory;
    derived(ScaleRule::norm_matched, study::norm_matched_distortion(theory, variance), 1 / std::sqrt(rest));
    derived(ScaleRule::unbiased, study::unbiased_distortion(theory, variance), 1 / (rest * rest));
}

// Theorem 1 is about the worst vector: a fixed one under many random rotations.
Row fixed_vector_row(const Options& options) {
    constexpr int kDim = 64, kBits = 3;
    const int rotations = options.quick ? 100 : 400;
    const LloydMax book = solve_lloyd_max(Density::beta, kDim, kBits);
    std::vector<double> errors(static_cast<std::size_t>(rotations));
    parallel(options.threads, rotations, [&](int i) {
        const auto rotation = rotation_tables(kDim, Rotation::haar, 0x1000 + static_cast<std::uint64_t>(i), Side::key);
        std::vector<float> x(kDim, 0.0f);
        x[5] = 1;
        rotate_forward(*rotation, x.data());
        study::Choice choice;
        const std::vector<double> y(x.begin(), x.end());
        study::choose(y, book.positive, std::vector<double>{1.0}, choice);
        errors[static_cast<std::size_t>(i)] = study::relative_error(ScaleRule::plain, choice);
    });
    return row_of("mse", "one coordinate alone, Haar rotations, d=64 b=3", kPaperDistortion[kBits - 1], book.mse,
                  sample_of(errors));
}

void add_searches(Rows& rows, const Options& options, int bits, double target, double plain) {
    constexpr int kDim = 128;
    const LloydMax book = solve_lloyd_max(Density::beta, kDim, bits);
    const RuleErrors errors = rule_errors(options, kDim, book.positive, study::gain_grid(41, 0.6, 1.4), options.quick ? 1500 : 8000,
                                          0x5ea0 + static_cast<unsigned>(bits));
    const Sample found = sample_of(of(errors, ScaleRule::least_squares));
    rows.push_back({"mse", fmt::format("41 gains, least squares scale, d=128 b={}", bits), std::nullopt, target, found.mean,
                    study::theorem3_bound(bits), target + kErrors * found.error,
                    fmt::format("at most the target + {:g} standard errors ({:+.1f} % of the plain scale's)", kErrors,
                                100 * (found.mean / plain - 1))});
}

}  // namespace

Sample measure_distortion(const Options& options, Density density, int dim, int bits) {
    const std::vector<double> positive = solve_lloyd_max(density, dim, bits).positive;
    return sample_of(of(rule_errors(options, dim, positive, {1.0}, 20000, 0xa0d + static_cast<unsigned>(bits)), ScaleRule::plain));
}

double mse_slope(const Options& options, int bits) {
    constexpr int kDim = 128;
    const std::vector<double> positive = solve_lloyd_max(Density::beta, kDim, bits).positive;
    const int vectors = options.quick ? 1500 : 20000;
    std::vector<double> slope(static_cast<std::size_t>(vectors));
    const auto rotation = rotation_tables(kDim, Rotation::hadamard, 0x510e, Side::key);
    parallel(options.threads, vectors, [&](int i) {
        study::Choice choice;
        std::vector<double> y(kDim);
        rotated_unit_vector(*rotation, 0x510e, static_cast<std::uint64_t>(i), y);
        study::choose(y, positive, std::vector<double>{1.0}, choice);
        slope[static_cast<std::size_t>(i)] = study::scale_of(ScaleRule::plain, choice) * choice.dot / choice.norm2;
    });
    return sample_of(slope).mean;
}

Rows distortion_rows(const Options& options) {
    Rows rows;
    for (const int dim : kDims) {
        for (int bits = 1; bits <= 4; ++bits) {
            const LloydMax book = solve_lloyd_max(Density::beta, dim, bits);
            // One vector's error spreads by 1.3 to 2.2 / sqrt(d) of itself: enough vectors for 0.5 % at four standard errors.
            const int vectors = (options.quick ? 1500 : 20000) * 128 / dim;
            const RuleErrors errors =
                rule_errors(options, dim, book.positive, {1.0}, vectors, 0xd15 + static_cast<unsigned>(dim * 8 + bits));
            add_plain(rows, options, dim, bits, kPaperDistortion[static_cast<std::size_t>(bits - 1)], book,
                      sample_of(of(errors, ScaleRule::plain)));
            add_rules(rows, dim, bits, book, errors);
        }
    }
    for (int bits = 1; bits <= 4; ++bits) {
        constexpr int kDim = 128;
        const LloydMax book = solve_lloyd_max(Density::gaussian, 0, bits);
        const RuleErrors errors =
            rule_errors(options, kDim, book.positive, {1.0}, options.quick ? 1500 : 20000, 0x6a0 + static_cast<unsigned>(bits));
        rows.push_back(row_of("mse", fmt::format("Gaussian codebook, plain scale, d=128 b={}", bits), std::nullopt,
                              study::codebook_distortion(Density::beta, kDim, book.positive),
                              sample_of(of(errors, ScaleRule::plain))));
    }
    constexpr double kTargets[] = {0.1141, 0.0316, 0.00783};  // b = 2, 3, 4: the best scalar code known here
    for (int bits = 2; bits <= 4; ++bits)
        add_searches(rows, options, bits, kTargets[bits - 2], solve_lloyd_max(Density::beta, 128, bits).mse);
    rows.push_back(fixed_vector_row(options));
    return rows;
}

}  // namespace turboquant::validation

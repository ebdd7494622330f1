// What is shipped (reference::encode: int8 codewords, gain search, trellis, binary16 scales) against the estimator that it is made from.
#include <cmath>

#include <fmt/format.h>

#include "core/codebook.hpp"
#include "core/half.hpp"
#include "core/reference.hpp"
#include "core/study/random.hpp"
#include "core/study/scalar_quantiser.hpp"
#include "core/study/theory.hpp"
#include "validation/row.hpp"

namespace turboquant::validation {
namespace {

constexpr int kDim = 128;

struct Errors {
    std::vector<double> stored;         // with the scale that is stored
    std::vector<double> least_squares;  // the same codes with their best scale
};

Errors errors_of(const Options& options, const Coder& coder, int vectors, std::uint64_t seed) {
    Errors errors;
    errors.stored.resize(static_cast<std::size_t>(vectors));
    errors.least_squares.resize(static_cast<std::size_t>(vectors));
    constexpr int kBlock = 100;
    parallel(options.threads, (vectors + kBlock - 1) / kBlock, [&](int block) {
        std::vector<double> unit(kDim), c(kDim);
        std::vector<float> y(kDim), decoded(kDim);
        std::vector<std::uint8_t> codes(kDim);
        std::vector<std::int8_t> codewords(kDim);
        for (int i = block * kBlock; i < std::min(vectors, (block + 1) * kBlock); ++i) {
            study::fill_unit_vector(seed, static_cast<std::uint64_t>(i), unit);
            std::vector<float> x(unit.begin(), unit.end());
            std::uint16_t scale = 0;
            reference::encode(coder, x.data(), codes.data(), &scale);
            reference::decode_rotated(coder, codes.data(), scale, decoded.data());
            reference::codewords(coder, codes.data(), codewords.data());
            rotate_forward(*coder.rotation, x.data());
            double norm2 = 0, error = 0, dot = 0, power = 0;
            for (int j = 0; j < kDim; ++j) {
                norm2 += static_cast<double>(x[j]) * x[j];
                error += (static_cast<double>(x[j]) - decoded[j]) * (static_cast<double>(x[j]) - decoded[j]);
                const double codeword = codewords[j];
                dot += x[j] * codeword;
                power += codeword * codeword;
            }
            errors.stored[static_cast<std::size_t>(i)] = error / norm2;
            errors.least_squares[static_cast<std::size_t>(i)] = 1 - dot * dot / (power * norm2);
        }
    });
    return errors;
}

}  // namespace

Rows shipped_rows(const Options& options) {
    Rows rows;
    // Codes that stand alone, with 41 gains and exact codewords at d = 128. Nine gains find a little less, int8 codewords lose a little
    // (codebook_tables.inc); a trellis must do far better.
    constexpr double kBest[] = {0.1141, 0.0316, 0.00783};
    const int vectors = options.quick ? 1000 : 8000;
    for (int bits = 2; bits <= 4; ++bits) {
        const double best = kBest[bits - 2], plain = solve_lloyd_max(Density::beta, kDim, bits).mse;
        const auto errors = [&](Side side, bool trellis) {
            Spec spec;
            spec.key_bits = spec.value_bits = bits;
            spec.trellis_codes = trellis;
            return errors_of(options, make_coder(spec, side), vectors, 0x5417 + static_cast<unsigned>(bits));
        };
        const auto against_plain = [&](const Sample& sample) { return fmt::format("{:+.1f} % of the plain scale's", 100 * (sample.mean / plain - 1)); };
        const Sample alone = sample_of(errors(Side::key, false).least_squares);
        rows.push_back({"shipped coder", fmt::format("codes that stand alone, nine gains, int8, least squares scale, b={}", bits), std::nullopt, best, alone.mean,
                        study::theorem3_bound(bits), best * 1.01 + kErrors * alone.error, "within 1 % of 41 gains with exact codewords; " + against_plain(alone)});
        for (const Side side : {Side::key, Side::value}) {
            const Errors shipped = errors(side, true);
            const Sample least = sample_of(shipped.least_squares), stored = sample_of(shipped.stored);
            const double variance = least.deviation * least.deviation;
            const bool key = side == Side::key;
            if (key) {
                rows.push_back({"shipped coder", fmt::format("trellis codes, five gains, int8, least squares scale, b={}", bits), std::nullopt, std::nullopt,
                                least.mean, study::theorem3_bound(bits), best, "between the bound and codes that stand alone; " + against_plain(least)});
            }
            // The stored scale costs what the angle says, whatever the codes are; binary16 adds half an ulp (2^-11) squared.
            const double theory =
                key ? study::norm_matched_distortion(least.mean, variance) : study::unbiased_distortion(least.mean, variance);
            const double rounding = 0x1p-22;
            rows.push_back(
                {"shipped coder",
                 fmt::format("{}, b={}: the stored scale ({})", key ? "keys" : "values", bits, key ? "norm-matched" : "unbiased"),
                 std::nullopt, theory, stored.mean, theory - rounding - 0.1 * variance, theory + rounding + 0.1 * variance,
                 "what the codes' angle makes of that rule, ± binary16's rounding and a tenth of the spread's square"});
        }
    }
    return rows;
}

}  // namespace turboquant::validation

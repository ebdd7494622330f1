// The estimate of logits' noise against measured errors, and the balance that lowers it.
#include "core/noise.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "core/scheme.hpp"
#include "support/vectors.hpp"

namespace turboquant {
namespace {

constexpr int kDim = 128;
constexpr int kVectors = 600;

// Keys and queries whose channels differ in size, in opposite ways, as after RoPE: key channel j has deviation 2^k_j.
struct Head {
    std::vector<float> keys, queries;
    ChannelPower power;

    explicit Head(double spread) : keys(testing::gaussian(kVectors * kDim, 1)), queries(testing::gaussian(kVectors * kDim, 2)) {
        power.key.resize(kDim);
        power.query.resize(kDim);
        for (int i = 0; i < kVectors * kDim; ++i) {
            const int j = i % kDim;
            keys[i] *= static_cast<float>(std::exp2(spread * std::sin(j)));
            queries[i] *= static_cast<float>(3 * std::exp2(spread * std::cos(2.3 * j)));
            power.key[j] += static_cast<double>(keys[i]) * keys[i] / kVectors;
            power.query[j] += static_cast<double>(queries[i]) * queries[i] / kVectors;
        }
    }
};

// Root mean square of scale * q . (decoded k - k).
double measured_noise(const Head& head, double scale, const std::vector<std::int8_t>& exponents, int bits) {
    Spec spec = testing::spec_of(kDim, bits);
    spec.gain_search = false;
    spec.trellis_codes = false;  // the estimate is that of plain codes
    const Coder coder = make_coder(spec, Side::key);
    double squares = 0;
    std::vector<float> key(kDim), decoded(kDim);
    for (int i = 0; i < kVectors; ++i) {
        for (int j = 0; j < kDim; ++j) key[j] = std::ldexp(head.keys[i * kDim + j], exponents[j]);
        const testing::Encoded e = testing::encode(coder, key.data());
        reference::decode(coder, e.codes.data(), e.scale, decoded.data());
        double error = 0;
        for (int j = 0; j < kDim; ++j)
            error += std::ldexp(head.queries[i * kDim + j], -exponents[j]) * static_cast<double>(decoded[j] - key[j]);
        squares += scale * error * scale * error / kVectors;
    }
    return std::sqrt(squares);
}

const std::vector<std::int8_t> kNone(kDim, 0);

TEST(Noise, EstimateIsThatOfRealCodes) {
    // 600 errors: 3 % deviation; correlations between a key's size and its error, and the kept scale, do the rest.
    const Head head(1.5);
    const std::vector<std::int8_t> balance = balance_exponents(head.power);
    for (int bits : supported_bits()) {
        EXPECT_NEAR(measured_noise(head, 0.1, kNone, bits) / logit_noise(0.1, head.power, kNone, bits), 1, 0.15) << bits;
        EXPECT_NEAR(measured_noise(head, 0.1, balance, bits) / logit_noise(0.1, head.power, balance, bits), 1, 0.15) << bits;
    }
}

// Root mean square of q . decoded - q . k, the keys coded by a scheme.
double measured_noise(const Head& head, const RowScheme& scheme) {
    double squares = 0;
    std::vector<float> prepared(scheme.prepared_numbers());
    std::vector<std::uint8_t> record(scheme.record_bytes());
    for (int i = 0; i < kVectors; ++i) {
        const float *key = &head.keys[i * kDim], *query = &head.queries[i * kDim];
        double error = 0;
        for (int j = 0; j < kDim; ++j) error -= static_cast<double>(query[j]) * key[j];
        scheme.encode(key, record.data());
        scheme.prepare(query, prepared.data());
        float score = 0;
        scheme.scores(prepared.data(), 1, record.data(), &score);
        error += score;
        squares += error * error / kVectors;
    }
    return std::sqrt(squares);
}

TEST(Noise, EstimateIsThatOfTheSchemesAsWell) {
    const Head head(1.0);
    Spec spec = testing::spec_of(kDim, 3);
    spec.centred_keys = spec.balanced_keys = spec.wide_keys = spec.gain_search = false;
    spec.kept_keys = 0;
    EXPECT_EQ(key_noise(spec, {}, 0.1, head.power, kNone), logit_noise(0.1, head.power, kNone, 3));
    for (int bits : {2, 3, 4}) {
        Spec prod = spec, split = spec;
        prod.key_bits = split.key_bits = bits;
        prod.key_estimator = Estimator::prod;
        EXPECT_NEAR(measured_noise(head, *make_scheme(prod, Side::key)) / key_noise(prod, {}, 1, head.power, kNone), 1, 0.2) << bits;
        split.outlier_split = true;
        const std::vector<std::uint16_t> outliers = outlier_channels(head.power.key);
        EXPECT_NEAR(measured_noise(head, *make_scheme(split, Side::key, outliers)) / key_noise(split, outliers, 1, head.power, kNone), 1, 0.2) << bits;
        EXPECT_LT(key_noise(split, outliers, 1, head.power, kNone), logit_noise(1, head.power, kNone, bits)) << "loud channels have more bits";
    }
}

TEST(Noise, FallsWithBitsAndGrowsWithTheScale) {
    const Head head(1);
    for (std::size_t i = 1; i < supported_bits().size(); ++i) {
        EXPECT_LT(relative_distortion(supported_bits()[i]), relative_distortion(supported_bits()[i - 1]));
    }
    EXPECT_DOUBLE_EQ(logit_noise(2, head.power, kNone, 4), 2 * logit_noise(1, head.power, kNone, 4));
}

TEST(Balance, IsNearlyTheBestThereIs) {
    // The unrounded optimum is sum sqrt(k q) (Cauchy-Schwarz); rounding log2 w to integers costs at most a factor 1.25 of the noise:
    // each channel is off by 2^(+-1/2), and (2 + 1/2) / 2 is the worst mixture.
    for (double spread : {0.0, 0.3, 1.0, 2.5}) {
        const Head head(spread);
        double best = 0;
        for (int j = 0; j < kDim; ++j) best += std::sqrt(head.power.key[j] * head.power.query[j]);
        best *= std::sqrt(relative_distortion(4) / kDim);
        const double balanced = logit_noise(1, head.power, balance_exponents(head.power), 4);
        EXPECT_GE(balanced, best * (1 - 1e-9)) << spread;
        EXPECT_LE(balanced, 1.25 * best) << spread;
        EXPECT_LE(balanced, logit_noise(1, head.power, kNone, 4) * (1 + 1e-9)) << spread;
    }
}

TEST(Balance, PaysOffOnUnevenChannels) {
    const Head head(2.5);
    EXPECT_LT(measured_noise(head, 1, balance_exponents(head.power), 4), 0.6 * measured_noise(head, 1, kNone, 4));
}

TEST(Balance, LeavesEvenChannelsAlone) { EXPECT_EQ(balance_exponents(Head(0).power), kNone); }

TEST(Balance, IgnoresHowLargeKeysAndQueriesAre) {
    Head head(2);
    const std::vector<std::int8_t> balance = balance_exponents(head.power);
    for (double& p : head.power.key) p *= 1e6;
    for (double& p : head.power.query) p *= 1e-3;
    EXPECT_EQ(balance_exponents(head.power), balance);
}

TEST(Balance, StaysInRangeWhateverItIsGiven) {
    const auto in_range = [](ChannelPower power) {
        const std::vector<std::int8_t> exponents = balance_exponents(power);
        EXPECT_EQ(exponents.size(), power.key.size());
        for (int e : exponents) EXPECT_LE(std::abs(e), 8);
        return exponents;
    };
    const std::vector<double> ones(64, 1.0), zeros(64, 0.0), nans(64, NAN), infinities(64, INFINITY);
    std::vector<double> one_huge = ones, one_zero = ones;
    one_huge[3] = 1e30;
    one_zero[3] = 0;
    EXPECT_EQ(in_range({zeros, zeros}), std::vector<std::int8_t>(64, 0));
    EXPECT_EQ(in_range({nans, ones}), std::vector<std::int8_t>(64, 0));
    EXPECT_EQ(in_range({ones, infinities}), std::vector<std::int8_t>(64, 0));
    EXPECT_LT(in_range({one_huge, ones})[3], 0);  // precision goes to where the queries look
    EXPECT_GT(in_range({ones, one_huge})[3], 0);
    EXPECT_GE(in_range({one_zero, ones})[3], 0);
}

}  // namespace
}  // namespace turboquant

// The schemes of core/scheme.hpp: what they promise of any record, and what the paper says of each.
#include "core/scheme.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <string>

#include "core/schemes/mse_code.hpp"
#include "core/schemes/schemes.hpp"
#include "support/vectors.hpp"

namespace turboquant {
namespace {

using testing::gaussian;

Spec paper(int head_dim, int key_bits, int value_bits) {
    Spec spec;
    spec.head_dim = head_dim;
    spec.key_bits = key_bits;
    spec.value_bits = value_bits;
    spec.centred_keys = spec.balanced_keys = spec.gain_search = spec.wide_keys = false;
    spec.kept_keys = spec.sink_tokens = 0;
    return spec;
}

Spec prod_spec(int head_dim, int bits, Sketch sketch = Sketch::gaussian, Rotation rotation = Rotation::hadamard) {
    Spec spec = paper(head_dim, bits, 4);
    spec.key_estimator = Estimator::prod;
    spec.sketch = sketch;
    spec.rotation = rotation;
    return spec;
}

Spec group_spec(int head_dim, int bits) {
    Spec spec = paper(head_dim, 4, bits);
    spec.value_scheme = ValueScheme::group;
    return spec;
}

Spec split_spec(int head_dim, int bits) {
    Spec spec = paper(head_dim, bits, bits);
    spec.outlier_split = true;
    return spec;
}

// Every scheme in every width, at one head size.
struct Named {
    std::string name;
    std::unique_ptr<const RowScheme> scheme;
};

std::vector<Named> all_schemes(int head_dim) {
    std::vector<Named> all;
    const auto add = [&](const std::string& name, const Spec& spec, Side side, std::span<const std::uint16_t> outliers = {}) {
        EXPECT_TRUE(validate(spec).ok()) << name << ": " << validate(spec).message();
        EXPECT_TRUE(uses_records(spec, side));
        all.push_back({name + " at " + std::to_string(head_dim), make_scheme(spec, side, outliers)});
        EXPECT_EQ(sealed_tile_bytes(spec, side), 64 * all.back().scheme->record_bytes());
    };
    for (const int bits : {2, 3, 4}) {
        add("prod " + std::to_string(bits), prod_spec(head_dim, bits), Side::key);
        add("orthogonal prod " + std::to_string(bits), prod_spec(head_dim, bits, Sketch::orthogonal), Side::key);
    }
    for (const int bits : {2, 4}) add("group " + std::to_string(bits), group_spec(head_dim, bits), Side::value);
    std::vector<double> power(head_dim);
    for (int j = 0; j < head_dim; ++j) power[j] = j * 29 % head_dim;
    const std::vector<std::uint16_t> outliers = outlier_channels(power);
    for (const int bits : {2, 3, 4, 5}) {
        for (const Side side : {Side::key, Side::value})
            add("split " + std::to_string(bits), split_spec(head_dim, bits), side, outliers);
    }
    return all;
}

double dot(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (std::size_t j = 0; j < a.size(); ++j) sum += static_cast<double>(a[j]) * b[j];
    return sum;
}

std::vector<std::uint8_t> record_of(const RowScheme& scheme, const std::vector<float>& x) {
    std::vector<std::uint8_t> record(scheme.record_bytes(), 0xcc);
    scheme.encode(x.data(), record.data());
    return record;
}

std::vector<float> decoded(const RowScheme& scheme, const std::vector<std::uint8_t>& record) {
    std::vector<float> x(scheme.head_dim());
    scheme.decode(record.data(), x.data());
    return x;
}

class EveryHeadDim : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Scheme, EveryHeadDim, ::testing::ValuesIn(supported_head_dims().begin(), supported_head_dims().end()));

TEST_P(EveryHeadDim, ScoresAndSumsAreThoseOfTheDecodedVectors) {
    const int d = GetParam();
    for (const auto& [name, scheme] : all_schemes(d)) {
        const int queries = 3, tokens = 5;
        const std::vector<float> weights = gaussian(queries * tokens, 5, 0.5f);
        std::vector<float> prepared(queries * scheme->prepared_numbers()), sums(queries * scheme->sum_numbers(), 0.0f);
        std::vector<std::vector<float>> query, expected(queries, std::vector<float>(d, 0.0f));
        for (int r = 0; r < queries; ++r) {
            query.push_back(gaussian(d, 70 + r));
            scheme->prepare(query[r].data(), &prepared[r * scheme->prepared_numbers()]);
        }
        for (int t = 0; t < tokens; ++t) {
            const auto record = record_of(*scheme, gaussian(d, 90 + t, 0.3f));
            const std::vector<float> x = decoded(*scheme, record);
            std::vector<float> scores(queries);
            scheme->scores(prepared.data(), queries, record.data(), scores.data());
            // Sums of up to d products, and two rotations, or a product with a Gaussian matrix of norm up to 2 sqrt(d).
            const double tolerance = 4 * (d + 64) * 0x1p-24 * std::sqrt(dot(x, x) * d) * 2;
            for (int r = 0; r < queries; ++r) EXPECT_NEAR(scores[r], dot(query[r], x), tolerance) << name;
            scheme->accumulate(&weights[t * queries], queries, record.data(), sums.data());
            for (int r = 0; r < queries; ++r) {
                for (int j = 0; j < d; ++j) expected[r][j] += weights[t * queries + r] * x[j];
            }
        }
        for (int r = 0; r < queries; ++r) {
            std::vector<float> out(d);
            scheme->finish(&sums[r * scheme->sum_numbers()], out.data());
            for (int j = 0; j < d; ++j) EXPECT_NEAR(out[j], expected[r][j], 2e-4) << name;
        }
    }
}

TEST_P(EveryHeadDim, ZeroStaysZeroAndZeroBytesAreTheZeroVector) {
    for (const auto& [name, scheme] : all_schemes(GetParam())) {
        const std::vector<float> zero(GetParam(), 0.0f);
        EXPECT_EQ(decoded(*scheme, record_of(*scheme, zero)), zero) << name;
        EXPECT_EQ(decoded(*scheme, std::vector<std::uint8_t>(scheme->record_bytes(), 0)), zero) << name;
    }
}

TEST_P(EveryHeadDim, WhatIsNotFiniteScoresAsNaNAndAWeightOfZeroHidesIt) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), INFINITY, -INFINITY}) {
        for (const auto& [name, scheme] : all_schemes(GetParam())) {
            std::vector<float> x = gaussian(GetParam(), 3);
            x[GetParam() / 3] = bad;
            const auto record = record_of(*scheme, x);
            EXPECT_TRUE(std::isnan(decoded(*scheme, record)[GetParam() / 3])) << name;
            std::vector<float> prepared(scheme->prepared_numbers()), sum(scheme->sum_numbers(), 1.0f);
            scheme->prepare(gaussian(GetParam(), 4).data(), prepared.data());
            float score = 0;
            scheme->scores(prepared.data(), 1, record.data(), &score);
            EXPECT_TRUE(std::isnan(score)) << name;
            const float nothing = 0;
            scheme->accumulate(&nothing, 1, record.data(), sum.data());
            EXPECT_EQ(sum, std::vector<float>(scheme->sum_numbers(), 1.0f)) << name;
        }
    }
}

TEST_P(EveryHeadDim, HugeAndTinyVectorsStayFinite) {
    for (const float factor : {1e-7f, 1e-3f, 2e4f}) {
        for (const auto& [name, scheme] : all_schemes(GetParam())) {
            std::vector<float> x = gaussian(GetParam(), 8);
            for (float& v : x) v *= factor;
            for (const float v : decoded(*scheme, record_of(*scheme, x)))
                EXPECT_TRUE(std::isfinite(v)) << name << " times " << factor;
        }
    }
}

// --- prod ---

struct Moments2 {
    double mean = 0, variance = 0;
};

// Error of q . x over the randomness of the scheme: num seeds, x and q fixed unit vectors.
Moments2 error_over_seeds(Spec spec, int num) {
    std::vector<float> x = gaussian(spec.head_dim, 11), q = gaussian(spec.head_dim, 12);
    const double nx = std::sqrt(dot(x, x)), nq = std::sqrt(dot(q, q));
    for (int j = 0; j < spec.head_dim; ++j) {
        x[j] = static_cast<float>(x[j] / nx);
        q[j] = static_cast<float>(0.6 * q[j] / nq + 0.8 * x[j]);  // a product far from zero: a factor that is wrong shows
    }
    double sum = 0, squares = 0;
    for (int i = 0; i < num; ++i) {
        spec.seed = 1000 + i;
        const auto scheme = make_scheme(spec, Side::key);
        const double error = dot(q, decoded(*scheme, record_of(*scheme, x))) - dot(q, x);
        sum += error;
        squares += error * error;
    }
    return {sum / num, squares / num - sum / num * (sum / num)};
}

// The mean of n independent errors deviates by sqrt(variance / n); 4.5 of these happen once in 150,000 times, and the seeds are fixed.
void expect_unbiased(const Spec& spec, int num) {
    const Moments2 m = error_over_seeds(spec, num);
    EXPECT_LT(std::abs(m.mean), 4.5 * std::sqrt(m.variance / num));
    // Theorem 2, with |q|^2 at most 0.6^2 + 0.8^2 + 2 * 0.48 * (x . q of the two, about 0.1).
    const double bound = std::sqrt(3.0) * std::numbers::pi * std::numbers::pi / spec.head_dim * std::pow(4.0, -spec.key_bits);
    EXPECT_LT(m.variance, 1.1 * bound);
    EXPECT_GT(m.variance, 0.02 * bound);
}

TEST(Prod, ProductsAreUnbiasedAndWithinTheoremTwo) {
    for (const int bits : {2, 3, 4}) {
        SCOPED_TRACE(bits);
        expect_unbiased(prod_spec(64, bits), 1500);
    }
}

TEST(Prod, AnOrthogonalSketchIsUnbiasedToo) {
    for (const int bits : {2, 3}) {
        SCOPED_TRACE(bits);
        expect_unbiased(prod_spec(64, bits, Sketch::orthogonal, Rotation::haar), 600);
    }
}

TEST(Prod, AnOrthogonalSketchHasLessVariance) {
    EXPECT_LT(error_over_seeds(prod_spec(64, 3, Sketch::orthogonal), 800).variance,
              0.8 * error_over_seeds(prod_spec(64, 3), 800).variance);
}

TEST(Prod, TheFactorsAreThoseOfTheirMatrices) {
    // E |u_1| of a unit vector: 2 / pi on the circle, 1 / 2 on the sphere; the limit is sqrt(2 / (pi d)).
    EXPECT_NEAR(sketch_factor(Sketch::orthogonal, 2), 1 / (2 * std::sqrt(2.0) * (2 / std::numbers::pi)), 1e-12);
    EXPECT_NEAR(sketch_factor(Sketch::orthogonal, 3), 1 / (3 * std::sqrt(3.0) * 0.5), 1e-12);
    EXPECT_NEAR(sketch_factor(Sketch::gaussian, 100), std::sqrt(std::numbers::pi / 2) / 100, 1e-12);
    EXPECT_NEAR(sketch_factor(Sketch::orthogonal, 4096) / sketch_factor(Sketch::gaussian, 4096), 1, 1e-4);
    EXPECT_LT(sketch_factor(Sketch::orthogonal, 64), 0.997 * sketch_factor(Sketch::gaussian, 64));
}

TEST(Prod, ARecordHasTheBitsThatItClaims) {
    EXPECT_EQ(make_scheme(prod_spec(128, 3), Side::key)->record_bytes(), 128u * 3 / 8 + 4);
    EXPECT_EQ(make_scheme(prod_spec(80, 2), Side::key)->record_bytes(), 80u * 2 / 8 + 4);
}

TEST(MseCodes, OneBitIsTheSignTimesRootTwoOverPi) {
    const MseCode code(rotation_tables(64, Rotation::hadamard, 1, Side::key), unit_levels(1));
    const std::vector<float> y = gaussian(64, 2);
    std::vector<std::uint8_t> packed(code.packed_bytes());
    std::uint16_t factor;
    code.encode_rotated(y.data(), packed.data(), &factor);
    std::vector<float> level(64);
    code.unpack(packed.data(), level.data());
    for (int j = 0; j < 64; ++j) EXPECT_FLOAT_EQ(level[j], std::copysign(std::sqrt(2 / std::numbers::pi_v<float>), y[j]));
    EXPECT_NEAR(half_to_float(factor), std::sqrt(dot(y, y)), 1e-3 * std::sqrt(dot(y, y)));
}

// D_mse of the paper's table: .3634, .1175, .03454, .009497 for Gaussian coordinates; unit vectors of 128 lie a little below.
TEST(MseCodes, DistortionIsThePapers) {
    const double expected[] = {.3609, .1160, .0340, .00932};
    for (int bits = 1; bits <= 4; ++bits) {
        const MseCode code(rotation_tables(128, Rotation::hadamard, 7, Side::key), unit_levels(bits));
        testing::RelativeError error;
        std::vector<std::uint8_t> packed(code.packed_bytes());
        std::vector<float> level(128);
        for (int i = 0; i < 1500; ++i) {
            const std::vector<float> y = gaussian(128, 500 + i);
            std::uint16_t factor;
            code.encode_rotated(y.data(), packed.data(), &factor);
            code.unpack(packed.data(), level.data());
            for (float& v : level) v *= code.unit(factor);
            error.add(y.data(), level.data(), 128);
        }
        EXPECT_NEAR(error.value() / expected[bits - 1], 1, 0.015) << bits << " bits";
    }
}

TEST(MseCodes, EachScaleRuleKeepsItsPromise) {
    const std::vector<float> y = gaussian(128, 21);
    const auto decode_by = [&](ScaleRule rule) {
        const MseCode code(rotation_tables(128, Rotation::hadamard, 7, Side::key), unit_levels(3), rule);
        std::vector<std::uint8_t> packed(code.packed_bytes());
        std::vector<float> out(128);
        std::uint16_t factor;
        code.encode_rotated(y.data(), packed.data(), &factor);
        code.unpack(packed.data(), out.data());
        for (float& v : out) v *= code.unit(factor);
        return out;
    };
    const double n2 = dot(y, y), rounding = 1e-3 * n2;  // factors are binary16
    const std::vector<float> matched = decode_by(ScaleRule::norm_matched), nearest = decode_by(ScaleRule::least_squares);
    EXPECT_NEAR(dot(matched, matched), n2, 2 * rounding);
    EXPECT_NEAR(dot(decode_by(ScaleRule::unbiased), y), n2, rounding);
    EXPECT_NEAR(dot(nearest, nearest), dot(nearest, y), 2 * rounding);
}

// --- group ---

TEST(Group, TheExtremesOfAGroupAreExactAndTheRestWithinHalfAStep) {
    for (const int bits : {2, 4}) {
        for (const int d : supported_head_dims()) {
            const auto scheme = make_scheme(group_spec(d, bits), Side::value);
            std::vector<float> x = gaussian(d, 31 + d, 0.5f);
            for (float& v : x) v = half_to_float(float_to_half(v));
            const std::vector<float> y = decoded(*scheme, record_of(*scheme, x));
            for (int begin = 0; begin < d; begin += kGroupNumbers) {
                const int end = std::min(d, begin + kGroupNumbers);
                const auto [low, high] = std::minmax_element(x.begin() + begin, x.begin() + end);
                const float range = *high - *low;
                EXPECT_EQ(y[low - x.begin()], *low);
                EXPECT_NEAR(y[high - x.begin()], *high, range * 0x1p-11f + 1e-6f);  // the rounding of the scale
                for (int j = begin; j < end; ++j) EXPECT_NEAR(y[j], x[j], range / static_cast<float>((1 << bits) - 1) * 0.501f);
            }
        }
    }
}

TEST(Group, AConstantGroupIsExactAndAShortOneHasItsOwnScale) {
    const auto scheme = make_scheme(group_spec(80, 2), Side::value);
    EXPECT_EQ(scheme->record_bytes(), 80u * 2 / 8 + 3 * 4);
    std::vector<float> x(80, 1.5f);
    for (int j = 64; j < 80; ++j) x[j] = j % 2 ? 100.0f : -200.0f;
    EXPECT_EQ(decoded(*scheme, record_of(*scheme, x)), x);
}

TEST(Group, ABadNumberSpoilsItsGroupOnly) {
    const auto scheme = make_scheme(group_spec(128, 4), Side::value);
    std::vector<float> x = gaussian(128, 1);
    x[40] = INFINITY;
    const std::vector<float> y = decoded(*scheme, record_of(*scheme, x));
    for (int j = 0; j < 128; ++j) EXPECT_EQ(std::isnan(y[j]), j / 32 == 1) << j;
}

// --- split ---

TEST(Split, TheLoudestQuarterIsChosenAndEqualOnesInOrder) {
    std::vector<double> power(64, 1.0);
    for (const int j : {63, 5, 17}) power[j] = 10;
    const std::vector<std::uint16_t> chosen = outlier_channels(power);
    EXPECT_EQ(chosen, (std::vector<std::uint16_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 17, 63}));
}

TEST(Split, EveryChannelIsInExactlyOnePart) {
    for (const int d : supported_head_dims()) {
        std::vector<double> power(d);
        for (int j = 0; j < d; ++j) power[j] = j * 37 % d;
        const auto scheme = make_scheme(split_spec(d, 5), Side::key, outlier_channels(power));
        for (int j = 0; j < d; ++j) {  // a vector with one number is found again, with that number largest
            std::vector<float> x(d, 0.0f);
            x[j] = 2;
            const std::vector<float> y = decoded(*scheme, record_of(*scheme, x));
            EXPECT_EQ(std::max_element(y.begin(), y.end()) - y.begin(), j);
            EXPECT_NEAR(y[j], 2, 0.6);
        }
    }
}

TEST(Split, LoudChannelsApartAreBetterThanTogether) {
    const int d = 128;
    std::vector<double> power(d, 1.0);
    for (int j = 0; j < num_outliers(d); ++j) power[j * 4] = 100;
    const auto error_of = [&](const RowScheme& scheme) {
        testing::RelativeError quiet;
        for (int i = 0; i < 200; ++i) {
            std::vector<float> x = gaussian(d, 900 + i);
            for (int j = 0; j < d; ++j) x[j] *= static_cast<float>(std::sqrt(power[j]));
            const std::vector<float> y = decoded(scheme, record_of(scheme, x));
            for (int j = 1; j < d; j += 4) quiet.add(&x[j], &y[j], 3);
        }
        return quiet.value();
    };
    std::vector<std::uint16_t> none(num_outliers(d));
    for (int j = 0; j < num_outliers(d); ++j) none[j] = static_cast<std::uint16_t>(4 * j + 1);
    const Spec spec = split_spec(d, 2);
    EXPECT_LT(5 * error_of(*make_scheme(spec, Side::key, outlier_channels(power))), error_of(*make_scheme(spec, Side::key, none)));
}

TEST(Split, AtHeadDim128TheTwoWidthsReallyTakeTheirBits) {
    EXPECT_DOUBLE_EQ(code_bits(split_spec(128, 2)).mean, 2.5);
    EXPECT_DOUBLE_EQ(code_bits(split_spec(128, 3)).mean, 3.5);
}

}  // namespace
}  // namespace turboquant

// reference::attend against sums written out by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "support/vectors.hpp"

namespace turboquant {
namespace {

using reference::attend;
using reference::AttendOptions;

// Two dims, three cells; scores with scale 0.5 are 1, 2 and 0.
const std::vector<float> kQuery = {1, 2};
const std::vector<float> kKeys = {2, 0, 0, 2, 2, -1};
const std::vector<float> kValues = {1, 10, 2, 20, 4, 40};

std::vector<float> attend_to(const float* mask, AttendOptions options) {
    options.scale = 0.5f;
    std::vector<float> out(2, NAN);
    attend(kQuery, kKeys.data(), kValues.data(), mask, 3, 2, options, out.data());
    return out;
}

std::vector<float> weighted(double a, double b, double c, double extra = 0) {
    const double total = a + b + c + extra;
    const auto mean = static_cast<float>((a + 2 * b + 4 * c) / total);
    return {mean, 10 * mean};
}

void expect_near(const std::vector<float>& found, const std::vector<float>& expected) {
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t j = 0; j < found.size(); ++j) EXPECT_NEAR(found[j], expected[j], 1e-5 * std::abs(expected[j]));
}

TEST(Attend, IsTheSoftmaxOfTheScores) { expect_near(attend_to(nullptr, {}), weighted(std::exp(1), std::exp(2), std::exp(0))); }

TEST(Attend, AddsTheMaskAsItIsByDefault) {
    const float mask[] = {0.5f, -1, 2};
    expect_near(attend_to(mask, {}), weighted(std::exp(1.5), std::exp(1), std::exp(2)));
}

TEST(Attend, TimesTheSlopeWithAlibi) {
    const float mask[] = {-2, -1, 0};
    AttendOptions options;
    options.slope = 0.25f;
    expect_near(attend_to(mask, options), weighted(std::exp(0.5), std::exp(1.75), std::exp(0)));
}

TEST(Attend, CapsTheScoresBeforeTheMask) {
    const float mask[] = {0, 1, 0};
    AttendOptions options;
    options.softcap = 1.5f;
    const auto cap = [](double s) { return 1.5 * std::tanh(s / 1.5); };
    expect_near(attend_to(mask, options), weighted(std::exp(cap(1)), std::exp(cap(2) + 1), std::exp(cap(0))));
}

TEST(Attend, GivesASinkWeightButNoValue) {
    AttendOptions options;
    for (float sink : {-5.0f, 1.0f, 30.0f}) {
        options.sink = &sink;
        expect_near(attend_to(nullptr, options), weighted(std::exp(1), std::exp(2), std::exp(0), std::exp(sink)));
    }
}

TEST(Attend, IgnoresMaskedCellsWhateverTheyHold) {
    const float mask[] = {0, -INFINITY, 0};
    expect_near(attend_to(mask, {}), weighted(std::exp(1), 0, std::exp(0)));
    std::vector<float> values = kValues, out(2);
    values[2] = NAN;
    attend(kQuery, kKeys.data(), values.data(), mask, 3, 2, {}, out.data());
    EXPECT_FALSE(std::isnan(out[0]));
}

TEST(Attend, IsZeroWhenEverythingIsMasked) {
    const float mask[] = {-INFINITY, -INFINITY, -INFINITY};
    AttendOptions options;
    EXPECT_EQ(attend_to(mask, options), (std::vector<float>{0, 0}));
    const float sink = 0.5f, no_sink = -INFINITY;
    options.sink = &sink;
    EXPECT_EQ(attend_to(mask, options), (std::vector<float>{0, 0}));
    options.sink = &no_sink;
    EXPECT_EQ(attend_to(mask, options), (std::vector<float>{0, 0}));
}

TEST(Attend, ToNothingIsZero) {
    std::vector<float> out(2, NAN);
    attend(kQuery, nullptr, nullptr, nullptr, 0, 2, {}, out.data());
    EXPECT_EQ(out, (std::vector<float>{0, 0}));
}

TEST(Attend, LargeScoresDoNotOverflow) {
    const std::vector<float> query = {1000, 0}, keys = {1000, 0, 999, 0}, values = {1, 2};
    float out = 0;
    attend(query, keys.data(), values.data(), nullptr, 2, 1, {}, &out);
    EXPECT_EQ(out, 1.0f);
}

TEST(Attend, OfAConstantReferenceIsAShiftOfTheScores) {
    // What centred keys rely on: q . (k + m) = q . k + q . m, and the softmax does not see a common shift.
    const int n = 40, d = 64;
    const std::vector<float> query = testing::gaussian(d, 1), keys = testing::gaussian(n * d, 2),
                             values = testing::gaussian(n * d, 3);
    const std::vector<float> mean = testing::gaussian(d, 4);
    std::vector<float> shifted = keys, one(d), other(d);
    for (int i = 0; i < n * d; ++i) shifted[i] += mean[i % d];
    AttendOptions options;
    options.scale = 0.125f;
    attend(query, keys.data(), values.data(), nullptr, n, d, options, one.data());
    attend(query, shifted.data(), values.data(), nullptr, n, d, options, other.data());
    for (int j = 0; j < d; ++j) EXPECT_NEAR(one[j], other[j], 1e-5);
}

}  // namespace
}  // namespace turboquant

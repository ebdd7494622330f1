// How far two distributions are apart, and the figures over many tokens.
#include "divergence.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace turboquant::tool {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TokenScore score(const std::vector<float>& base, const std::vector<float>& other, std::size_t next) {
    return TokenScore::of(Distribution(base), base, other, next);
}

std::vector<float> logs(std::vector<float> probabilities) {
    for (float& p : probabilities) p = std::log(p);
    return probabilities;
}

TEST(Divergence, EqualsTheSumWrittenOut) {
    // KL = .5 ln(.5/.25) + .25 ln(.25/.25) + .25 ln(.25/.5) = .25 ln 2; a constant on top of all logits changes nothing.
    std::vector<float> other = logs({0.25f, 0.25f, 0.5f});
    for (float& logit : other) logit += 100;
    const TokenScore found = score(logs({0.5f, 0.25f, 0.25f}), other, 0);
    EXPECT_NEAR(found.kl, 0.25 * std::log(2.0), 1e-6);
    EXPECT_NEAR(found.change, -0.25, 1e-6);
    EXPECT_NEAR(found.nll, std::log(4.0), 1e-6);
    EXPECT_FALSE(found.same);
}

TEST(Divergence, IsExactlyZeroForEqualLogits) {
    const std::vector<float> logits = {3.7f, -12.25f, 0.001f, 3.6999f, 18.5f};
    const TokenScore found = score(logits, logits, 4);
    EXPECT_EQ(found.kl, 0.0f);
    EXPECT_EQ(found.change, 0.0f);
    EXPECT_TRUE(found.same);
}

TEST(Divergence, KeepsSmallDifferencesOfALargeVocabulary) {
    // All logits of the other move by e and -e in turn: KL = log(cosh(e)), about e * e / 2.
    std::vector<float> base(100000, 8.0f), other = base;
    for (std::size_t i = 0; i < other.size(); ++i) other[i] += i % 2 ? 0.0078125f : -0.0078125f;
    EXPECT_NEAR(score(base, other, 0).kl, std::log(std::cosh(0.0078125)), 5e-8);
}

TEST(Divergence, ExcludedTokensAreNoErrorAndMissingOnesAre) {
    const std::vector<float> base = {1, 0, -kInf};
    EXPECT_TRUE(std::isfinite(score(base, {1, 0, 0}, 0).kl));
    EXPECT_EQ(score(base, {1, -kInf, 0}, 0).kl, kInf);
    EXPECT_TRUE(std::isnan(score(base, {1, kNan, 0}, 0).kl));
    EXPECT_TRUE(std::isnan(score(base, {1, kInf, 0}, 0).kl));
    EXPECT_TRUE(std::isnan(score({kNan, 0, 0}, {1, 0, 0}, 0).kl));
    EXPECT_TRUE(std::isnan(score({-kInf, -kInf, -kInf}, {1, 0, 0}, 0).kl));
}

TEST(MostLikely, IsTheFirstLargestAndNothingBesideANan) {
    EXPECT_EQ(most_likely(std::vector<float>{1, 5, 5, 2}), 1);
    EXPECT_EQ(most_likely(std::vector<float>{-kInf, -kInf}), 0);
    EXPECT_EQ(most_likely(std::vector<float>{1, kNan}), -1);
    EXPECT_EQ(most_likely({}), -1);
}

TEST(Quantile, InterpolatesBetweenRanks) {
    const std::vector<float> values = {0, 10, 20, 30, 40};
    EXPECT_DOUBLE_EQ(quantile(values, 0), 0);
    EXPECT_DOUBLE_EQ(quantile(values, 0.5), 20);
    EXPECT_DOUBLE_EQ(quantile(values, 0.99), 39.6);
    EXPECT_DOUBLE_EQ(quantile(values, 1), 40);
    EXPECT_DOUBLE_EQ(quantile(std::vector<float>{7}, 0.999), 7);
}

TEST(ErrorOfMean, ComesFromBlocks) {
    std::vector<float> values(2 * kBlock, 1.0f);
    EXPECT_DOUBLE_EQ(error_of_mean(values), 0);
    std::fill(values.begin() + kBlock, values.end(), 3.0f);  // block means 1 and 3: deviation sqrt(2), over sqrt(2)
    EXPECT_DOUBLE_EQ(error_of_mean(values), 1);
    values.resize(2 * kBlock + 5, 1000.0f);  // an incomplete block
    EXPECT_DOUBLE_EQ(error_of_mean(values), 1);
    values.resize(2 * kBlock - 1);
    EXPECT_TRUE(std::isnan(error_of_mean(values)));
}

Scores some_scores(std::size_t count) {
    Scores scores;
    for (std::size_t i = 0; i < count; ++i) scores.add({static_cast<float>(i), i % 2 ? 0.3f : -0.4f, 2.0f, i % 4 != 0});
    return scores;
}

TEST(Summary, OfAKnownList) {
    const Summary found = summarise(some_scores(1001));
    EXPECT_EQ(found.tokens, 1001u);
    EXPECT_EQ(found.not_finite, 0u);
    EXPECT_DOUBLE_EQ(found.kl_mean, 500);
    EXPECT_DOUBLE_EQ(found.kl_median, 500);
    EXPECT_DOUBLE_EQ(found.kl_99, 990);
    EXPECT_DOUBLE_EQ(found.kl_999, 999);
    EXPECT_DOUBLE_EQ(found.kl_max, 1000);
    EXPECT_NEAR(found.top1, 750.0 / 1001, 1e-12);
    EXPECT_NEAR(found.rms_change, std::sqrt((500 * 0.09 + 501 * 0.16) / 1001), 1e-6);
    EXPECT_DOUBLE_EQ(found.nll_mean, 2);
}

TEST(Summary, CountsWhatIsNotFinite) {
    Scores scores = some_scores(10);
    scores.add({kNan, kNan, kNan, false});
    scores.add({kInf, 0.1f, 1.0f, true});
    EXPECT_EQ(summarise(scores).not_finite, 2u);
    EXPECT_EQ(summarise({}).tokens, 0u);
}

}  // namespace
}  // namespace turboquant::tool

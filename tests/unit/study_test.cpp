// The functions that studies of the method are made of: quantiser, theory, divergence, product quantisation, random numbers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/study/divergence.hpp"
#include "core/study/product_quantiser.hpp"
#include "core/study/random.hpp"
#include "core/study/scalar_quantiser.hpp"
#include "core/study/theory.hpp"

namespace turboquant::study {
namespace {

std::vector<double> normals(std::size_t num, std::uint64_t stream) {
    std::vector<double> x(num);
    fill_normal(7, stream, x);
    return x;
}

Choice choice_of(const std::vector<double>& y, int bits, const std::vector<double>& gains = {1.0}) {
    Choice choice;
    choose(y, solve_lloyd_max(Density::gaussian, 0, bits).positive, gains, choice);
    return choice;
}

TEST(StudyRandom, NormalsHaveTheirMomentsAndAreAFunctionOfTheirArguments) {
    const std::vector<double> x = normals(100001, 3);
    double mean = 0, square = 0, fourth = 0;
    for (double v : x) mean += v, square += v * v, fourth += v * v * v * v;
    const double n = static_cast<double>(x.size());
    EXPECT_NEAR(mean / n, 0, 5 / std::sqrt(n));
    EXPECT_NEAR(square / n, 1, 5 * std::sqrt(2 / n));
    EXPECT_NEAR(fourth / n, 3, 5 * std::sqrt(96 / n));
    EXPECT_EQ(x, normals(100001, 3));
    EXPECT_NE(x[0], normals(1, 4)[0]);
}

TEST(StudyRandom, UnitVectorsHaveLengthOne) {
    std::vector<double> x(96);
    for (std::uint64_t i = 0; i < 10; ++i) {
        fill_unit_vector(1, i, x);
        EXPECT_NEAR(dot(x, x), 1, 1e-14);
    }
}

TEST(StudyQuantiser, EachCoordinateTakesTheNearestLevel) {
    const std::vector<double> positive = {0.5, 1.5, 3.0};
    // Norm such that sqrt(d) / |y| is 1.
    const std::vector<double> y = {0.9, -0.1, -1.1, 1.0};
    const double units = std::sqrt(4 / dot(y, y));
    Choice choice;
    choose(y, positive, std::vector<double>{1.0}, choice);
    for (std::size_t j = 0; j < y.size(); ++j) {
        for (double level : positive)
            EXPECT_LE(std::abs(std::abs(y[j]) * units - std::abs(choice.codeword[j])), std::abs(std::abs(y[j]) * units - level));
        EXPECT_EQ(std::signbit(choice.codeword[j]), std::signbit(y[j]));
    }
}

TEST(StudyQuantiser, EachRuleIsWhatItsNameSays) {
    for (int bits = 1; bits <= 4; ++bits) {
        const std::vector<double> y = normals(128, 11);
        const Choice c = choice_of(y, bits);
        EXPECT_NEAR(scale_of(ScaleRule::plain, c), std::sqrt(c.norm2 / 128), 1e-12);
        const double norm_matched = scale_of(ScaleRule::norm_matched, c), unbiased = scale_of(ScaleRule::unbiased, c);
        EXPECT_NEAR(norm_matched * norm_matched * dot(c.codeword, c.codeword), c.norm2, 1e-9);
        EXPECT_NEAR(unbiased * dot(c.codeword, y), c.norm2, 1e-9);
        for (ScaleRule rule : kScaleRules) {
            double error = 0;
            for (std::size_t j = 0; j < 128; ++j) error += std::pow(y[j] - scale_of(rule, c) * c.codeword[j], 2);
            EXPECT_NEAR(relative_error(rule, c), error / c.norm2, 1e-12) << name_of(rule);
            EXPECT_GE(relative_error(rule, c), relative_error(ScaleRule::least_squares, c)) << name_of(rule);
        }
    }
}

TEST(StudyQuantiser, MoreGainsNeverMakeTheAngleLarger) {
    const std::vector<double> gains = gain_grid(21, 0.8, 1.2);
    EXPECT_EQ(gains.front(), 0.8);
    EXPECT_DOUBLE_EQ(gains.back(), 1.2);
    EXPECT_DOUBLE_EQ(gains[10], 1.0);
    EXPECT_EQ(gain_grid(1, 0.8, 1.2), std::vector<double>{1.0});
    for (std::uint64_t i = 0; i < 20; ++i) {
        const std::vector<double> y = normals(64, 100 + i);
        EXPECT_LE(relative_error(ScaleRule::least_squares, choice_of(y, 3, gains)),
                  relative_error(ScaleRule::least_squares, choice_of(y, 3)) + 1e-12);
    }
}

TEST(StudyTheory, TheTheoremsConstants) {
    EXPECT_NEAR(theorem1_bound(1), 2.7207 / 4, 1e-4);
    EXPECT_NEAR(theorem2_bound(2, 128) * 128, std::sqrt(3.0) * std::numbers::pi * std::numbers::pi / 16, 1e-12);
    EXPECT_EQ(theorem3_bound(3), 1.0 / 64);
}

TEST(StudyTheory, TheDistributionOfACoordinate) {
    for (int dim : {16, 64, 128}) {
        EXPECT_NEAR(coordinate_distribution(dim, 0), 0.5, 1e-12);
        EXPECT_NEAR(coordinate_distribution(dim, std::sqrt(dim)), 1, 1e-8);
        EXPECT_NEAR(coordinate_distribution(dim, 1.3) + coordinate_distribution(dim, -1.3), 1, 1e-12);
        EXPECT_LT(coordinate_distribution(dim, 1.0), coordinate_distribution(dim, 1.1));
    }
    EXPECT_NEAR(coordinate_distribution(4096, 1.0), 0.8413447, 1e-4);  // nearly normal
}

TEST(StudyTheory, DistortionsOfTheSolversLevels) {
    for (int bits = 1; bits <= 4; ++bits) {
        const LloydMax book = solve_lloyd_max(Density::beta, 128, bits);
        EXPECT_NEAR(codebook_distortion(Density::beta, 128, book.positive), book.mse, 1e-9);
        std::vector<double> moved = book.positive;
        moved[0] *= 1.02;
        EXPECT_GT(codebook_distortion(Density::beta, 128, moved), book.mse);
        EXPECT_LT(least_squares_distortion(128, book), book.mse);
        EXPECT_GT(least_squares_distortion(128, book), 0.97 * book.mse);
    }
    EXPECT_NEAR(codebook_distortion(Density::gaussian, 0, {std::sqrt(2 / std::numbers::pi)}), 1 - 2 / std::numbers::pi, 1e-9);
}

TEST(StudyTheory, OtherScalesFromTheAngle) {
    // Without spread they are exact: sin^2 = 0.36, cos = 0.8.
    EXPECT_NEAR(norm_matched_distortion(0.36, 0), 2 - 2 * 0.8, 1e-12);
    EXPECT_NEAR(unbiased_distortion(0.36, 0), 0.36 / 0.64, 1e-12);
    // With a spread, the mean over two equally likely values.
    const double low = 0.34, high = 0.38, variance = 0.02 * 0.02;
    EXPECT_NEAR(norm_matched_distortion(0.36, variance), 2 - std::sqrt(1 - low) - std::sqrt(1 - high), 1e-6);
    EXPECT_NEAR(unbiased_distortion(0.36, variance), 0.5 * (low / (1 - low) + high / (1 - high)), 1e-5);
}

TEST(StudyTheory, EntropyOfCodes) {
    EXPECT_NEAR(code_entropy(Density::gaussian, 0, {0.8}), 1, 1e-12);
    EXPECT_NEAR(code_entropy(Density::gaussian, 0, solve_lloyd_max(Density::gaussian, 0, 2).positive), 1.911, 1e-3);  // Max 1960
}

TEST(StudyDivergence, IsZeroForEqualWeightsAndKnownForTwo) {
    const std::vector<double> logits = normals(50, 5);
    std::vector<double> shifted = logits;
    for (double& v : shifted) v += 3;
    EXPECT_NEAR(softmax_divergence(logits, logits), 0, 1e-14);
    EXPECT_NEAR(softmax_divergence(logits, shifted), 0, 1e-13);
    const std::vector<double> even = {0, 0}, uneven = {std::log(3.0), 0};  // 1/2, 1/2 and 3/4, 1/4
    EXPECT_NEAR(softmax_divergence(even, uneven), 0.5 * std::log(0.5 / 0.75) + 0.5 * std::log(0.5 / 0.25), 1e-14);
    EXPECT_GT(softmax_divergence(uneven, even), 0);
}

TEST(StudyProductQuantiser, RunsTakeTheirNearestCentroidAndMoreOfThemAreBetter) {
    constexpr int kNum = 400, kDim = 8, kSub = 2;
    const std::vector<double> data = normals(kNum * kDim, 21);
    double previous = 1e300;
    for (int centroids : {2, 8, 32}) {
        const ProductQuantiser pq = train_product_quantiser(data, kNum, kDim, kSub, centroids, 10, 1);
        ASSERT_EQ(pq.centroids.size(), static_cast<std::size_t>(kDim / kSub * centroids * kSub));
        double error = 0;
        for (int i = 0; i < kNum; ++i) {
            const double* x = &data[static_cast<std::size_t>(i) * kDim];
            double out[kDim];
            product_quantise(pq, x, out);
            for (int run = 0; run < kDim / kSub; ++run) {
                double taken = 0, nearest = 1e300;
                for (int j = 0; j < kSub; ++j) taken += std::pow(x[run * kSub + j] - out[run * kSub + j], 2);
                for (int c = 0; c < centroids; ++c) {
                    double distance = 0;
                    for (int j = 0; j < kSub; ++j)
                        distance += std::pow(
                            x[run * kSub + j] - pq.centroids[static_cast<std::size_t>((run * centroids + c) * kSub + j)], 2);
                    nearest = std::min(nearest, distance);
                }
                EXPECT_DOUBLE_EQ(taken, nearest);
                error += taken;
            }
        }
        EXPECT_LT(error, 0.8 * previous);
        previous = error;
    }
}

}  // namespace
}  // namespace turboquant::study

// Rotations are orthogonal, exactly so in integers for the Hadamard factors, and different for every side and seed.
#include "core/rotation.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <numeric>

#include "support/vectors.hpp"

namespace turboquant {
namespace {

constexpr std::uint64_t kSeed = Spec{}.seed;

double norm_of(const std::vector<float>& x) { return std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0)); }

class RotationOfDim : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(EveryHeadDim, RotationOfDim,
                         ::testing::ValuesIn(supported_head_dims().begin(), supported_head_dims().end()));

TEST_P(RotationOfDim, FactorsMultiplyToHeadDim) {
    const auto tables = rotation_tables(GetParam(), Rotation::hadamard, kSeed, Side::key);
    EXPECT_EQ(tables->base * tables->run, GetParam());
    EXPECT_EQ(tables->run & (tables->run - 1), 0);
    EXPECT_EQ(tables->paley.size(), static_cast<std::size_t>(tables->base * tables->base));
}

TEST_P(RotationOfDim, UnscaledHadamardIsOrthogonalInIntegers) {
    // Columns of P (x) S, exact in float: the forward rotation of unit vectors without signs and norm.
    const int d = GetParam();
    RotationTables tables = *rotation_tables(d, Rotation::hadamard, kSeed, Side::key);
    tables.norm = 1;
    tables.sign.assign(d, 1.0f);
    std::vector<std::vector<int>> column(d);
    for (int j = 0; j < d; ++j) {
        std::vector<float> x(d, 0.0f);
        x[j] = 1;
        rotate_forward(tables, x.data());
        for (float v : x) {
            ASSERT_EQ(std::abs(v), 1.0f);
            column[j].push_back(static_cast<int>(v));
        }
    }
    for (int i = 0; i < d; ++i) {
        for (int j = 0; j <= i; ++j) {
            ASSERT_EQ(std::inner_product(column[i].begin(), column[i].end(), column[j].begin(), 0), i == j ? d : 0)
                << i << " " << j;
        }
    }
}

TEST_P(RotationOfDim, InverseUndoesForwardAndNormsStay) {
    for (Rotation kind : {Rotation::hadamard, Rotation::haar}) {
        for (Side side : {Side::key, Side::value}) {
            const auto tables = rotation_tables(GetParam(), kind, kSeed, side);
            const std::vector<float> x = testing::gaussian(GetParam(), 11);
            std::vector<float> y = x;
            rotate_forward(*tables, y.data());
            EXPECT_NEAR(norm_of(y) / norm_of(x), 1, 1e-6);
            rotate_inverse(*tables, y.data());
            // Error of a sum of d terms of size |x| / sqrt(d): a few ulp of |x|.
            for (int j = 0; j < GetParam(); ++j) ASSERT_NEAR(y[j], x[j], 2e-6 * norm_of(x) / 4);
        }
    }
}

TEST_P(RotationOfDim, SignsAreBalanced) {
    for (Side side : {Side::key, Side::value}) {
        const auto tables = rotation_tables(GetParam(), Rotation::hadamard, kSeed, side);
        const float sum = std::accumulate(tables->sign.begin(), tables->sign.end(), 0.0f);
        EXPECT_LT(std::abs(sum), 4 * std::sqrt(static_cast<float>(GetParam())));
        for (float s : tables->sign) EXPECT_EQ(std::abs(s), 1.0f);
    }
}

TEST(Rotation, EveryQuarterOfAHeadAndItsRestHaveAHadamardRotation) {
    for (const int head_dim : supported_head_dims()) {
        for (const int d : {head_dim, head_dim / 4, head_dim - head_dim / 4}) {
            ASSERT_TRUE(has_hadamard(d)) << d;
            const auto tables = rotation_tables(d, Rotation::hadamard, kSeed, outlier_stream(Side::key));
            const std::vector<float> before = testing::gaussian(d, 5);
            std::vector<float> x = before;
            rotate_forward(*tables, x.data());
            EXPECT_NEAR(norm_of(x) / norm_of(before), 1, 1e-5) << d;
            EXPECT_NE(x, before);
            rotate_inverse(*tables, x.data());
            for (int j = 0; j < d; ++j) EXPECT_NEAR(x[j], before[j], 1e-5) << d;
        }
    }
    for (const int none : {-4, 0, 3, 10, 18, 92}) EXPECT_FALSE(has_hadamard(none)) << none;  // (92 has one, but not by Paley)
    EXPECT_TRUE(paley_hadamard(92).empty());
}

TEST(Rotation, NormalMatricesHaveTheirMoments) {
    const std::vector<float> s = normal_matrix(128, kSeed, kSketchStream);
    double sum = 0, squares = 0, fourth = 0;
    for (const float x : s) {
        sum += x;
        squares += static_cast<double>(x) * x;
        fourth += std::pow(x, 4);
    }
    const auto n = static_cast<double>(s.size());  // standard errors: 1, sqrt(2), sqrt(96), over sqrt(n) = 128
    EXPECT_NEAR(sum / n, 0, 4 / 128.0);
    EXPECT_NEAR(squares / n, 1, 4 * std::sqrt(2.0) / 128);
    EXPECT_NEAR(fourth / n, 3, 4 * std::sqrt(96.0) / 128);
}

TEST(Rotation, PaleyMatricesAreHadamard) {
    for (int order : {1, 12, 20, 28, 36, 60, 84, 108}) {
        const std::vector<float> h = paley_hadamard(order);
        ASSERT_EQ(h.size(), static_cast<std::size_t>(order * order));
        for (int i = 0; i < order; ++i) {
            for (int j = 0; j < order; ++j) {
                ASSERT_EQ(std::abs(h[i * order + j]), 1.0f);
                int dot = 0;
                for (int k = 0; k < order; ++k) dot += static_cast<int>(h[i * order + k] * h[j * order + k]);
                ASSERT_EQ(dot, i == j ? order : 0);
            }
        }
    }
}

TEST(Rotation, SidesAndSeedsDiffer) {
    for (Rotation kind : {Rotation::hadamard, Rotation::haar}) {
        const auto result = [&](std::uint64_t seed, Side side) {
            std::vector<float> x = testing::gaussian(64, 3);
            rotate_forward(*rotation_tables(64, kind, seed, side), x.data());
            return x;
        };
        EXPECT_NE(result(kSeed, Side::key), result(kSeed, Side::value));
        EXPECT_NE(result(kSeed, Side::key), result(kSeed + 1, Side::key));
        EXPECT_EQ(result(kSeed, Side::key), result(kSeed, Side::key));
    }
}

TEST(Rotation, TablesAreShared) {
    EXPECT_EQ(rotation_tables(128, Rotation::hadamard, kSeed, Side::key),
              rotation_tables(128, Rotation::hadamard, kSeed, Side::key));
}

TEST(Rotation, HaarMatricesAreOrthogonal) {
    const auto tables = rotation_tables(80, Rotation::haar, kSeed, Side::key);
    for (int i = 0; i < 80; ++i) {
        for (int j = 0; j <= i; ++j) {
            double dot = 0;
            for (int k = 0; k < 80; ++k) dot += static_cast<double>(tables->dense[i * 80 + k]) * tables->dense[j * 80 + k];
            ASSERT_NEAR(dot, i == j ? 1 : 0, 1e-6);
        }
    }
}

TEST(Rotation, HaarEntriesHaveTheMomentsOfASphere) {
    // Any entry, over the distribution: mean 0, E e^2 = 1/d, E e^4 = 3 / (d (d + 2)); 16 seeds of 64 x 64 entries. The
    // first and last rows alone as well: a biased Gram-Schmidt would show there.
    const int d = 64, seeds = 16;
    double mean = 0, fourth = 0, first_row = 0, last_row = 0;
    for (int seed = 0; seed < seeds; ++seed) {
        const auto tables = rotation_tables(d, Rotation::haar, 1000 + seed, Side::key);
        for (int i = 0; i < d * d; ++i) {
            const double e = tables->dense[i];
            mean += e / (d * d * seeds);
            fourth += e * e * e * e / (d * d * seeds);
            if (i < d) first_row += e / (d * seeds);
            if (i >= d * (d - 1)) last_row += e / (d * seeds);
        }
    }
    const double expected_fourth = 3.0 / (d * (d + 2));
    EXPECT_NEAR(mean, 0, 5 / std::sqrt(static_cast<double>(d) * d * d * seeds));
    EXPECT_NEAR(first_row, 0, 5 / std::sqrt(static_cast<double>(d) * d * seeds));
    EXPECT_NEAR(last_row, 0, 5 / std::sqrt(static_cast<double>(d) * d * seeds));
    EXPECT_NEAR(fourth / expected_fourth, 1, 0.05);  // deviation of e^4 is 3.3 of its mean; 65,536 entries: .013
}

TEST(Rotation, RotatedOneHotVectorsAreFlat) {
    // What the codes rely on: no coordinate stands out.
    for (int d : supported_head_dims()) {
        std::vector<float> x(d, 0.0f);
        x[d / 3] = 1;
        rotate_forward(*rotation_tables(d, Rotation::hadamard, kSeed, Side::value), x.data());
        for (float v : x) ASSERT_NEAR(std::abs(v), 1 / std::sqrt(static_cast<float>(d)), 1e-7f);
    }
}

}  // namespace
}  // namespace turboquant

// How far prefill's binary16 operands alone take an output row from the exact one: single rows, float64 everywhere else. The limits of
// tests/cuda/gpu/prefill_gpu.cpp and the words in turboquant/cuda.hpp rest on it. It also says what would not help: with exact queries and rounded
// keys, or the other way round, a row of large queries still misses 2e-3; both would have to be split in two, which is three products for one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "core/codebook.hpp"
#include "core/half.hpp"

namespace turboquant {
namespace {

double rounded(double x) { return half_to_float(float_to_half(static_cast<float>(x))); }

struct Rounds {
    bool queries, keys, weights_and_values;
};

struct Row {
    std::vector<double> q, q_rounded, k, k_rounded, v, v_rounded;  // rotated; k and v [tokens][128]
};

// As the GPU tests have them: random 4-bit codes with scales that differ, references that differ from page to page, now and then a sink.
Row make_row(double sharpness, std::mt19937& engine) {
    std::normal_distribution<double> normal;
    const int d = 128, tokens = 1 + static_cast<int>(engine() % 300);
    double spread = 0, largest = 0;
    for (int c = 0; c < 16; ++c) spread += codeword_of(4, c) * codeword_of(4, c) / 16.0;
    Row row;
    for (int j = 0; j < d; ++j) {
        row.q.push_back(sharpness * normal(engine));
        largest = std::max(largest, std::abs(row.q.back()));
    }
    const double unit = std::exp2(std::floor(std::log2(largest)) - 9);  // the largest becomes 2^9 .. 2^10
    for (double x : row.q) row.q_rounded.push_back(rounded(x / unit) * unit);
    std::vector<double> reference(d, 0.0);
    for (int t = 0; t < tokens; ++t) {
        if (t % 64 == 0 && t > 0) {
            for (double& x : reference) x = 0.3 * std::sqrt(2.0) * normal(engine);  // less that of the first page
        }
        const double sink = t == 5 && engine() % 5 == 0 ? 4 : 1;
        const double k = rounded(sink / std::sqrt(spread) * std::abs(1 + 0.2 * normal(engine))), v = rounded(std::exp(0.7 * normal(engine)) / std::sqrt(spread) / (sink > 1 ? 256 : 1));
        for (int j = 0; j < d; ++j) {
            row.k.push_back(codeword_of(4, engine() % 16) * k + reference[j]);
            row.k_rounded.push_back(rounded(row.k.back() - reference[j] + rounded(reference[j])));
            row.v.push_back(codeword_of(4, engine() % 16) * v);
            row.v_rounded.push_back(rounded(row.v.back()));
        }
    }
    return row;
}

std::vector<double> attend(const Row& row, const Rounds& rounds, double* log_sum) {
    const std::size_t d = row.q.size(), tokens = row.k.size() / d;
    const std::vector<double>&q = rounds.queries ? row.q_rounded : row.q, &k = rounds.keys ? row.k_rounded : row.k, &v = rounds.weights_and_values ? row.v_rounded : row.v;
    std::vector<double> score(tokens), out(d, 0.0);
    double largest = -1e30, total = 0;
    for (std::size_t t = 0; t < tokens; ++t) {
        double dot = 0;
        for (std::size_t j = 0; j < d; ++j) dot += q[j] * k[t * d + j];
        score[t] = dot / std::sqrt(static_cast<double>(d));
        largest = std::max(largest, score[t]);
    }
    for (std::size_t t = 0; t < tokens; ++t) {
        const double weight = 256 * std::exp(score[t] - largest), kept = rounds.weights_and_values ? rounded(weight) : weight;
        total += weight;
        for (std::size_t j = 0; j < d; ++j) out[j] += kept * v[t * d + j];
    }
    for (double& x : out) x /= total;
    *log_sum = largest + std::log(total / 256);
    return out;
}

struct Worst {
    double output = 0, log_sum = 0;
};

Worst worst(double sharpness, const Rounds& rounds) {
    std::mt19937 engine(3);
    Worst worst;
    for (int n = 0; n < 400; ++n) {
        const Row row = make_row(sharpness, engine);
        double exact_sum, sum, error = 0, power = 0;
        const std::vector<double> exact = attend(row, {}, &exact_sum), got = attend(row, rounds, &sum);
        for (std::size_t j = 0; j < exact.size(); ++j) {
            error += (got[j] - exact[j]) * (got[j] - exact[j]);
            power += exact[j] * exact[j];
        }
        worst.output = std::max(worst.output, std::sqrt(error / power));
        worst.log_sum = std::max(worst.log_sum, std::abs(sum - exact_sum));
    }
    return worst;
}

TEST(PrefillError, OfSingleRowsIsThatOfRoundedOperands) {
    const Rounds all{true, true, true}, queries{true, false, false}, keys{false, true, false}, values{false, false, true};
    EXPECT_GT(worst(1, all).output, 1e-3);
    EXPECT_LT(worst(1, all).output, 8e-3);
    EXPECT_LT(worst(1, all).log_sum, 2e-3 + 1e-2);
    EXPECT_LT(worst(1, values).output, 1e-3);
    EXPECT_GT(worst(5, queries).output, 2e-3);  // neither operand alone is to blame
    EXPECT_GT(worst(5, keys).output, 2e-3);
    EXPECT_LT(worst(5, all).log_sum, 2e-3 + 5e-2);
}

}  // namespace
}  // namespace turboquant

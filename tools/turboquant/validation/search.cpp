// Nearest neighbours by inner product on coded vectors, against product quantisation at equal bits (arXiv 2504.19874, section 4.4).
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "core/codebook.hpp"
#include "core/reference.hpp"
#include "core/study/product_quantiser.hpp"
#include "core/study/random.hpp"
#include "core/study/scalar_quantiser.hpp"
#include "validation/row.hpp"
#include "validation/search.hpp"

namespace turboquant::validation {
namespace {

constexpr int kDim = 128;
constexpr int kMostNeighbours = 10;

// Unit vectors whose coordinate j has a standard deviation of (j + 1)^-1/2 in a space of its own, which a fixed Haar rotation turns: as in
// learned embeddings, some directions matter more than others and none is an axis.
std::vector<double> decaying_vectors(const Options& options, int num, std::uint64_t seed) {
    std::vector<double> all(static_cast<std::size_t>(num) * kDim);
    const auto turn = rotation_tables(kDim, Rotation::haar, 0x7c4, Side::key);
    parallel(options.threads, num, [&](int i) {
        std::vector<double> x(kDim);
        study::fill_normal(seed, static_cast<std::uint64_t>(i), x);
        for (int j = 0; j < kDim; ++j) x[j] /= std::sqrt(j + 1.0);
        std::vector<float> turned(x.begin(), x.end());
        rotate_forward(*turn, turned.data());
        x.assign(turned.begin(), turned.end());
        const double inverse = 1 / std::sqrt(study::dot(x, x));
        for (int j = 0; j < kDim; ++j) all[static_cast<std::size_t>(i) * kDim + j] = x[j] * inverse;
    });
    return all;
}

std::vector<double> scalar_decoded(const Options& options, const std::vector<double>& data, int num, int bits) {
    std::vector<double> decoded(data.size());
    Spec spec;
    spec.head_dim = kDim;
    spec.key_bits = bits;
    spec.trellis_codes = false;  // the paper's claim is about codes that stand alone
    const Coder coder = make_coder(spec, Side::key);
    parallel(options.threads, num, [&](int i) {
        const double* x = &data[static_cast<std::size_t>(i) * kDim];
        std::vector<float> in(x, x + kDim), out(kDim);
        std::vector<std::uint8_t> codes(kDim);
        std::uint16_t scale = 0;
        reference::encode(coder, in.data(), codes.data(), &scale);
        reference::decode(coder, codes.data(), scale, out.data());
        std::copy(out.begin(), out.end(), &decoded[static_cast<std::size_t>(i) * kDim]);
    });
    return decoded;
}

// train: as many vectors as data, from the same source: k-means that has seen the data themselves would know too much about so few.
std::vector<double> product_decoded(const Options& options, const std::vector<double>& data, const std::vector<double>& train,
                                    int num, int bits, int rounds) {
    const int sub_dim = 8 / bits;  // one byte per run
    std::vector<double> decoded(data.size());
    // Runs are independent: each thread trains and applies some of them.
    parallel(options.threads, kDim / sub_dim, [&](int run) {
        const auto at = [&](int i) { return static_cast<std::size_t>(i) * kDim + static_cast<std::size_t>(run) * sub_dim; };
        std::vector<double> part(static_cast<std::size_t>(num) * sub_dim);
        for (int i = 0; i < num; ++i) std::copy_n(&train[at(i)], sub_dim, &part[static_cast<std::size_t>(i) * sub_dim]);
        const study::ProductQuantiser pq =
            study::train_product_quantiser(part, num, sub_dim, sub_dim, 256, rounds, 0x90 + static_cast<std::uint64_t>(run));
        for (int i = 0; i < num; ++i) study::product_quantise(pq, &data[at(i)], &decoded[at(i)]);
    });
    return decoded;
}

std::vector<double> scores_of(const double* query, const std::vector<double>& base, int num) {
    std::vector<double> scores(static_cast<std::size_t>(num));
    for (int i = 0; i < num; ++i) scores[i] = study::dot({query, kDim}, {&base[static_cast<std::size_t>(i) * kDim], kDim});
    return scores;
}

// rank: of each query's true nearest neighbour, by the scalar and the product codes.
RecallPair recall_at(int k, const std::vector<std::array<int, 2>>& rank) {
    std::vector<double> scalar, product, difference;
    for (const auto& r : rank) {
        scalar.push_back(r[0] < k ? 1 : 0);
        product.push_back(r[1] < k ? 1 : 0);
        difference.push_back(scalar.back() - product.back());
    }
    return {sample_of(scalar), sample_of(product), sample_of(difference)};
}

}  // namespace

// For each query, whether its true nearest neighbour is among the k best by the coded vectors' scores.
Recall measure_recall(const Options& options, int bits) {
    const int num = options.quick ? 3000 : 6000, queries = options.quick ? 400 : 500, rounds = options.quick ? 6 : 10;
    const std::vector<double> base = decaying_vectors(options, num, 0xba5e), asked = decaying_vectors(options, queries, 0xa54),
                              train = decaying_vectors(options, num, 0x75a1);
    const std::vector<double> coded[] = {scalar_decoded(options, base, num, bits),
                                         product_decoded(options, base, train, num, bits, rounds)};
    std::vector<std::array<int, 2>> rank(static_cast<std::size_t>(queries));  // of the true nearest: how many score higher
    parallel(options.threads, queries, [&](int q) {
        const double* query = &asked[static_cast<std::size_t>(q) * kDim];
        const std::vector<double> exact = scores_of(query, base, num);
        const auto nearest = std::max_element(exact.begin(), exact.end()) - exact.begin();
        for (std::size_t m = 0; m < 2; ++m) {
            const std::vector<double> scores = scores_of(query, coded[m], num);
            rank[static_cast<std::size_t>(q)][m] = static_cast<int>(std::count_if(
                scores.begin(), scores.end(), [&](double s) { return s > scores[static_cast<std::size_t>(nearest)]; }));
        }
    });
    return {recall_at(1, rank), recall_at(kMostNeighbours, rank)};
}

Rows search_rows(const Options& options) {
    Rows rows;
    for (const int bits : {2, 4}) {
        const Recall recall = measure_recall(options, bits);
        for (const int k : {1, kMostNeighbours}) {
            const RecallPair& pair = k == 1 ? recall.at_1 : recall.at_10;
            // The paper's claim has no number: its curves are above those of product quantisation.
            rows.push_back(
                {"search", fmt::format("recall 1@{}, {} bits (product quantisation: {:.3f})", k, bits, pair.product.mean),
                 std::nullopt, std::nullopt, pair.scalar.mean, pair.product.mean - kErrors * pair.difference.error, std::nullopt,
                 fmt::format("not below product quantisation's by more than {:g} standard errors of the difference", kErrors)});
        }
    }
    return rows;
}

}  // namespace turboquant::validation

#include "core/study/product_quantiser.hpp"

#include <algorithm>
#include <limits>

#include "core/counter_rng.hpp"

namespace turboquant::study {
namespace {

int nearest(const double* x, const double* centroids, int num, int sub_dim) {
    int best = 0;
    double best_distance = std::numeric_limits<double>::infinity();
    for (int c = 0; c < num; ++c) {
        double distance = 0;
        for (int j = 0; j < sub_dim; ++j) distance += (x[j] - centroids[c * sub_dim + j]) * (x[j] - centroids[c * sub_dim + j]);
        if (distance < best_distance) {
            best_distance = distance;
            best = c;
        }
    }
    return best;
}

}  // namespace

ProductQuantiser train_product_quantiser(const std::vector<double>& data, int num, int dim, int sub_dim, int num_centroids,
                                         int rounds, std::uint64_t seed) {
    ProductQuantiser pq{dim, sub_dim, num_centroids, {}};
    const int runs = dim / sub_dim;
    pq.centroids.resize(static_cast<std::size_t>(runs) * num_centroids * sub_dim);
    std::vector<double> sum(static_cast<std::size_t>(num_centroids) * sub_dim);
    std::vector<int> count(num_centroids);
    for (int run = 0; run < runs; ++run) {
        double* centroids = &pq.centroids[static_cast<std::size_t>(run) * num_centroids * sub_dim];
        std::uint64_t draws = 0;
        const auto take_row = [&](int c) {
            const auto row = counter_word(seed, static_cast<std::uint64_t>(run), draws++) % static_cast<std::uint64_t>(num);
            std::copy_n(&data[row * dim + static_cast<std::size_t>(run) * sub_dim], sub_dim, centroids + c * sub_dim);
        };
        for (int c = 0; c < num_centroids; ++c) take_row(c);
        for (int round = 0; round < rounds; ++round) {
            std::fill(sum.begin(), sum.end(), 0.0);
            std::fill(count.begin(), count.end(), 0);
            for (int i = 0; i < num; ++i) {
                const double* x = &data[static_cast<std::size_t>(i) * dim + static_cast<std::size_t>(run) * sub_dim];
                const int c = nearest(x, centroids, num_centroids, sub_dim);
                ++count[c];
                for (int j = 0; j < sub_dim; ++j) sum[static_cast<std::size_t>(c) * sub_dim + j] += x[j];
            }
            for (int c = 0; c < num_centroids; ++c) {
                if (count[c] == 0) {
                    take_row(c);
                    continue;
                }
                for (int j = 0; j < sub_dim; ++j)
                    centroids[c * sub_dim + j] = sum[static_cast<std::size_t>(c) * sub_dim + j] / count[c];
            }
        }
    }
    return pq;
}

void product_quantise(const ProductQuantiser& pq, const double* x, double* out) {
    for (int run = 0; run < pq.dim / pq.sub_dim; ++run) {
        const double* centroids = &pq.centroids[static_cast<std::size_t>(run) * pq.num_centroids * pq.sub_dim];
        const int c = nearest(x + run * pq.sub_dim, centroids, pq.num_centroids, pq.sub_dim);
        std::copy_n(centroids + c * pq.sub_dim, pq.sub_dim, out + run * pq.sub_dim);
    }
}

}  // namespace turboquant::study

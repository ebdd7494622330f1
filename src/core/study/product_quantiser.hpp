// Product quantisation (Jegou, Douze and Schmid 2011), the baseline of the paper's nearest-neighbour search: each run of sub_dim
// numbers takes the nearest of `num_centroids` vectors, which k-means has found for that run in the data.
#pragma once

#include <cstdint>
#include <vector>

namespace turboquant::study {

struct ProductQuantiser {
    int dim = 0, sub_dim = 0, num_centroids = 0;
    std::vector<double> centroids;  // [dim / sub_dim][num_centroids][sub_dim]
};

// data: [num][dim]; dim a multiple of sub_dim, num at least num_centroids. Lloyd's algorithm from random rows; a centroid that
// loses all its rows takes a random one.
ProductQuantiser train_product_quantiser(const std::vector<double>& data, int num, int dim, int sub_dim, int num_centroids,
                                         int rounds, std::uint64_t seed);

// x: dim numbers; out: what their codes stand for.
void product_quantise(const ProductQuantiser& quantiser, const double* x, double* out);

}  // namespace turboquant::study

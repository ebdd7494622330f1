// Centroids and densities of the coordinates of rotated unit vectors (arXiv 2504.19874, Lemma 1 and section 3.1).
#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "core/codebook.hpp"
#include "core/rotation.hpp"
#include "core/study/random.hpp"
#include "core/study/theory.hpp"
#include "validation/row.hpp"
#include "validation/samples.hpp"

namespace turboquant::validation {
namespace {

// Coordinates times sqrt(d), each from [vectors][d].
std::vector<double> rotated_coordinates(const Options& options, int dim, int vectors, std::uint64_t seed) {
    std::vector<double> all(static_cast<std::size_t>(vectors) * dim);
    const auto rotation = rotation_tables(dim, Rotation::hadamard, seed, Side::key);
    parallel(options.threads, vectors, [&](int i) {
        const std::span<double> y(&all[static_cast<std::size_t>(i) * dim], static_cast<std::size_t>(dim));
        rotated_unit_vector(*rotation, seed, static_cast<std::uint64_t>(i), y);
        for (double& v : y) v *= std::sqrt(static_cast<double>(dim));
    });
    return all;
}

// The same unit vector under many Haar rotations: what Lemma 1 is about.
std::vector<double> haar_coordinates(const Options& options, int dim, int rotations) {
    std::vector<double> all(static_cast<std::size_t>(rotations) * dim);
    parallel(options.threads, rotations, [&](int i) {
        const auto rotation = rotation_tables(dim, Rotation::haar, 0x1000 + static_cast<std::uint64_t>(i), Side::key);
        std::vector<float> x(static_cast<std::size_t>(dim), 0.0f);
        x[5] = 1;
        rotate_forward(*rotation, x.data());
        for (int j = 0; j < dim; ++j) all[static_cast<std::size_t>(i) * dim + j] = x[j] * std::sqrt(static_cast<double>(dim));
    });
    return all;
}

// The mean of what falls into a codeword's cell is the codeword, if the codebook is Lloyd-Max for these numbers.
void add_centroids(Rows& rows, const std::vector<double>& coordinates, int dim, int bits, const std::vector<double>& printed) {
    const std::vector<double> exact = solve_lloyd_max(Density::beta, dim, bits).positive;
    for (std::size_t k = 0; k < exact.size(); ++k) {
        const double from = k == 0 ? 0 : 0.5 * (exact[k - 1] + exact[k]);
        const double to = k + 1 == exact.size() ? INFINITY : 0.5 * (exact[k] + exact[k + 1]);
        std::vector<double> in_cell;
        for (double v : coordinates)
            if (std::abs(v) >= from && std::abs(v) < to) in_cell.push_back(std::abs(v));
        const std::optional<double> paper = printed.empty() ? std::nullopt : std::optional(printed[k]);
        rows.push_back(row_of("codebooks", fmt::format("centroid {} of b={}, times sqrt(d), d={}", k + 1, bits, dim), paper,
                              exact[k], sample_of(in_cell)));
    }
}

// Largest distance between the distribution of these numbers and the exact one. Coordinates of one vector are a little dependent (their
// squares add up to d), which makes the distance smaller, never larger, than that of independent ones.
Row density_row(const std::string& name, std::vector<double> coordinates, int dim) {
    std::sort(coordinates.begin(), coordinates.end());
    const double n = static_cast<double>(coordinates.size());
    double distance = 0;
    for (std::size_t i = 0; i < coordinates.size(); ++i) {
        const double exact = study::coordinate_distribution(dim, coordinates[i]);
        distance = std::max({distance, exact - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - exact});
    }
    const double critical = std::sqrt(-0.5 * std::log(0.5e-4) / n);  // Kolmogorov: exceeded with probability 2 exp(-2 n D^2)
    return {"codebooks", name, std::nullopt, 0.0, distance, std::nullopt, critical, "Kolmogorov-Smirnov at one in 10,000"};
}

Row exact_row(const std::string& name, double printed, double theory, double measured) {
    return {"codebooks", name,          printed,       theory,
            measured,    theory - 1e-6, theory + 1e-6, "the solver stops when no level moves by 1e-11; integrals to 1e-7"};
}

// The int8 codebooks that are stored, as levels: rounded by at most half a unit, they cost at most that squared.
Row stored_row(int bits) {
    const Codebook& book = codebook(bits);
    std::vector<double> levels;
    for (int k = 0; k < book.half; ++k) levels.push_back(book.positive[k] / static_cast<double>(book.alpha));
    const double exact = solve_lloyd_max(Density::gaussian, 0, bits).mse, half_unit = 0.5 / book.alpha;
    return {"codebooks",
            fmt::format("stored int8 codebook of b={}: distortion", bits),
            std::nullopt,
            exact,
            study::codebook_distortion(Density::gaussian, 0, levels),
            exact - 1e-9,
            exact + half_unit * half_unit,
            "from the exact codebook's to that and half an integer unit, squared"};
}

}  // namespace

Rows codebook_rows(const Options& options) {
    Rows rows;
    const std::vector<double> one = solve_lloyd_max(Density::gaussian, 0, 1).positive;
    rows.push_back(exact_row("Gaussian centroid of b=1: sqrt(2 / pi)", 0.7979, std::sqrt(2 / std::numbers::pi), one[0]));
    // Max 1960 gives .4528 and 1.510; the digits beyond are those of the fixed point of his equations.
    const std::vector<double> two = solve_lloyd_max(Density::gaussian, 0, 2).positive;
    rows.push_back(exact_row("Gaussian centroid 1 of b=2", 0.453, 0.4527800, two[0]));
    rows.push_back(exact_row("Gaussian centroid 2 of b=2", 1.51, 1.5104176, two[1]));
    for (int bits = 2; bits <= 6; ++bits) rows.push_back(stored_row(bits));
    const std::vector<double> coordinates = rotated_coordinates(options, 128, options.quick ? 500 : 4000, 0xce7);
    add_centroids(rows, coordinates, 128, 1, {0.7979});
    add_centroids(rows, coordinates, 128, 2, {0.453, 1.51});
    add_centroids(rows, coordinates, 128, 3, {});
    for (const int dim : {64, 128, 256})
        rows.push_back(density_row(fmt::format("density of random unit vectors, Hadamard, d={}", dim),
                                   rotated_coordinates(options, dim, options.quick ? 50 : 200, 0xde5), dim));
    rows.push_back(
        density_row("density of one coordinate alone, Haar, d=64", haar_coordinates(options, 64, options.quick ? 50 : 200), 64));
    return rows;
}

}  // namespace turboquant::validation

// Every rotation of the product is orthogonal: R^T R = I, to the rounding of single precision.
#include <cmath>

#include <fmt/format.h>

#include "core/rotation.hpp"
#include "core/study/random.hpp"
#include "turboquant/spec.hpp"
#include "validation/row.hpp"

namespace turboquant::validation {
namespace {

constexpr double kHalfUlp = 0x1p-24;

double largest_deviation(const RotationTables& rotation) {
    const auto d = static_cast<std::size_t>(rotation.head_dim);
    std::vector<std::vector<double>> columns;
    for (std::size_t j = 0; j < d; ++j) {
        std::vector<float> x(d, 0.0f);
        x[j] = 1;
        rotate_forward(rotation, x.data());
        columns.emplace_back(x.begin(), x.end());
    }
    double largest = 0;
    for (std::size_t i = 0; i < d; ++i)
        for (std::size_t j = 0; j <= i; ++j)
            largest = std::max(largest, std::abs(study::dot(columns[i], columns[j]) - (i == j ? 1.0 : 0.0)));
    return largest;
}

// |inverse(forward(x)) - x| / |x|, the largest of some random vectors.
double round_trip_error(const RotationTables& rotation) {
    const auto d = static_cast<std::size_t>(rotation.head_dim);
    double largest = 0;
    for (std::uint64_t i = 0; i < 20; ++i) {
        std::vector<double> x(d);
        study::fill_unit_vector(0x707, i, x);
        std::vector<float> y(x.begin(), x.end());
        const std::vector<float> exact = y;
        rotate_forward(rotation, y.data());
        rotate_inverse(rotation, y.data());
        double error = 0;
        for (std::size_t j = 0; j < d; ++j)
            error += (static_cast<double>(y[j]) - exact[j]) * (static_cast<double>(y[j]) - exact[j]);
        largest = std::max(largest, std::sqrt(error));
    }
    return largest;
}

}  // namespace

Rows rotation_rows(const Options& options) {
    struct Case {
        int dim;
        Rotation kind;
    };
    std::vector<Case> cases;
    for (const Rotation kind : {Rotation::hadamard, Rotation::haar})
        for (const int dim : supported_head_dims()) cases.push_back({dim, kind});
    Rows rows(2 * cases.size());
    parallel(options.threads, static_cast<int>(cases.size()), [&](int i) {
        const auto [dim, kind] = cases[static_cast<std::size_t>(i)];
        const bool haar = kind == Rotation::haar;
        const auto rotation = rotation_tables(dim, kind, Spec{}.seed, Side::key);
        const char* name = haar ? "Haar" : "Hadamard";
        // Columns: butterflies of unit vectors are exact, the factor 1 / sqrt(d) is rounded once and so is the product; the entries of a
        // Haar matrix are rounded once. A dot product of two columns of unit length takes over both columns' relative errors.
        const double bound = (haar ? 2 : 4) * 1.01 * kHalfUlp;
        rows[2 * static_cast<std::size_t>(i)] = {"rotations",
                                                 fmt::format("{}, d={}: max |R^T R - I|", name, dim),
                                                 std::nullopt,
                                                 0.0,
                                                 largest_deviation(*rotation),
                                                 std::nullopt,
                                                 bound,
                                                 fmt::format("{} roundings of 2^-24 per pair of entries", haar ? 2 : 4)};
        // There and back: an output passes `steps` roundings on each way, each of at most half an ulp, 2^-24, of a vector whose length is
        // kept. They have no common direction and add up like a random walk; four of its deviations.
        int steps = haar ? dim : rotation->base + 3;
        for (int run = rotation->run; run > 1 && !haar; run /= 2) ++steps;
        rows[2 * static_cast<std::size_t>(i) + 1] = {
            "rotations",
            fmt::format("{}, d={}: there and back", name, dim),
            std::nullopt,
            0.0,
            round_trip_error(*rotation),
            std::nullopt,
            4 * std::sqrt(2.0 * steps) * kHalfUlp,
            fmt::format("four deviations of a random walk of 2 x {} roundings of 2^-24", steps)};
    });
    return rows;
}

}  // namespace turboquant::validation

// Estimator `prod` (Algorithm 2), the product's own (core/schemes): unbiased, and with the variance that its residual has.
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "core/scheme.hpp"
#include "core/schemes/mse_code.hpp"
#include "core/study/random.hpp"
#include "core/study/theory.hpp"
#include "validation/product.hpp"
#include "validation/row.hpp"

namespace turboquant::validation {
namespace {

constexpr int kDim = 128;
constexpr double kPaperVariance[] = {1.57, 0.56, 0.18, 0.047};  // times |y|^2 / d, below Theorem 2, b = 1 .. 4

// One bit: nothing but the sketch. The product has no such width, so it is made here, from the same definition.
struct Residual {
    double product;  // <x, decoded x>
    double error;    // |x - decoded x|^2
};
Residual sketch_only(std::uint64_t seed, std::uint64_t vector) {
    std::vector<double> x(kDim), row(kDim), decoded(kDim, 0.0);
    study::fill_unit_vector(seed + 1, vector, x);
    for (int i = 0; i < kDim; ++i) {
        study::fill_normal(seed, static_cast<std::uint64_t>(i), row);
        const double sign = study::dot(row, x) < 0 ? -1 : 1;
        for (int j = 0; j < kDim; ++j) decoded[static_cast<std::size_t>(j)] += sign * row[static_cast<std::size_t>(j)];
    }
    const double factor = std::sqrt(std::numbers::pi / 2) / kDim;
    Residual r{0, 0};
    for (std::size_t j = 0; j < kDim; ++j) {
        const double d = factor * decoded[j];
        r.product += x[j] * d;
        r.error += (x[j] - d) * (x[j] - d);
    }
    return r;
}

}  // namespace

Spec product_spec(int bits, Sketch sketch) {
    Spec spec = find_preset("paper-k3v2").value().spec;
    spec.head_dim = kDim;
    spec.key_bits = bits;
    spec.sketch = sketch;
    return spec;
}

double residual_factor(Sketch sketch, int dim) {
    const double pi = std::numbers::pi;
    if (sketch == Sketch::gaussian) return pi / 2 - 1.0 / dim;
    // S is sqrt(d) times an orthogonal matrix: the decoded residual has the length 1 / (sqrt(d) m), m = E |u_1| of a unit vector u.
    const double m = std::exp(std::lgamma(dim / 2.0) - std::lgamma((dim + 1) / 2.0)) / std::sqrt(pi);
    return 1 / (dim * m * m) - 1;
}

ProductError measure_product(const Options& options, int bits, Sketch sketch) {
    const int seeds = options.quick ? 24 : 96, vectors = options.quick ? 20 : 50;  // S is drawn anew for each seed
    std::vector<double> product(static_cast<std::size_t>(seeds)), error(static_cast<std::size_t>(seeds));
    parallel(options.threads, seeds, [&](int s) {
        Spec spec = product_spec(bits, sketch);
        spec.seed = 0x9d0d + static_cast<std::uint64_t>(s);
        spec.rotation =
            sketch == Sketch::orthogonal ? Rotation::haar : Rotation::hadamard;  // an orthogonal S is of the rotation's kind
        const auto scheme = bits == 1 ? nullptr : make_scheme(spec, Side::key);
        std::vector<std::uint8_t> record(scheme ? scheme->record_bytes() : 0);
        std::vector<double> products, errors;
        for (int i = 0; i < vectors; ++i) {
            if (!scheme) {
                const Residual r = sketch_only(spec.seed, static_cast<std::uint64_t>(i));
                products.push_back(r.product);
                errors.push_back(r.error);
                continue;
            }
            std::vector<double> x(kDim);
            study::fill_unit_vector(spec.seed, static_cast<std::uint64_t>(i), x);
            const std::vector<float> in(x.begin(), x.end());
            std::vector<float> out(kDim);
            scheme->encode(in.data(), record.data());
            scheme->decode(record.data(), out.data());
            double dot = 0, difference = 0;
            for (std::size_t j = 0; j < kDim; ++j) {
                dot += static_cast<double>(in[j]) * out[j];
                difference += (static_cast<double>(in[j]) - out[j]) * (static_cast<double>(in[j]) - out[j]);
            }
            products.push_back(dot);
            errors.push_back(difference);
        }
        product[static_cast<std::size_t>(s)] = sample_of(products).mean;
        error[static_cast<std::size_t>(s)] = sample_of(errors).mean;
    });
    return {sample_of(product), sample_of(error)};
}

double base_distortion(int bits, int dim) {
    if (bits == 0) return 1;
    const std::vector<float> levels = unit_levels(bits);
    return study::codebook_distortion(Density::beta, dim, {levels.begin(), levels.end()});
}

Rows product_rows(const Options& options) {
    Rows rows;
    for (const Sketch sketch : {Sketch::gaussian, Sketch::orthogonal}) {
        const bool gaussian = sketch == Sketch::gaussian;
        for (int bits = gaussian ? 1 : 2; bits <= 4; ++bits) {
            const ProductError found = measure_product(options, bits, sketch);
            const std::string where = fmt::format("{} S, d={} b={}", gaussian ? "Gaussian" : "orthogonal", kDim, bits);
            rows.push_back(row_of("prod", where + ": <x, decoded x> of unit vectors", 1.0, 1.0, found.product, 0x1p-11,
                                  "binary16's rounding"));
            // For a unit query in a random direction the squared error of the product is |x - decoded x|^2 / d.
            const double theory = residual_factor(sketch, kDim) * base_distortion(bits - 1, kDim);
            const std::optional<double> paper = gaussian ? std::optional(kPaperVariance[bits - 1]) : std::nullopt;
            rows.push_back(row_of("prod", where + ": variance of <y, decoded x>, times d", paper, theory, found.error,
                                  theory * 0x1p-10, "binary16's rounding"));
            const double bound = study::theorem2_bound(bits, kDim) * kDim;
            rows.push_back({"prod", "Theorem 2, " + where, std::nullopt, bound, found.error.mean, study::theorem3_bound(bits),
                            bound, "between Theorem 3's lower bound, 4^-b, and Theorem 2's"});
        }
    }
    return rows;
}

}  // namespace turboquant::validation

// TurboQuant_prod (arXiv 2504.19874, Algorithm 2): the rotated vector in one bit less per coordinate, and for what that leaves, the
// residual, its norm and one sign per row of a random matrix S. Products with any q are unbiased over S.
//
// The paper sketches the residual in the space of x; S here works in rotated space, which saves a rotation and, S being as random
// in one as in the other, changes nothing else.
//
// Record: codes, a bit string of head_dim (bits - 1)-bit codes; signs, bit j for row j of S (set: minus); |x|; |residual|.
#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <numbers>
#include <tuple>

#include "core/half.hpp"
#include "core/reference.hpp"
#include "core/schemes/mse_code.hpp"
#include "core/schemes/schemes.hpp"

namespace turboquant {
namespace {

// S, ready for products from both sides.
struct SketchMatrix {
    int dim;
    std::vector<float> rows;                         // gaussian: [dim][dim]
    std::vector<float> columns;                      // gaussian: transposed
    std::shared_ptr<const RotationTables> rotation;  // orthogonal
    float root = 0;                                  // orthogonal: sqrt(dim)

    // out = S x, each sum in ascending order of x.
    void forward(const float* x, float* out) const {
        if (rotation) {
            scaled_copy(x, out);
            return rotate_forward(*rotation, out);
        }
        product(columns, x, out);
    }
    // out = S transposed x.
    void transposed(const float* x, float* out) const {
        if (rotation) {
            scaled_copy(x, out);
            return rotate_inverse(*rotation, out);
        }
        product(rows, x, out);
    }

private:
    void scaled_copy(const float* x, float* out) const {
        for (int j = 0; j < dim; ++j) out[j] = root * x[j];
    }
    void product(const std::vector<float>& by_input, const float* x, float* out) const {
        std::fill_n(out, dim, 0.0f);
        for (int j = 0; j < dim; ++j) add_scaled(x[j], by_input.data() + static_cast<std::size_t>(j) * dim, dim, out);
    }
};

// One matrix per (dim, seed) for as long as a scheme uses it: every layer has the same.
std::shared_ptr<const SketchMatrix> sketch_matrix(const Spec& spec) {
    static std::mutex mutex;
    static std::map<std::tuple<int, std::uint64_t, Sketch, Rotation>, std::weak_ptr<const SketchMatrix>> made;
    const int d = spec.head_dim;
    const std::lock_guard lock(mutex);
    auto& entry = made[{d, spec.seed, spec.sketch, spec.rotation}];
    if (auto alive = entry.lock()) return alive;
    auto matrix = std::make_shared<SketchMatrix>();
    matrix->dim = d;
    if (spec.sketch == Sketch::orthogonal) {
        matrix->rotation = rotation_tables(d, spec.rotation, spec.seed, kSketchStream);
        matrix->root = std::sqrt(static_cast<float>(d));
    } else {
        matrix->rows = normal_matrix(d, spec.seed, kSketchStream);
        matrix->columns.resize(matrix->rows.size());
        for (int i = 0; i < d; ++i) {
            for (int j = 0; j < d; ++j)
                matrix->columns[static_cast<std::size_t>(j) * d + i] = matrix->rows[static_cast<std::size_t>(i) * d + j];
        }
    }
    std::erase_if(made, [&](const auto& other) { return other.second.expired() && &other.second != &entry; });
    entry = matrix;
    return matrix;
}

class ProdScheme final : public RowScheme {
public:
    ProdScheme(const Spec& spec, Side side, int bits)
        : code_(rotation_tables(spec.head_dim, spec.rotation, spec.seed, side), unit_levels(bits - 1)),
          sketch_(sketch_matrix(spec)),
          factor_(static_cast<float>(sketch_factor(spec.sketch, spec.head_dim))) {}

    int head_dim() const override { return code_.dim(); }
    std::size_t record_bytes() const override { return norms_offset() + 4; }
    std::size_t own_bytes() const override { return sizeof *this; }

    void encode(const float* x, std::uint8_t* record) const override {
        const int d = head_dim();
        float y[kMaxVector], level[kMaxVector], sketch[kMaxVector];
        std::copy_n(x, d, y);
        rotate_forward(code_.rotation(), y);
        std::uint16_t norm, residual_norm = 0;
        code_.encode_rotated(y, record, &norm);
        std::memset(record + signs_offset(), 0, norms_offset() - signs_offset());
        if (norm == 0 || std::isnan(half_to_float(norm))) {
            residual_norm = norm;
        } else {
            code_.unpack(record, level);
            const float unit = code_.unit(norm);
            for (int j = 0; j < d; ++j) y[j] = y[j] - unit * level[j];
            sketch_->forward(y, sketch);
            for (int i = 0; i < d; ++i) record[signs_offset() + i / 8] |= static_cast<std::uint8_t>((sketch[i] < 0) << i % 8);
            for (int j = 0; j < d; ++j) y[j] = y[j] * y[j];
            residual_norm = float_to_half(std::min(std::sqrt(reference::tree_sum({y, static_cast<std::size_t>(d)})), 65504.0f));
        }
        store_half(record + norms_offset(), norm);
        store_half(record + norms_offset() + 2, residual_norm);
    }

    void decode(const std::uint8_t* record, float* x) const override {
        float sum[2 * kMaxVector] = {};
        const float one = 1;
        accumulate(&one, 1, record, sum);
        finish(sum, x);
    }

    // R q, then factor * S R q.
    std::size_t prepared_numbers() const override { return 2 * static_cast<std::size_t>(head_dim()); }
    void prepare(const float* q, float* prepared) const override {
        const int d = head_dim();
        std::copy_n(q, d, prepared);
        rotate_forward(code_.rotation(), prepared);
        sketch_->forward(prepared, prepared + d);
        for (int i = 0; i < d; ++i) prepared[d + i] *= factor_;
    }

    void scores(const float* prepared, int num_queries, const std::uint8_t* record, float* scores) const override {
        const int d = head_dim();
        const Unpacked x(*this, record);
        for (int r = 0; r < num_queries; ++r, prepared += 2 * d) {
            scores[r] = x.unit * dot_product(prepared, x.level, d) + x.residual * dot_product(prepared + d, x.sign, d);
        }
    }

    // The sum of the codes in rotated space, then the sum of the signs.
    std::size_t sum_numbers() const override { return 2 * static_cast<std::size_t>(head_dim()); }
    void accumulate(const float* weights, int num_sums, const std::uint8_t* record, float* sums) const override {
        const int d = head_dim();
        const Unpacked x(*this, record);
        for (int r = 0; r < num_sums; ++r, sums += 2 * d) {
            if (weights[r] == 0) continue;
            add_scaled(weights[r] * x.unit, x.level, d, sums);
            add_scaled(weights[r] * x.residual, x.sign, d, sums + d);
        }
    }

    void finish(const float* sum, float* out) const override {
        const int d = head_dim();
        float back[kMaxVector];
        sketch_->transposed(sum + d, back);
        for (int j = 0; j < d; ++j) back[j] = sum[j] + factor_ * back[j];
        rotate_inverse(code_.rotation(), back);
        std::copy_n(back, d, out);
    }

private:
    std::size_t signs_offset() const { return code_.packed_bytes(); }
    std::size_t norms_offset() const { return signs_offset() + static_cast<std::size_t>(head_dim()) / 8; }

    // What a record holds: the vector is R^-1 (unit * level + residual * factor * S^T sign).
    struct Unpacked {
        float level[kMaxVector], sign[kMaxVector], unit, residual;

        Unpacked(const ProdScheme& scheme, const std::uint8_t* record) {
            scheme.code_.unpack(record, level);
            const std::uint8_t* bits = record + scheme.signs_offset();
            for (int i = 0; i < scheme.head_dim(); ++i) sign[i] = bits[i / 8] >> i % 8 & 1 ? -1.0f : 1.0f;
            unit = scheme.code_.unit(load_half(record + scheme.norms_offset()));
            residual = half_to_float(load_half(record + scheme.norms_offset() + 2));
        }
    };

    MseCode code_;
    std::shared_ptr<const SketchMatrix> sketch_;
    float factor_;
};

}  // namespace

double sketch_factor(Sketch sketch, int head_dim) {
    const double d = head_dim;
    if (sketch == Sketch::gaussian) return std::sqrt(std::numbers::pi / 2) / d;
    const double mean_magnitude = std::exp(std::lgamma(d / 2) - std::lgamma((d + 1) / 2)) / std::sqrt(std::numbers::pi);
    return 1 / (d * std::sqrt(d) * mean_magnitude);
}

std::unique_ptr<const RowScheme> make_prod_scheme(const Spec& spec, Side side) {
    return std::make_unique<ProdScheme>(spec, side, side == Side::key ? spec.key_bits : spec.value_bits);
}

}  // namespace turboquant

// Outlier channels apart (arXiv 2504.19874, section 4.3): the loudest quarter of a head's channels and the other three quarters are two
// vectors, each with a rotation, codes and a norm of its own; the outliers' codes have one bit more. At head_dim 128 a 2-bit vector
// takes 32 * 3 + 96 * 2 bits and two 16-bit norms: 2.5 bits per number.
//
// Record: codes of the outliers, codes of the others (bit strings, each filled up to a whole byte); their norms, binary16.
#include <algorithm>

#include "core/half.hpp"
#include "core/schemes/mse_code.hpp"
#include "core/schemes/schemes.hpp"

namespace turboquant {
namespace {

MseCode part_code(const Spec& spec, int dim, std::uint64_t stream, int bits) {
    return {rotation_tables(dim, spec.rotation, spec.seed, stream), unit_levels(bits)};
}

// Sums and prepared queries are in rotated space, outliers first.
class SplitScheme final : public RowScheme {
public:
    SplitScheme(const Spec& spec, Side side, int bits, std::span<const std::uint16_t> outliers)
        : outliers_(part_code(spec, num_outliers(spec.head_dim), outlier_stream(side), bits + 1)),
          others_(part_code(spec, spec.head_dim - num_outliers(spec.head_dim), ordinary_stream(side), bits)),
          channels_(outliers.begin(), outliers.end()) {
        for (int j = 0; j < spec.head_dim; ++j) {
            if (!std::binary_search(outliers.begin(), outliers.end(), j)) channels_.push_back(static_cast<std::uint16_t>(j));
        }
    }

    int head_dim() const override { return outliers_.dim() + others_.dim(); }
    std::size_t record_bytes() const override { return norms_offset() + 4; }
    std::size_t own_bytes() const override { return sizeof *this + 2 * channels_.size(); }

    void encode(const float* x, std::uint8_t* record) const override {
        float y[kMaxVector];
        prepare(x, y);
        std::uint16_t norm;
        outliers_.encode_rotated(y, record, &norm);
        store_half(record + norms_offset(), norm);
        others_.encode_rotated(y + outliers_.dim(), record + outliers_.packed_bytes(), &norm);
        store_half(record + norms_offset() + 2, norm);
    }

    void decode(const std::uint8_t* record, float* x) const override {
        float sum[kMaxVector] = {};
        const float one = 1;
        accumulate(&one, 1, record, sum);
        finish(sum, x);
    }

    std::size_t prepared_numbers() const override { return channels_.size(); }
    void prepare(const float* q, float* prepared) const override {
        for (std::size_t i = 0; i < channels_.size(); ++i) prepared[i] = q[channels_[i]];
        rotate_forward(outliers_.rotation(), prepared);
        rotate_forward(others_.rotation(), prepared + outliers_.dim());
    }

    void scores(const float* prepared, int num_queries, const std::uint8_t* record, float* scores) const override {
        float y[kMaxVector];
        unpack(record, y);
        for (int r = 0; r < num_queries; ++r)
            scores[r] = dot_product(prepared + static_cast<std::size_t>(r) * head_dim(), y, head_dim());
    }

    std::size_t sum_numbers() const override { return channels_.size(); }
    void accumulate(const float* weights, int num_sums, const std::uint8_t* record, float* sums) const override {
        float y[kMaxVector];
        unpack(record, y);
        for (int r = 0; r < num_sums; ++r) {
            if (weights[r] != 0) add_scaled(weights[r], y, head_dim(), sums + static_cast<std::size_t>(r) * head_dim());
        }
    }
    void finish(const float* sum, float* out) const override {
        float y[kMaxVector];
        std::copy_n(sum, head_dim(), y);
        rotate_inverse(outliers_.rotation(), y);
        rotate_inverse(others_.rotation(), y + outliers_.dim());
        for (std::size_t i = 0; i < channels_.size(); ++i) out[channels_[i]] = y[i];
    }

private:
    std::size_t norms_offset() const { return outliers_.packed_bytes() + others_.packed_bytes(); }

    // One record's codewords times their units.
    void unpack(const std::uint8_t* record, float* y) const {
        outliers_.unpack(record, y);
        others_.unpack(record + outliers_.packed_bytes(), y + outliers_.dim());
        const float units[2] = {outliers_.unit(load_half(record + norms_offset())),
                                others_.unit(load_half(record + norms_offset() + 2))};
        for (int j = 0; j < head_dim(); ++j) y[j] *= units[j >= outliers_.dim()];
    }

    MseCode outliers_, others_;
    std::vector<std::uint16_t> channels_;  // the outliers, then the others, both ascending
};

}  // namespace

std::unique_ptr<const RowScheme> make_split_scheme(const Spec& spec, Side side, std::span<const std::uint16_t> outliers) {
    return std::make_unique<SplitScheme>(spec, side, side == Side::key ? spec.key_bits : spec.value_bits, outliers);
}

}  // namespace turboquant

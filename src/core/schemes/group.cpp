// Min-max groups, as the original project keeps values: not rotated; 32 numbers share a scale and a zero, and a number is
// zero + scale * code. Codes are evenly spaced from the group's smallest number to its largest.
//
// Record: codes, a bit string; then scale and zero of each group, binary16. A last group may be shorter.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/half.hpp"
#include "core/layout.hpp"
#include "core/schemes/mse_code.hpp"
#include "core/schemes/schemes.hpp"

namespace turboquant {
namespace {

constexpr std::uint16_t kNanHalf = 0x7e00;
constexpr float kLargestHalf = 65504;

class GroupScheme final : public RowScheme {
public:
    GroupScheme(int head_dim, int bits) : head_dim_(head_dim), bits_(bits) {}

    int head_dim() const override { return head_dim_; }
    std::size_t record_bytes() const override { return parameters_offset() + 4 * static_cast<std::size_t>(num_groups()); }
    std::size_t own_bytes() const override { return sizeof *this; }

    void encode(const float* x, std::uint8_t* record) const override {
        std::memset(record, 0, parameters_offset());
        for (int g = 0; g < num_groups(); ++g) encode_group(x, g, record);
    }

    void decode(const std::uint8_t* record, float* x) const override {
        std::fill_n(x, head_dim_, 0.0f);
        const float one = 1;
        accumulate(&one, 1, record, x);
    }

    // q, then its sum over each group.
    std::size_t prepared_numbers() const override { return static_cast<std::size_t>(head_dim_ + num_groups()); }
    void prepare(const float* q, float* prepared) const override {
        std::copy_n(q, head_dim_, prepared);
        for (int g = 0; g < num_groups(); ++g) {
            float sum = 0;
            for (int j = begin(g); j < end(g); ++j) sum += q[j];
            prepared[head_dim_ + g] = sum;
        }
    }

    void scores(const float* prepared, int num_queries, const std::uint8_t* record, float* scores) const override {
        float code[kMaxVector];
        unpack(record, code);
        for (int r = 0; r < num_queries; ++r, prepared += prepared_numbers()) {
            scores[r] = 0;
            for (int g = 0; g < num_groups(); ++g) {
                const auto [scale, zero] = group(record, g);
                scores[r] +=
                    scale * dot_product(prepared + begin(g), code + begin(g), end(g) - begin(g)) + zero * prepared[head_dim_ + g];
            }
        }
    }

    std::size_t sum_numbers() const override { return static_cast<std::size_t>(head_dim_); }
    void accumulate(const float* weights, int num_sums, const std::uint8_t* record, float* sums) const override {
        float code[kMaxVector];
        unpack(record, code);
        for (int r = 0; r < num_sums; ++r, sums += head_dim_) {
            if (weights[r] == 0) continue;
            for (int g = 0; g < num_groups(); ++g) {
                const auto [scale, zero] = group(record, g);
                const float step = weights[r] * scale, offset = weights[r] * zero;
                for (int j = begin(g); j < end(g); ++j) sums[j] += step * code[j] + offset;
            }
        }
    }
    void finish(const float* sum, float* out) const override { std::copy(sum, sum + head_dim_, out); }

private:
    struct Group {
        float scale, zero;
    };
    int num_groups() const { return (head_dim_ + kGroupNumbers - 1) / kGroupNumbers; }
    int begin(int g) const { return g * kGroupNumbers; }
    int end(int g) const { return std::min(head_dim_, (g + 1) * kGroupNumbers); }
    std::size_t parameters_offset() const { return RowLayout::packed_bytes(head_dim_, bits_); }
    Group group(const std::uint8_t* record, int g) const {
        const std::uint8_t* at = record + parameters_offset() + 4 * static_cast<std::size_t>(g);
        return {half_to_float(load_half(at)), half_to_float(load_half(at + 2))};
    }

    void encode_group(const float* x, int g, std::uint8_t* record) const {
        float smallest = std::numeric_limits<float>::infinity(), largest = -smallest;
        bool finite = true;
        for (int j = begin(g); j < end(g); ++j) {
            finite &= std::isfinite(x[j]);
            smallest = std::min(smallest, x[j]);
            largest = std::max(largest, x[j]);
        }
        const auto steps = static_cast<float>((1 << bits_) - 1);
        std::uint8_t* at = record + parameters_offset() + 4 * static_cast<std::size_t>(g);
        if (!finite) {
            store_half(at, kNanHalf);
            return store_half(at + 2, kNanHalf);
        }
        store_half(at, float_to_half(std::min((largest - smallest) / steps, kLargestHalf)));
        store_half(at + 2, float_to_half(std::clamp(smallest, -kLargestHalf, kLargestHalf)));
        const auto [scale, zero] = group(record, g);
        for (int j = begin(g); j < end(g) && scale > 0; ++j) {
            const float code = std::nearbyintf(std::clamp((x[j] - zero) / scale, 0.0f, steps));
            row_set_code(record, bits_, j, static_cast<int>(code));
        }
    }

    void unpack(const std::uint8_t* record, float* code) const {
        const int per_byte = 8 / bits_, mask = (1 << bits_) - 1;
        for (int j = 0; j < head_dim_; ++j) code[j] = static_cast<float>(record[j / per_byte] >> j % per_byte * bits_ & mask);
    }

    int head_dim_, bits_;
};

}  // namespace

std::unique_ptr<const RowScheme> make_group_scheme(const Spec& spec, Side side) {
    return std::make_unique<GroupScheme>(spec.head_dim, side == Side::key ? spec.key_bits : spec.value_bits);
}

}  // namespace turboquant

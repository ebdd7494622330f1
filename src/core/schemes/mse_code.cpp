#include "core/schemes/mse_code.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "core/codebook.hpp"
#include "core/half.hpp"
#include "core/layout.hpp"
#include "core/reference.hpp"

namespace turboquant {
namespace {

constexpr std::uint16_t kNanHalf = 0x7e00;

float factor_by(ScaleRule rule, float norm2, float dot, float power, float root) {
    switch (rule) {
        case ScaleRule::plain: return std::sqrt(norm2);
        case ScaleRule::norm_matched: return root * std::sqrt(norm2 / power);
        case ScaleRule::least_squares: return root * dot / power;
        case ScaleRule::unbiased: return root * norm2 / dot;
    }
    return 0;
}

}  // namespace

std::vector<float> unit_levels(int bits) {
    if (bits == 1) return {static_cast<float>(std::sqrt(2 / std::numbers::pi))};
    const Codebook& book = codebook(bits);
    std::vector<float> levels;
    for (int k = 0; k < book.half; ++k) levels.push_back(static_cast<float>(book.positive[k]) / book.alpha);
    return levels;
}

MseCode::MseCode(std::shared_ptr<const RotationTables> rotation, std::vector<float> levels, ScaleRule rule)
    : rotation_(std::move(rotation)), rule_(rule), positive_(std::move(levels)) {
    const int half = static_cast<int>(positive_.size());
    for (bits_ = 1; 1 << (bits_ - 1) < half;) ++bits_;
    level_.resize(2 * positive_.size());
    for (int k = 0; k < half; ++k) {
        threshold_.push_back(k == 0 ? 0.0f : 0.5f * (positive_[k - 1] + positive_[k]));
        level_[half + k] = positive_[k];
        level_[half - 1 - k] = -positive_[k];
    }
}

void MseCode::encode_rotated(const float* y, std::uint8_t* packed, std::uint16_t* factor) const {
    const int d = dim(), half = static_cast<int>(positive_.size());
    float terms[kMaxVector];
    for (int j = 0; j < d; ++j) terms[j] = y[j] * y[j];
    const float norm2 = reference::tree_sum({terms, static_cast<std::size_t>(d)});
    std::memset(packed, 0, packed_bytes());
    if (!(norm2 > 0) || std::isinf(norm2)) {
        for (int j = 0; j < d; ++j) row_set_code(packed, bits_, j, half);
        *factor = norm2 == 0 ? 0 : kNanHalf;
        return;
    }
    const float root = std::sqrt(static_cast<float>(d)), units = root / std::sqrt(norm2);
    float squares[kMaxVector];
    for (int j = 0; j < d; ++j) {
        const float magnitude = std::abs(y[j]) * units;
        int k = 0;
        while (k + 1 < half && magnitude >= threshold_[k + 1]) ++k;
        row_set_code(packed, bits_, j, std::signbit(y[j]) ? half - 1 - k : half + k);
        terms[j] = std::abs(y[j]) * positive_[k];
        squares[j] = positive_[k] * positive_[k];
    }
    const float dot = reference::tree_sum({terms, static_cast<std::size_t>(d)});
    const float power = reference::tree_sum({squares, static_cast<std::size_t>(d)});
    *factor = float_to_half(std::min(factor_by(rule_, norm2, dot, power, root), 65504.0f));
}

void MseCode::unpack(const std::uint8_t* packed, float* levels) const {
    std::uint32_t word = 0;
    int have = 0;
    const std::uint32_t mask = (1u << bits_) - 1;
    for (int j = 0; j < dim(); ++j) {
        if (have < bits_) {
            word |= static_cast<std::uint32_t>(*packed++) << have;
            have += 8;
        }
        levels[j] = level_[word & mask];
        word >>= bits_;
        have -= bits_;
    }
}

float MseCode::unit(std::uint16_t factor) const { return half_to_float(factor) * rotation_->norm; }

}  // namespace turboquant

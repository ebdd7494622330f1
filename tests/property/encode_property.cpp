// Encoding any floats, finite or not, gives codes in range and a scale that says what happened.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <bit>
#include <cmath>

#include "support/vectors.hpp"

namespace turboquant {
namespace {

int any_of(std::span<const int> choices) { return *rc::gen::elementOf(std::vector<int>(choices.begin(), choices.end())); }

Spec any_spec() {
    Spec spec = testing::spec_of(any_of(supported_head_dims()), any_of(supported_bits()));
    spec.gain_search = *rc::gen::arbitrary<bool>();
    return spec;
}

// A vector as attention makes them: one direction and size, a few outliers.
std::vector<float> ordinary_vector(int head_dim) {
    std::vector<float> x = testing::gaussian(head_dim, *rc::gen::arbitrary<std::uint64_t>(), 0,
                                             std::exp2(static_cast<float>(*rc::gen::inRange(-8, 8))));
    for (int i = *rc::gen::inRange(0, 4); i > 0; --i) x[*rc::gen::inRange(0, head_dim)] *= 30;
    return x;
}

RC_GTEST_PROP(Encode, AnyBitPatternsGiveCodesInRange, ()) {
    const Spec spec = any_spec();
    const Coder coder = make_coder(spec, *rc::gen::element(Side::key, Side::value));
    std::vector<float> x(spec.head_dim);
    const auto exponent_limit = *rc::gen::inRange(0u, 256u);  // below 143 all numbers fit binary16; 255 is infinity and NaN
    bool finite = true;
    for (float& v : x) {
        const auto bits = *rc::gen::arbitrary<std::uint32_t>();
        v = std::bit_cast<float>((bits & 0x807fffffu) | ((bits >> 23) % 256 * exponent_limit / 255) << 23);
        finite &= std::isfinite(v);
    }
    const testing::Encoded e = testing::encode(coder, x.data());
    for (const int code : e.codes) {
        RC_ASSERT(code < 1 << spec.key_bits);
        RC_ASSERT(spec.key_bits < 8 || code >= 1);
    }
    if (!finite) RC_ASSERT(e.scale == 0x7e00);
    if (exponent_limit <= 143) RC_ASSERT(e.scale < 0x7c00);
}

RC_GTEST_PROP(Encode, TheErrorIsBelowTheVector, ()) {
    const Spec spec = any_spec();
    const Coder coder = make_coder(spec, Side::key);
    const std::vector<float> x = ordinary_vector(spec.head_dim);
    const testing::Encoded e = testing::encode(coder, x.data());
    std::vector<float> decoded(spec.head_dim);
    reference::decode(coder, e.codes.data(), e.scale, decoded.data());
    testing::RelativeError error;
    error.add(x.data(), decoded.data(), x.size());
    // Far above the mean distortion of any width: .1175 at 2 bits with a spread of 2 / sqrt(head_dim).
    RC_ASSERT(error.value() < 1.6 * std::sqrt(3.0) * 3.15 / 2 * std::pow(4.0, -spec.key_bits));
}

RC_GTEST_PROP(Encode, RotationsKeepNormsAndAngles, ()) {
    const int head_dim = any_of(supported_head_dims());
    const auto tables = rotation_tables(head_dim, Rotation::hadamard, *rc::gen::inRange<std::uint64_t>(0, 8),
                                        *rc::gen::element(Side::key, Side::value));
    std::vector<float> x = ordinary_vector(head_dim), y = ordinary_vector(head_dim);
    const auto dot = [](const std::vector<float>& a, const std::vector<float>& b) {
        double sum = 0;
        for (std::size_t j = 0; j < a.size(); ++j) sum += static_cast<double>(a[j]) * b[j];
        return sum;
    };
    const double xx = dot(x, x), yy = dot(y, y), xy = dot(x, y);
    rotate_forward(*tables, x.data());
    rotate_forward(*tables, y.data());
    RC_ASSERT(std::abs(dot(x, x) - xx) < 1e-5 * xx);
    RC_ASSERT(std::abs(dot(x, y) - xy) < 1e-5 * std::sqrt(xx * yy));
}

RC_GTEST_PROP(Seal, PermutingTokensPermutesCodes, ()) {
    const Spec spec = testing::spec_of(64, any_of(supported_bits()));
    const Coder coder = make_coder(spec, Side::value);
    const TileLayout layout{Side::value, 64, spec.value_bits};
    const testing::Tile tile(64, *rc::gen::arbitrary<std::uint32_t>());
    const int shift = *rc::gen::inRange(0, kTileTokens);
    const std::uint16_t* turned[kTileTokens];
    for (int t = 0; t < kTileTokens; ++t) turned[t] = tile.rows[(t + shift) % kTileTokens];
    std::vector<std::uint8_t> one(layout.blob_bytes()), other(layout.blob_bytes());
    reference::seal_tile(coder, tile.rows, testing::kAllRows, false, one.data());
    reference::seal_tile(coder, turned, testing::kAllRows, false, other.data());
    for (int t = 0; t < kTileTokens; ++t) {
        const int from = (t + shift) % kTileTokens;
        for (int j = 0; j < 64; ++j)
            RC_ASSERT(tile_get_code(layout, other.data(), t, j) == tile_get_code(layout, one.data(), from, j));
    }
}

}  // namespace
}  // namespace turboquant

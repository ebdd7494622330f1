// Rotation and encoding against core's reference, bit for bit.
#include "cpu/coder_params.hpp"
#include "parity/cases.hpp"
#include "parity/support.hpp"

namespace turboquant::parity {
namespace {

Coder coder_of(int dim, int bits, bool gain_search = true, Rotation rotation = Rotation::hadamard, bool trellis = true) {
    Spec spec = testing::spec_of(dim, bits);
    spec.trellis_codes = trellis;
    spec.gain_search = gain_search;
    spec.rotation = rotation;
    return make_coder(spec, bits % 2 ? Side::value : Side::key);
}

Coder other_side(Coder coder) {
    coder.side = coder.side == Side::key ? Side::value : Side::key;
    return coder;
}

void expect_same_codes(const Coder& coder, int num, std::uint64_t seed) {
    const int d = coder.head_dim;
    const cpu::CoderParams params = cpu::coder_params(coder);
    const std::vector<float> x = make_vectors(num, d, seed);
    std::vector<std::uint8_t> expected(x.size()), found(x.size() + 1, 0xee);
    std::vector<std::uint16_t> expected_scales(num), found_scales(num);
    for (int i = 0; i < num; ++i) reference::encode(coder, &x[static_cast<std::size_t>(i) * d], &expected[static_cast<std::size_t>(i) * d], &expected_scales[i]);
    std::vector<float> scales(num + 1, -7.0f);
    cpu::kernels().encode(params, x.data(), num, found.data(), scales.data());
    EXPECT_EQ(found.back(), 0xee) << "written beyond the last code";
    EXPECT_EQ(scales.back(), -7.0f) << "written beyond the last scale";
    found.pop_back();
    cpu::kernels().floats_to_halves(scales.data(), found_scales.data(), num);
    EXPECT_TRUE(same_bits(found, expected)) << "codes; vectors of " << d;
    EXPECT_TRUE(same_bits(found_scales, expected_scales)) << "scales";
}

TEST(Encode, CodesAndScalesAtEveryDimAndWidth) {
    for (const int dim : supported_head_dims()) {
        for (const int bits : supported_bits()) {
            SCOPED_TRACE(::testing::Message() << "head_dim " << dim << ", " << bits << " bits");
            constexpr int kNum = 2 * static_cast<int>(std::size(kInputs)) + 1;
            expect_same_codes(coder_of(dim, bits), kNum, dim + bits);
            if (bits > kMaxTrellisBits) continue;
            expect_same_codes(other_side(coder_of(dim, bits)), kNum, dim + bits + 1);  // another order
            expect_same_codes(coder_of(dim, bits, true, Rotation::hadamard, false), kNum, dim + bits + 2);
        }
    }
}

TEST(Encode, AnyNumberOfVectors) {
    for (const int num : kVectorCounts) {
        SCOPED_TRACE(num);
        expect_same_codes(coder_of(80, 3), num, num);
        expect_same_codes(coder_of(64, 8), num, num + 1);
    }
}

TEST(Encode, WithoutGainSearch) {
    for (const int bits : supported_bits()) expect_same_codes(coder_of(96, bits, false), 20, bits);
}

TEST(Encode, WithTheHaarRotation) {
    for (const int bits : {2, 4, 8}) expect_same_codes(coder_of(80, bits, true, Rotation::haar), 33, bits);
}

// x is rotated by kernels and by core; NaNs are compared as such, since which of two NaNs survives an addition is not defined.
void expect_same_rotation(int dim, Rotation rotation, int num) {
    const Coder coder = coder_of(dim, 4, true, rotation);
    const cpu::CoderParams params = cpu::coder_params(coder);
    const std::vector<float> x = make_vectors(num, dim, dim);
    std::vector<float> forward = x, inverse = x, found = x;
    for (int i = 0; i < num; ++i) {
        rotate_forward(*coder.rotation, &forward[static_cast<std::size_t>(i) * dim]);
        rotate_inverse(*coder.rotation, &inverse[static_cast<std::size_t>(i) * dim]);
    }
    cpu::kernels().rotate(params, found.data(), num);
    EXPECT_TRUE(same_bits(with_plain_nans(found), with_plain_nans(forward))) << "rotate; " << num << " vectors of " << dim;
    found = x;
    cpu::kernels().unrotate(params, found.data(), num);
    EXPECT_TRUE(same_bits(with_plain_nans(found), with_plain_nans(inverse))) << "unrotate; " << num << " vectors of " << dim;
}

TEST(Rotate, EveryDim) {
    for (const int dim : supported_head_dims()) expect_same_rotation(dim, Rotation::hadamard, 33);
}

TEST(Rotate, AnyNumberOfVectors) {
    for (const int num : kVectorCounts) expect_same_rotation(112, Rotation::hadamard, num);
}

TEST(Rotate, Haar) {
    for (const int dim : {64, 112}) expect_same_rotation(dim, Rotation::haar, 17);
}

}  // namespace
}  // namespace turboquant::parity

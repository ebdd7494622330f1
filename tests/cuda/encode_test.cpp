// The warp's encoder, lane by lane on the CPU, is the reference's bit for bit.
#include "cuda/device/encode.cuh"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "core/reference.hpp"
#include "cuda/append/book.hpp"
#include "cuda/checks.hpp"
#include "fibers.hpp"

namespace turboquant {
namespace {

template <int kHeadDim>
void check(int bits, Side side, bool gain_search, const std::vector<float>& x) {
    Spec spec;
    spec.head_dim = kHeadDim;
    spec.key_bits = spec.value_bits = bits;
    spec.trellis_codes = false;
    spec.gain_search = gain_search;
    const Coder coder = make_coder(spec, side);
    std::vector<std::uint8_t> want(kHeadDim), got(kHeadDim);
    std::uint16_t want_scale, got_scale = 0;
    reference::encode(coder, x.data(), want.data(), &want_scale);
    const device::EncodeBook book = cuda::encode_book(bits, side, gain_search);
    const cuda::RotationBits rotation = cuda::rotation_bits(kHeadDim, spec.seed, side, false);
    test::Warp::run([&] {
        constexpr int kNum = device::RotationShape<kHeadDim>::kPadded / 32;
        float y[kNum];
        std::uint8_t codes[kNum];
        const int lane = device::lane_id();
        for (int k = 0; k < kNum; ++k) y[k] = lane + 32 * k < kHeadDim ? x[lane + 32 * k] : 0;
        const auto encode = [&]<int kBits>() { return device::encode_vector<kHeadDim, kBits>(book, y, cuda::rotation_norm(kHeadDim), rotation.sign, rotation.paley, codes); };
        const std::uint16_t scale = bits == 2 ? encode.template operator()<2>() : bits == 3 ? encode.template operator()<3>() : bits == 4 ? encode.template operator()<4>()
                                                                                                                                  : encode.template operator()<8>();
        if (lane == 0) got_scale = scale;
        for (int k = 0; k < kNum; ++k) {
            if (lane + 32 * k < kHeadDim) got[lane + 32 * k] = codes[k];
        }
    });
    ASSERT_EQ(got, want) << kHeadDim << " x " << bits;
    ASSERT_EQ(got_scale, want_scale) << kHeadDim << " x " << bits;
}

template <int kHeadDim>
void check_all() {
    std::mt19937 engine(kHeadDim);
    std::normal_distribution<float> normal;
    for (int bits : {2, 3, 4, 8}) {
        for (Side side : {Side::key, Side::value}) {
            std::vector<float> x(kHeadDim);
            for (float magnitude : {1.0f, 1e-20f, 3e4f}) {
                for (float& v : x) v = magnitude * normal(engine) * std::exp(normal(engine));
                check<kHeadDim>(bits, side, true, x);
                check<kHeadDim>(bits, side, false, x);
            }
            std::fill(x.begin(), x.end(), 0.0f);
            check<kHeadDim>(bits, side, true, x);
            x[3] = 2;
            check<kHeadDim>(bits, side, true, x);
            x[kHeadDim - 1] = INFINITY;
            check<kHeadDim>(bits, side, true, x);
            x[0] = NAN;
            check<kHeadDim>(bits, side, true, x);
        }
    }
}

TEST(WarpEncode, HeadDim64) { check_all<64>(); }
TEST(WarpEncode, HeadDim80) { check_all<80>(); }
TEST(WarpEncode, HeadDim96) { check_all<96>(); }
TEST(WarpEncode, HeadDim112) { check_all<112>(); }
TEST(WarpEncode, HeadDim128) { check_all<128>(); }
TEST(WarpEncode, HeadDim192) { check_all<192>(); }
TEST(WarpEncode, HeadDim256) { check_all<256>(); }

}  // namespace
}  // namespace turboquant

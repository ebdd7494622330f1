// The warp's encoder, lane by lane on the CPU, is the reference's bit for bit.
#include "cuda/device/encode.cuh"
#include "cuda/device/pack.cuh"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
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

// A lane's packed words are those that the layout's own functions write, for any tokens that are there.
template <int kHeadDim, int kBits, Side kSide>
void check_packing(std::uint64_t present) {
    constexpr PageSide layout{kSide, kHeadDim, kBits};
    constexpr int D = layout.padded_dim();
    std::mt19937 engine(kHeadDim + kBits);
    std::vector<std::uint8_t> rows(static_cast<std::size_t>(kPageTokens) * D, 0), want(layout.codes_bytes(), 0), got(want.size(), 0xff);
    for (int token = 0; token < kPageTokens; ++token) {
        for (int j = 0; j < D; ++j) {
            rows[token * D + j] = static_cast<std::uint8_t>(engine() & ((1 << kBits) - 1));
            if (present >> token & 1) page_set_code(layout, want.data(), token, j, rows[token * D + j]);
        }
    }
    test::Warp::run([&] {
        for (int group = 0; group < D / 16; ++group) {
            std::uint32_t codes[8], words[kBits];
            device::group_codes<D, kSide>(
                group,
                [&](int token, int word) {
                    std::uint32_t four = 0;
                    if (present >> token & 1) std::memcpy(&four, &rows[token * D + 4 * word], 4);
                    return four;
                },
                codes);
            device::pack_group<kBits>(codes, words);
            for (int w = 0; w < kBits; ++w) std::memcpy(&got[layout.word_offset(device::lane_id(), layout.group_word(group, w))], &words[w], 4);
        }
    });
    ASSERT_EQ(got, want) << "head_dim " << kHeadDim << ", " << kBits << " bits, side " << static_cast<int>(kSide);
}

template <int kHeadDim, int kBits>
void check_packing() {
    for (std::uint64_t present : {~0ull, 1ull << 37, 0x00ff00f0ull}) {
        check_packing<kHeadDim, kBits, Side::key>(present);
        check_packing<kHeadDim, kBits, Side::value>(present);
    }
}

TEST(Packing, WordsAreThoseOfTheLayout) {
    check_packing<128, 2>();
    check_packing<128, 3>();
    check_packing<128, 4>();
    check_packing<128, 8>();
    check_packing<64, 3>();
    check_packing<80, 4>();
    check_packing<192, 3>();
    check_packing<256, 2>();
}

}  // namespace
}  // namespace turboquant

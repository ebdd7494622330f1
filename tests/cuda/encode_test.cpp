// The warp's encoder, lane by lane on the CPU, is the reference's bit for bit.
#include "cuda/device/encode.cuh"
#include "cuda/device/pack.cuh"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/codebook.hpp"
#include "core/reference.hpp"
#include "cuda/append/book.hpp"
#include "cuda/checks.hpp"
#include "fibers.hpp"

namespace turboquant {
namespace {

// A warp's vectors, one for each group of kLanes lanes; x of all of them, one after another.
template <int kHeadDim, int kLanes>
void check(int bits, Side side, bool gain_search, const std::vector<float>& x) {
    constexpr int kVectors = 32 / kLanes;
    Spec spec;
    spec.head_dim = kHeadDim;
    spec.key_bits = spec.value_bits = bits;
    spec.trellis_codes = false;
    spec.gain_search = gain_search;
    const Coder coder = make_coder(spec, side);
    std::vector<std::uint8_t> want(kVectors * kHeadDim), got(kVectors * kHeadDim);
    std::vector<std::uint16_t> want_scale(kVectors), got_scale(kVectors);
    for (int v = 0; v < kVectors; ++v) reference::encode(coder, &x[v * kHeadDim], &want[v * kHeadDim], &want_scale[v]);
    const device::EncodeBook book = cuda::encode_book(bits, side, gain_search);
    const cuda::RotationBits rotation = cuda::rotation_bits(kHeadDim, spec.seed, side, false);
    device::LevelTable table{};
    const auto with_bits = [&](auto&& work) {
        if (bits == 2) work.template operator()<2>();
        else if (bits == 3) work.template operator()<3>();
        else if (bits == 4) work.template operator()<4>();
        else work.template operator()<8>();
    };
    with_bits([&]<int kBits>() {
        for (int i = 0; kBits < 8 && i < 64; ++i) device::fill_level_row<kBits < 8 ? kBits : 2>(table, i / 8, i % 8);
    });
    test::Warp::run([&] {
        constexpr int kNum = device::kEncodeNumbers<kHeadDim, kLanes>;
        float y[kNum];
        const int lane = device::lane_id() % kLanes, v = device::lane_id() / kLanes;
        for (int k = 0; k < kNum; ++k) y[k] = lane + kLanes * k < kHeadDim ? x[v * kHeadDim + lane + kLanes * k] : 0;
        with_bits([&]<int kBits>() {
            const auto store = [&](int k, int code) {
                if (lane + kLanes * k < kHeadDim) got[v * kHeadDim + lane + kLanes * k] = static_cast<std::uint8_t>(code);
            };
            const std::uint16_t scale = device::encode_vector<kHeadDim, kBits, kLanes>(book, table, y, cuda::rotation_norm(kHeadDim), rotation.sign, rotation.paley, store);
            if (lane == 0) got_scale[v] = scale;
        });
    });
    ASSERT_EQ(got, want) << kHeadDim << " x " << bits << ", " << kLanes << " lanes";
    ASSERT_EQ(got_scale, want_scale) << kHeadDim << " x " << bits << ", " << kLanes << " lanes";
}

template <int kHeadDim, int kLanes>
void check_lanes() {
    std::mt19937 engine(kHeadDim);
    std::normal_distribution<float> normal;
    for (int bits : {2, 3, 4, 8}) {
        for (Side side : {Side::key, Side::value}) {
            std::vector<float> x(kHeadDim * 32 / kLanes);
            for (float magnitude : {1.0f, 1e-20f, 3e4f}) {
                for (float& v : x) v = magnitude * normal(engine) * std::exp(normal(engine));
                check<kHeadDim, kLanes>(bits, side, true, x);
                check<kHeadDim, kLanes>(bits, side, false, x);
            }
            // Odd vectors among ordinary ones: the lanes of one group must not disturb another.
            std::fill_n(x.begin(), kHeadDim, 0.0f);
            check<kHeadDim, kLanes>(bits, side, true, x);
            x[3] = 2;
            check<kHeadDim, kLanes>(bits, side, true, x);
            x[kHeadDim - 1] = INFINITY;
            check<kHeadDim, kLanes>(bits, side, true, x);
            x[x.size() - kHeadDim] = NAN;
            check<kHeadDim, kLanes>(bits, side, true, x);
        }
    }
}

template <int kHeadDim>
void check_all() {
    check_lanes<kHeadDim, 32>();
    check_lanes<kHeadDim, 16>();
    if constexpr (kHeadDim <= 128) check_lanes<kHeadDim, 8>();
}

TEST(WarpEncode, HeadDim64) { check_all<64>(); }
TEST(WarpEncode, HeadDim80) { check_all<80>(); }
TEST(WarpEncode, HeadDim96) { check_all<96>(); }
TEST(WarpEncode, HeadDim112) { check_all<112>(); }
TEST(WarpEncode, HeadDim128) { check_all<128>(); }
TEST(WarpEncode, HeadDim192) { check_all<192>(); }
TEST(WarpEncode, HeadDim256) { check_all<256>(); }

// Vectors of variance 1 most of whose numbers lie on a threshold or next to it, at one gain or another: the last bit decides.
TEST(WarpEncode, NumbersBesideThresholds) {
    std::mt19937 engine(5);
    const RotationTables& rotation = *rotation_tables(128, Spec{}.rotation, Spec{}.seed, Side::key);
    for (int bits : {2, 3, 4}) {
        const Codebook& levels = codebook(bits);
        for (int round = 0; round < 20; ++round) {
            std::vector<float> y(4 * 128);
            for (int v = 0; v < 4; ++v) {
                float* own = &y[v * 128];
                double rest = -1;
                while (rest < 0) {
                    rest = 128;
                    for (int j = 1; j < 128; ++j) {
                        const int k = 1 + static_cast<int>(std::min(engine() % (levels.half - 1), engine() % (levels.half - 1)));
                        const float at = engine() % 4 == 0 ? 0.0f : levels.threshold[k] / (kGain[engine() % kGains] * levels.alpha);
                        own[j] = (engine() & 1 ? -1.0f : 1.0f) * std::nextafter(at, engine() & 1 ? 0.0f : 9.0f);
                        rest -= static_cast<double>(own[j]) * own[j];
                    }
                }
                own[0] = static_cast<float>(std::sqrt(rest));
                rotate_inverse(rotation, own);
            }
            check<128, 8>(bits, Side::key, true, y);
            check<128, 32>(bits, Side::key, true, std::vector<float>(y.begin(), y.begin() + 128));
        }
    }
}

TEST(Levels, AreThoseOfTheCodebook) {
    for (int bits : {2, 3, 4}) {
        const Codebook& levels = codebook(bits);
        for (int k = 0; k < levels.half; ++k) {
            EXPECT_EQ(device::threshold(bits, k), levels.threshold[k]);
            EXPECT_EQ(device::level_row(bits, k).squares.number[0], static_cast<float>(levels.positive[k]));
        }
    }
}

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

// A warp's work on pages, lane by lane on the CPU, against attention in double precision over what the reference decodes.
#include "cuda/device/page_math.cuh"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "core/half.hpp"
#include "core/page.hpp"
#include "core/paley.hpp"
#include "core/reference.hpp"
#include "cuda/device/async_copy.cuh"
#include "fibers.hpp"

namespace turboquant {
namespace {

struct Signs {
    std::uint32_t key[10] = {}, value[10] = {}, paley[32] = {}, paley_transposed[32] = {};
};

Signs signs_of(const RotationTables& keys, const RotationTables& values) {
    Signs s;
    for (int j = 0; j < keys.head_dim; ++j) {
        if (keys.sign[j] < 0) s.key[j / 32] |= 1u << (j % 32);
        if (values.sign[j] < 0) s.value[j / 32] |= 1u << (j % 32);
    }
    const PaleyBits bits = paley_bits(keys.base);
    for (int i = 0; i < bits.order; ++i) {
        s.paley[i] = bits.row[i];
        for (int a = 0; a < bits.order; ++a) s.paley_transposed[a] |= (bits.row[i] >> a & 1) << i;
    }
    return s;
}

struct Case {
    float sharpness = 1;      // of the queries
    float bias = 0;           // of the keys: what the reference takes away
    float cap = 0;            // soft cap
    int tokens = 0;           // visible to the last row; 0: all
    int window = 0;
    bool causal = false;      // row r sees r tokens fewer than the last
    bool sink = false;        // token 0 is looked at by all and has a tiny value
    bool nan_in_unused = false;
    bool halves = false;      // of pages, one after the other
};

template <int KB, int VB, int R, int HD>
void check(const Case& c) {
    using Math = device::PageMath<KB, VB, R, HD>;
    constexpr int D = Math::D, kPages = 3, T = kPages * kPageTokens;
    constexpr PageLayout layout{HD, KB, VB};
    Spec spec;
    spec.head_dim = HD;
    spec.key_bits = KB;
    spec.value_bits = VB;
    spec.trellis_codes = false;
    const Coder keys = make_coder(spec, Side::key), values = make_coder(spec, Side::value);
    const Signs signs = signs_of(*keys.rotation, *values.rotation);
    std::mt19937 engine(KB * 1000 + VB * 100 + R + HD);
    std::normal_distribution<float> normal;
    const int visible = c.tokens ? c.tokens : T;

    std::vector<std::vector<std::uint8_t>> blobs(kPages, std::vector<std::uint8_t>(layout.blob_bytes(), 0));
    std::vector<float> k(T * HD), v(T * HD), q(R * HD);
    for (float& x : q) x = half_to_float(float_to_half(c.sharpness * normal(engine)));
    for (int p = 0; p < kPages; ++p) {
        std::uint8_t* key_part = blobs[p].data();
        std::uint8_t* value_part = key_part + layout.offset(Side::value);
        std::vector<float> reference(HD);
        for (int j = 0; j < HD; ++j) {
            const std::uint16_t h = float_to_half(c.bias * normal(engine));
            reference[j] = half_to_float(h);
            std::memcpy(key_part + layout.keys().reference_offset() + 2 * j, &h, 2);
        }
        for (int t = 0; t < kPageTokens; ++t) {
            const int token = p * kPageTokens + t;
            std::vector<float> x(HD), y(HD);
            for (int j = 0; j < HD; ++j) x[j] = normal(engine);
            for (int j = 0; j < HD; ++j) y[j] = normal(engine) * std::exp(0.5f * normal(engine));
            if (c.sink && token == 0) {
                for (int j = 0; j < HD; ++j) { x[j] = 2 * q[j]; y[j] *= 0.002f; }
            }
            const auto store = [&](Side side, const Coder& coder, const std::vector<float>& row, std::uint8_t* part, float* decoded) {
                std::vector<std::uint8_t> codes(HD);
                std::uint16_t scale;
                reference::encode(coder, row.data(), codes.data(), &scale);
                if (c.nan_in_unused && token >= visible) scale = 0x7e01;
                for (int j = 0; j < HD; ++j) page_set_code(layout.of(side), part, t, j, codes[j]);
                std::memcpy(part + layout.of(side).scales_offset() + 2 * PageSide::scale_index(t), &scale, 2);
                reference::decode(coder, codes.data(), scale, decoded);
            };
            store(Side::key, keys, x, key_part, &k[token * HD]);
            store(Side::value, values, y, value_part, &v[token * HD]);
            for (int j = 0; j < HD; ++j) k[token * HD + j] += reference[j];
        }
    }

    const float scale = 1 / std::sqrt(static_cast<float>(HD));
    std::vector<float> got(R * HD), kept(static_cast<std::size_t>(32) * Math::kTiles * D);
    const auto last_of = [&](int row) { return visible - 1 - (c.causal ? R - 1 - row : 0); };
    const auto first_of = [&](int row) { return c.window ? std::max(0, last_of(row) - c.window + 1) : 0; };
    std::vector<std::uint32_t> pairs(static_cast<std::size_t>(64) * Math::kTiles * Math::kPairs);
    test::Warp::run([&] {
        const int lane = device::lane_id(), g = lane >> 2, t = lane & 3;
        const auto pair = [&](int tile, int i, int of) { return &pairs[2 * ((tile * Math::kPairs + i) * 32 + of)]; };
        Math math;
        math.init();
        math.reset();
        for (int tile = 0; tile < Math::kTiles; ++tile) {
            float x[Math::kBrought];
            for (int i = 0; i < Math::kBrought; ++i) {
                const int j = Math::first_brought(g, t) + i;
                x[i] = j < HD ? q[Math::row_of_lane(tile, g) * HD + j] : 0;
            }
            math.load_query(x, tile, scale * device::kLog2E, keys.rotation->norm, signs.key, signs.paley, [&](int of, int i, std::uint32_t w0, std::uint32_t w1) {
                pair(tile, i, of)[0] = w0;
                pair(tile, i, of)[1] = w1;
            });
        }
        device::sync_lanes();
        for (int p = 0; p < kPages; ++p) {
            const std::uint8_t* key_part = blobs[p].data();
            const std::uint8_t* value_part = key_part + layout.offset(Side::value);
            const auto word = [&](const PageSide& side, const std::uint8_t* part, int i) {
                std::uint32_t w;
                std::memcpy(&w, part + side.word_offset(lane, i), 4);
                return w;
            };
            const auto add = [&](auto pieces, int piece) {
                constexpr int kPieces = decltype(pieces)::value, kM = Math::kMTiles / kPieces, kKeyWords = layout.keys().words_per_lane() / kPieces,
                              kValueWords = layout.values().words_per_lane() / kPieces;
                std::uint32_t key_scales[kM], value_scales[kM];
                std::memcpy(key_scales, key_part + layout.keys().scales_offset() + 16 * g + 8 * piece, 4 * kM);
                std::memcpy(value_scales, value_part + layout.values().scales_offset() + 16 * g + 8 * piece, 4 * kM);
                float scores[kM][2][Math::kColumns], bias[Math::kColumns], units[Math::kColumns];
                math.score_keys([&](int n, std::uint32_t* w) {
                    for (int i = 0; i < KB; ++i) w[i] = word(layout.keys(), key_part, piece * kKeyWords + layout.keys().group_word(n, i));
                }, key_scales, scores);
                math.score_reference([&](int i, std::uint32_t* a) { std::memcpy(a, key_part + layout.keys().reference_offset() + 2 * (D / 4) * t + 16 * i, 16); },
                                     [&](int tile, int i, std::uint32_t* b) { std::copy_n(pair(tile, i, lane), 2, b); }, bias);
                const int from = p * kPageTokens + 16 * kM * piece;
                int first[Math::kColumns], last[Math::kColumns];
                for (int n = 0; n < Math::kColumns; ++n) {
                    units[n] = math.unit[n];
                    first[n] = first_of(Math::row_of_column(n, t)) - from;
                    last[n] = last_of(Math::row_of_column(n, t)) - from;
                }
                if (c.cap) math.cap_scores(scores, bias, units, c.cap * device::kLog2E);
                math.hide(scores, value_scales, first, last, first_of(0) - from, last_of(R - 1) - from);
                std::uint32_t packed[Math::kParts][kM];
                math.soften(scores, value_scales, units, bias, packed);
                math.add_values([&](int s, int j, std::uint32_t* w) {
                    for (int i = 0; i < VB; ++i) w[i] = word(layout.values(), value_part, piece * kValueWords + layout.values().group_word(s * (D / 32) + j, i));
                }, packed);
            };
            if constexpr (layout.keys().words_per_lane() % 8 == 0 && layout.values().words_per_lane() % 8 == 0) {
                if (c.halves) {
                    add(std::integral_constant<int, 2>(), 0);
                    add(std::integral_constant<int, 2>(), 1);
                    continue;
                }
            }
            add(std::integral_constant<int, 1>(), 0);
        }
        math.finish();
        for (int n = 0; n < Math::kColumns; ++n) {
            for (int i = 0; i < Math::kOut; ++i) kept[Math::row_of_column(n, t) * D + D / 8 * g + i] = math.out[i][n] / math.l[n];
        }
    });
    for (int r = 0; r < R; ++r) {
        test::Warp::run([&] {
            float x[D / 32];
            for (int i = 0; i < D / 32; ++i) x[i] = kept[r * D + device::lane_id() + 32 * i];
            device::unrotate_strided<HD>(x, signs.value, signs.paley_transposed);
            for (int i = 0; i < D / 32; ++i) {
                if (device::lane_id() + 32 * i < HD) got[r * HD + device::lane_id() + 32 * i] = x[i] * values.rotation->norm;
            }
        });
    }

    for (int r = 0; r < R; ++r) {
        std::vector<float> mask(T, -std::numeric_limits<float>::infinity()), want(HD);
        for (int i = first_of(r); i <= last_of(r); ++i) mask[i] = 0;
        reference::AttendOptions options;
        options.scale = scale;
        options.softcap = c.cap;
        reference::attend({&q[r * HD], static_cast<std::size_t>(HD)}, k.data(), v.data(), mask.data(), T, HD, options, want.data());
        double error = 0, power = 0;
        for (int j = 0; j < HD; ++j) {
            error += std::pow(want[j] - got[r * HD + j], 2);
            power += std::pow(want[j], 2);
        }
        ASSERT_LT(std::sqrt(error / power), 2e-3) << "k" << KB << "v" << VB << ", " << R << " rows, head_dim " << HD << ", row " << r;
    }
}

template <int kBytes>
void check_chunks() {
    std::vector<int> copied(kBytes / 16);
    test::Warp::run([&] {
        device::each_chunk<kBytes>([&](int at) {
            ASSERT_EQ(at % 16, 0);
            ++copied.at(at / 16);
        });
    });
    for (int times : copied) ASSERT_EQ(times, 1) << kBytes;
}

TEST(AsyncCopy, EveryChunkOnce) {
    check_chunks<16>();
    check_chunks<496>();
    check_chunks<512>();
    check_chunks<PageLayout{128, 4, 4}.keys().part_bytes()>();
    check_chunks<PageLayout{80, 3, 2}.values().part_bytes()>();
    check_chunks<PageLayout{256, 8, 8}.keys().part_bytes()>();
}

TEST(PageMath, EveryWidth) {
    check<4, 4, 4, 128>({});
    check<3, 2, 8, 128>({});
    check<2, 3, 4, 128>({});
    check<8, 8, 8, 128>({});
    check<4, 2, 16, 128>({});
    check<2, 8, 8, 64>({});
}

TEST(PageMath, EveryHeadSize) {
    check<4, 4, 8, 64>({.bias = 1});
    check<4, 3, 4, 80>({.bias = 1});
    check<3, 3, 8, 96>({.bias = 1});
    check<2, 4, 8, 112>({.bias = 1});
    check<3, 4, 8, 192>({.bias = 1});
    check<4, 2, 8, 256>({.bias = 1});
    check<4, 4, 4, 64>({.bias = 1});  // 4 rows, of which two lanes share the work
    check<3, 2, 4, 256>({.bias = 1});
}

TEST(PageMath, HalvesOfPages) {
    check<4, 4, 4, 128>({.bias = 1, .halves = true});
    check<3, 3, 8, 128>({.tokens = 131, .nan_in_unused = true, .halves = true});  // one half has no token that counts
    check<2, 2, 4, 128>({.tokens = 150, .window = 70, .causal = true, .nan_in_unused = true, .halves = true});
    check<8, 4, 4, 64>({.sharpness = 3, .cap = 5, .halves = true});
    check<4, 2, 8, 256>({.sharpness = 3, .sink = true, .halves = true});
}

TEST(PageMath, ReferencesCount) {
    for (float bias : {0.5f, 5.0f, 40.0f}) {
        check<4, 4, 4, 128>({.bias = bias});
        check<4, 4, 16, 128>({.bias = bias});
    }
}

TEST(PageMath, SinksWithTinyValues) {
    for (float sharpness : {0.7f, 1.5f, 3.0f}) {
        check<4, 4, 4, 128>({.sharpness = sharpness, .sink = true});
        check<3, 2, 8, 128>({.sharpness = sharpness, .sink = true});
    }
}

TEST(PageMath, HidesWhatARowMayNotSee) {
    check<4, 4, 4, 128>({.tokens = 131, .nan_in_unused = true});
    check<4, 4, 8, 64>({.bias = 2, .tokens = 129, .causal = true, .nan_in_unused = true});
    check<3, 2, 16, 128>({.tokens = 140, .window = 70, .causal = true, .nan_in_unused = true});
}

TEST(PageMath, SoftCap) {
    check<4, 4, 4, 128>({.sharpness = 3, .bias = 2, .cap = 5});
    check<4, 4, 8, 256>({.sharpness = 3, .cap = 50});
}

}  // namespace
}  // namespace turboquant

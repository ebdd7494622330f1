// A warpgroup's work on pages for many query rows, lane by lane on the CPU, against attention in double precision over what the reference
// decodes. The matrix units of a warpgroup are played here: a warp's sixteen rows depend on its own left operands and on shared memory.
#include "cuda/attend/wide_math.cuh"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/half.hpp"
#include "core/page.hpp"
#include "core/paley.hpp"
#include "core/reference.hpp"
#include "cuda/attend/wide_policy.hpp"
#include "fibers.hpp"

namespace turboquant::cuda {
namespace {

struct Part {
    const std::uint8_t* bytes;
    std::uint32_t one(unsigned at) const { std::uint32_t w; std::memcpy(&w, bytes + at, 4); return w; }
    std::uint32_t half(unsigned at) const { std::uint16_t h; std::memcpy(&h, bytes + at, 2); return h; }
    void two(unsigned at, std::uint32_t* w) const { std::memcpy(w, bytes + at, 8); }
    void four(unsigned at, std::uint32_t* w) const { std::memcpy(w, bytes + at, 16); }
};

// d (+)= A B^T, as ByteProducts and Products of device/warpgroup.cuh. column(c, k): the right operand.
template <int kColumns, bool kUnsigned, class Column>
void multiply_bytes(int* d, const std::uint32_t* a, Column&& column) {
    const device::Meeting all = device::meet(a, 4);
    const int g = device::lane_id() >> 2, t = device::lane_id() & 3;
    for (int c = 0; c < kColumns / 8; ++c) {
        for (int i = 0; i < 4; ++i) {
            for (int k = 0; k < 32; ++k) {
                const std::uint32_t left = all[4 * g + k % 16 / 4][(i >> 1) + 2 * (k / 16)] >> (8 * (k & 3));
                d[4 * c + i] += (kUnsigned ? static_cast<int>(static_cast<std::uint8_t>(left)) : static_cast<int>(static_cast<std::int8_t>(left))) * column(8 * c + 2 * t + (i & 1), k);
            }
        }
    }
}
template <int kColumns, class Column>
void multiply_halves(float* d, const std::uint32_t* a, Column&& column) {
    const device::Meeting all = device::meet(a, 4);
    const int g = device::lane_id() >> 2, t = device::lane_id() & 3;
    for (int c = 0; c < kColumns / 8; ++c) {
        for (int i = 0; i < 4; ++i) {
            for (int k = 0; k < 16; ++k) {
                const std::uint32_t left = all[4 * g + k % 8 / 2][(i >> 1) + 2 * (k / 8)];
                d[4 * c + i] += (k & 1 ? device::high_half(left) : device::low_half(left)) * column(8 * c + 2 * t + (i & 1), k);
            }
        }
    }
}

struct Case {
    float sharpness = 1, bias = 0, cap = 0;
    int tokens = 0;           // visible to the last row; 0: all
    int window = 0;
    bool causal = false;      // row r sees r tokens fewer than the last
    bool sink = false;        // token 0 is looked at by all and has a tiny value
    bool zero_values = false; // of the first page
    bool nan_in_unused = false;
};

template <int KB, int VB, int R, int HD>
void check(const Case& c) {
    using Math = WideMath<KB, VB, R, HD>;
    constexpr int D = Math::D, kPages = 3, T = kPages * kPageTokens;
    const PageLayout layout{HD, KB, VB};
    Spec spec;
    spec.head_dim = HD;
    spec.key_bits = KB;
    spec.value_bits = VB;
    spec.trellis_codes = false;
    const Coder keys = make_coder(spec, Side::key), values = make_coder(spec, Side::value);
    std::uint32_t sign[2][10] = {}, paley[32] = {}, transposed[32] = {};
    for (int j = 0; j < HD; ++j) {
        if (keys.rotation->sign[j] < 0) sign[0][j / 32] |= 1u << (j % 32);
        if (values.rotation->sign[j] < 0) sign[1][j / 32] |= 1u << (j % 32);
    }
    const PaleyBits bits = paley_bits(keys.rotation->base);
    for (int i = 0; i < bits.order; ++i) {
        paley[i] = bits.row[i];
        for (int a = 0; a < bits.order; ++a) transposed[a] |= (bits.row[i] >> a & 1) << i;
    }
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
            for (int j = 0; j < HD; ++j) y[j] = c.zero_values && p == 0 && t % 3 ? 0 : normal(engine) * std::exp(0.5f * normal(engine));
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
    const auto last_of = [&](int row) { return visible - 1 - (c.causal ? R - 1 - row : 0); };
    const auto first_of = [&](int row) { return c.window ? std::max(0, last_of(row) - c.window + 1) : 0; };

    // Shared memory, without the order of chunks that the matrix units want.
    std::vector<std::int8_t> operand(2 * R * D);             // [row: upper bytes, lower bytes][inner]
    std::vector<std::uint32_t> halves(R * D / 2);
    std::vector<float> weights(R * kPageTokens), unit(R), back(R), shift(R), biases(8 * R), top(4 * R), total(4 * R), out(R * D), got(R * HD);
    for (int tile = 0; tile < R / 8; ++tile) {
        test::Warp::run([&] {
            const int lane = device::lane_id(), g = lane >> 2, t = lane & 3, r = 8 * tile + g;
            float x[D / 4];
            for (int i = 0; i < D / 4; ++i) x[i] = D / 4 * t + i < HD ? q[r * HD + D / 4 * t + i] : 0;
            typename Math::Loader loader;
            loader.load_query(x, 0, scale * device::kLog2E, keys.rotation->norm, sign[0], paley, [&](int, int i, std::uint32_t w0, std::uint32_t w1) {
                std::uint32_t* words = &halves[r * D / 2 + D / 8 * t + 4 * (i / 2)];
                words[i % 2] = w0;
                words[2 + i % 2] = w1;
            });
            for (int j = 0; j < D / 16; ++j) {
                for (int lower = 0; lower < 2; ++lower) std::memcpy(&operand[(r + lower * R) * D + 16 * j + 4 * t], &loader.query[lower][j / 2][j % 2], 4);
            }
            const float own_shift = Math::shift_of(loader);
            if (t == 0) shift[r] = own_shift;
            if (g == 0) {
                for (int e = 0; e < 2; ++e) {
                    unit[8 * tile + 2 * t + e] = loader.unit[e];
                    back[8 * tile + 2 * t + e] = loader.reference_unit[e];
                }
            }
        });
    }
    std::vector<Math> state(128);
    struct Lane {
        int products[Math::kScores] = {};
        float s[Math::kColumns][2], v[2], sum[Math::kColumns], bias[Math::kColumns];
    };
    std::vector<Lane> lanes(128);
    const auto each = [&](auto&& body) {  // the four warps, between two meetings
        for (int warp = 0; warp < 4; ++warp) {
            test::Warp::run([&] { body(warp, device::lane_id(), state[32 * warp + device::lane_id()], lanes[32 * warp + device::lane_id()]); });
        }
    };
    each([&](int, int lane, Math& math, Lane&) {
        math.init();
        math.reset();
        for (int n = 0; n < Math::kColumns; ++n) {
            math.unit[n] = unit[Math::row_of_column(n, lane & 3)];
        }
    });
    for (int tile = 0; tile < (R + 15) / 16; ++tile) {
        test::Warp::run([&] {
            const int lane = device::lane_id(), g = lane >> 2, t = lane & 3;
            float sum[4];
            Math::score_references([&](int r, int i, std::uint32_t* four) { std::memcpy(four, &halves[(16 * tile + r) * D / 2 + 4 * i], 16); },
                                   [&](int page, int i, std::uint32_t* four) { std::memcpy(four, blobs[page % kPages].data() + layout.keys().reference_offset() + 16 * i, 16); }, sum);
            for (int i = 0; i < (R > 8 ? 4 : 2); ++i) {
                const int r = 16 * tile + g + 8 * (i / 2);
                biases[(2 * t + i % 2) * R + r] = sum[i] * back[r];
            }
        });
    }
    for (int p = 0; p < kPages; ++p) {
        const Part page{blobs[p].data()}, value_page{blobs[p].data() + layout.offset(Side::value)};
        bool large = false;
        const auto weigh = [&](int warp, int lane, Math& math, Lane& own) {
            std::uint32_t packed[Math::kTiles][2];
            large |= c.cap ? math.template weigh<true>(own.s, own.bias, own.v, packed, own.sum) : math.template weigh<false>(own.s, own.bias, own.v, packed, own.sum);
            for (int i = 0; i < Math::kTiles; ++i) {
                for (int h = 0; h < 2; ++h) {  // what a transposed store of matrices does
                    float* to = &weights[(8 * i + 2 * (lane & 3)) * kPageTokens + 16 * warp + 8 * h + (lane >> 2)];
                    to[0] = device::low_half(packed[i][h]);
                    to[kPageTokens] = device::high_half(packed[i][h]);
                }
            }
        };
        each([&](int warp, int lane, Math& math, Lane& own) {
            const int g = lane >> 2, t = lane & 3;
            for (int n = 0; n < Math::kColumns; ++n) own.bias[n] = biases[p * R + Math::row_of_column(n, t)];
            std::uint32_t a[4 * Math::kSteps];
            math.decode_keys(Math::places(warp, lane), page, a);
            std::fill(std::begin(own.products), std::end(own.products), 0);
            for (int s = 0; s < Math::kSteps; ++s) {
                const auto column = [&](int n, int inner) { return static_cast<int>(operand[n * D + 32 * s + inner]); };
                multiply_bytes<2 * R, Math::kShifted>(own.products, a + 4 * s, column);
            }
            float shifts[Math::kColumns];
            for (int n = 0; n < Math::kColumns; ++n) shifts[n] = shift[Math::row_of_column(n, t)];
            math.to_scores(own.products, shifts, page.one(static_cast<unsigned>(layout.keys().scales_offset()) + 2 * (8 * g + 2 * warp)), own.s);
            std::uint32_t scales = value_page.one(static_cast<unsigned>(layout.values().scales_offset()) + 2 * (8 * g + 2 * warp));
            if (c.cap) math.cap_scores(own.s, own.bias, c.cap * device::kLog2E);
            for (int h = 0; h < 2; ++h) {
                const int token = p * kPageTokens + 16 * warp + 8 * h + g;
                for (int n = 0; n < Math::kColumns; ++n) {
                    const int r = Math::row_of_column(n, t);
                    if (token < first_of(r) || token > last_of(r)) own.s[n][h] = -std::numeric_limits<float>::infinity();
                }
                if (token < first_of(0) || token > last_of(R - 1)) scales &= h ? 0x0000ffffu : 0xffff0000u;
            }
            Math::value_scales(scales, own.v);
            weigh(warp, lane, math, own);
        });
        if (large) {
            each([&](int warp, int lane, Math& math, Lane& own) {
                float mine[Math::kColumns];
                if (c.cap) math.template tops<true>(own.s, own.bias, own.v, mine); else math.template tops<false>(own.s, own.bias, own.v, mine);
                if (lane < 4) {
                    for (int n = 0; n < Math::kColumns; ++n) top[R * warp + Math::row_of_column(n, lane)] = mine[n];
                }
            });
            each([&](int warp, int lane, Math& math, Lane& own) {
                float all[Math::kColumns];
                for (int n = 0; n < Math::kColumns; ++n) {
                    const int r = Math::row_of_column(n, lane & 3);
                    all[n] = std::max(std::max(top[r], top[R + r]), std::max(top[2 * R + r], top[3 * R + r]));
                }
                math.raise(all);
                weigh(warp, lane, math, own);
            });
        } else {
            ASSERT_TRUE(p != 0 || c.window) << "m was never raised";
        }
        each([&](int warp, int lane, Math& math, Lane& own) {
            for (int n = 0; n < Math::kColumns; ++n) math.l[n] += own.sum[n];
            std::uint32_t a[16 * Math::kMTiles];
            math.decode_values(Math::places(warp, lane), value_page, a);
            for (int s = 0; s < 4; ++s) {
                for (int i = 0; i < Math::kMTiles; ++i) multiply_halves<R>(math.out[i], a + 16 * i + 4 * s, [&](int n, int inner) { return weights[n * kPageTokens + 16 * s + inner]; });
            }
        });
    }
    each([&](int warp, int lane, Math& math, Lane&) {
        math.finish();
        const int g = lane >> 2, t = lane & 3;
        for (int n = 0; n < Math::kColumns; ++n) {
            const int r = Math::row_of_column(n, t);
            if (g == 0) total[R * warp + r] = math.l[n];
            for (int i = 0; i < Math::kMTiles; ++i) {
                for (int h = 0; h < 2; ++h) out[r * D + D / 8 * g + 4 * (warp + 4 * (i / 2)) + 2 * (i % 2) + h] = math.out[i][4 * (n / 2) + 2 * h + (n & 1)] * device::kHalvesUnit;
            }
        }
    });
    for (int r = 0; r < R; ++r) {
        const float l = total[r] + total[R + r] + total[2 * R + r] + total[3 * R + r];
        test::Warp::run([&] {
            const int lane = device::lane_id();
            float x[D / 32];
            for (int i = 0; i < D / 32; ++i) x[i] = out[r * D + lane + 32 * i] / l;
            device::unrotate_strided<HD>(x, sign[1], transposed);
            for (int i = 0; i < D / 32; ++i) {
                if (lane + 32 * i < HD) got[r * HD + lane + 32 * i] = x[i] * values.rotation->norm;
            }
        });
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
        ASSERT_LT(std::sqrt(error / power), 1e-3) << "k" << KB << "v" << VB << ", " << R << " rows, head_dim " << HD << ", row " << r;
    }
}

TEST(WideMath, EveryWidth) {
    check<4, 4, 8, 128>({});
    check<4, 4, 16, 128>({});
    check<3, 2, 16, 128>({});
    check<2, 3, 32, 128>({});
    check<8, 8, 16, 128>({});
    check<4, 2, 32, 128>({});
    check<2, 8, 8, 128>({});
}

TEST(WideMath, EveryHeadSize) {
    check<4, 4, 16, 112>({.bias = 1});
    check<4, 4, 16, 256>({.bias = 1});
    check<3, 2, 8, 256>({.bias = 1});
}

TEST(WideMath, ReferencesCount) {
    for (float bias : {0.5f, 5.0f, 40.0f}) check<4, 4, 16, 128>({.bias = bias});
}

TEST(WideMath, SinksAndZeroValues) {
    for (float sharpness : {0.7f, 1.5f, 3.0f}) {
        check<4, 4, 16, 128>({.sharpness = sharpness, .sink = true});
        check<3, 2, 8, 128>({.sharpness = sharpness, .sink = true});
    }
    check<4, 4, 16, 128>({.zero_values = true});
}

TEST(WideMath, HidesWhatARowMayNotSee) {
    check<4, 4, 16, 128>({.tokens = 131, .nan_in_unused = true});
    check<4, 4, 32, 128>({.bias = 2, .tokens = 129, .causal = true, .nan_in_unused = true});
    check<3, 2, 16, 128>({.tokens = 140, .window = 70, .causal = true, .nan_in_unused = true});
    check<4, 4, 16, 128>({.tokens = 130, .window = 3, .causal = true, .zero_values = true});
}

TEST(WideMath, SoftCap) {
    check<4, 4, 16, 128>({.sharpness = 3, .bias = 2, .cap = 5});
    check<4, 4, 16, 256>({.sharpness = 3, .cap = 50});
}

template <int K, int V, int R, int D>
void check_shape() {
    using Shape = WideShape<K, V, R, D>;
    EXPECT_LE(Shape::shared_bytes(kMaxBatch) + 3 * 1024, kSharedLimit);
    EXPECT_GE(Shape::kSlots, 2);
    EXPECT_LE(8 * Shape::kSlots, 64);
    EXPECT_EQ(Shape::kRing % 128, 0u);
}

TEST(WidePolicy, EveryShapeFits) {
    check_shape<2, 2, 8, 128>();
    check_shape<4, 4, 16, 128>();
    check_shape<8, 8, 32, 128>();
    check_shape<2, 2, 32, 128>();
    check_shape<8, 8, 16, 256>();
    check_shape<4, 4, 8, 256>();
    EXPECT_EQ(wide_rows_for(128, 4, 1), 0);
    EXPECT_EQ(wide_rows_for(128, 4, 4), 16);
    EXPECT_EQ(wide_rows_for(128, 8, 1), 0);
    EXPECT_EQ(wide_rows_for(128, 3, 3), 16);
    EXPECT_EQ(wide_rows_for(128, 4, 8), 32);
    EXPECT_EQ(wide_rows_for(128, 71, 2), 32);
    EXPECT_EQ(wide_rows_for(256, 4, 8), 0);
}

}  // namespace
}  // namespace turboquant::cuda

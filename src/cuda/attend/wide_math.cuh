// A warp's part of a warpgroup's work on one page of 64 tokens of one KV head, for 8, 16 or 32 query rows: each code is looked up once for
// all of them and goes straight from registers into the matrix units of the warpgroup (warpgroup.cuh) as their left operand.
//   scores   64 tokens x 2 rows   = key codewords (int8) x queries, 16-bit integers kept as two signed bytes: columns 0 .. rows-1 have the
//                                   upper bytes, columns rows .. 2 rows - 1 the lower ones
//   outputs  64 dims x rows       = value codewords / 128 (binary16) x weights 2^(score - m) * value scale, rounded to binary16
// Warp w has tokens 16 w .. 16 w + 15 of the scores and, of each 128 dims of the outputs, those numbered 4 w .. 4 w + 3 of every lane group g
// (PageSide: dim (d/8) g + 4 j + 2 e + r, j = w). The right operands lie in shared memory: the queries of the unit, the weights of the page.
//
// m is a reference, not a maximum, and the same in all four warps: weights are kept below 2^kWeightRoom; where one exceeds it, m is raised so
// that the largest becomes 2^kWeightLift, which leaves small weights room above the subnormal numbers.
#pragma once

#include <type_traits>

#include "cuda/device/page_math.cuh"
#include "cuda/device/halves.cuh"

namespace turboquant::cuda {

inline constexpr float kWeightLimit = 16384.0f, kWeightLift = 8.0f;

// Keeps NaN.
#ifdef __CUDACC__
TQ_DEV float larger_or_nan(float a, float b) {
    float d;
    asm("max.NaN.f32 %0,%1,%2;" : "=f"(d) : "f"(a), "f"(b));
    return d;
}
#else
inline float larger_or_nan(float a, float b) { return a != a ? a : b != b ? b : a > b ? a : b; }
#endif

template <int kKeyBits, int kValueBits, int kRowsWanted, int kHeadDim>
struct WideMath {
    static constexpr int kRows = kRowsWanted, D = device::RotationShape<kHeadDim>::kPadded;
    static_assert(D % 128 == 0 && kRows % 8 == 0);
    static constexpr int kTiles = kRows / 8, kColumns = 2 * kTiles;      // rows that a lane holds results of
    static constexpr int kSteps = D / 32;                                // of 32 dims of the scores' products
    static constexpr int kKeyGroups = D / 64, kValueGroups = D / 64;     // that a warp decodes
    static constexpr int kKeyWords = kKeyGroups * kKeyBits;              // of a lane
    static constexpr int kMTiles = D / 64;                               // of 64 dims of the outputs
    static constexpr int kScores = 4 * 2 * kTiles;                       // integers of a lane
    using Loader = device::PageMath<4, 4, 8, kHeadDim>;                          // rotates and quantises eight rows
    // 4-bit keys are looked up as codeword + 128, unsigned: half the products of a two-part look-up (device/lookup.cuh). What 128 adds to a row's
    // products is taken off their float.
    static constexpr bool kShifted = kKeyBits == 4;

    float unit[kColumns];                    // of a row's integer scores, in log2 units of the softmax
    float m[kColumns], l[kColumns];
    float out[kMTiles][4 * kTiles];          // [2 jj + e][4 c + 2 h + ee]: dim (d/8) g + 4 (w + 4 jj) + 2 e + h, row 8 c + 2 t + ee
    std::conditional_t<kShifted, device::ByteTables<4>, device::ScalarLookup<kKeyBits>> keys;
    device::ByteTables<kValueBits> values;

    static TQ_DEV int row_of_column(int n, int t) { return 8 * (n / 2) + 2 * t + n % 2; }
    static TQ_DEV unsigned word_at(unsigned lane, unsigned word) { return word / 4 * 512 + lane * 16 + word % 4 * 4; }  // PageSide::word_offset

    TQ_DEV void init() {
        keys.init();
        values.init();
    }
    TQ_DEV void reset() {
        TQ_UNROLL
        for (int n = 0; n < kColumns; ++n) {
            m[n] = device::kNothing;
            l[n] = 0;
        }
        TQ_UNROLL
        for (int i = 0; i < kMTiles; ++i) {
            TQ_UNROLL
            for (int k = 0; k < 4 * kTiles; ++k) out[i][k] = 0;
        }
    }

    // Where in a part the lane's words of the warp lie, worked out once: pages differ by constants.
    struct Places {
        unsigned key[kKeyWords % 4 ? kKeyWords / 2 : 1], value[kValueBits == 3 ? 3 : 1];
    };
    static TQ_DEV Places places(unsigned warp, unsigned lane) {
        Places at;
        if constexpr (kKeyWords % 4 == 0) {
            at.key[0] = kKeyWords / 4 * 512 * warp + 16 * lane;
        } else {
            TQ_UNROLL
            for (unsigned i = 0; i < kKeyWords / 2; ++i) at.key[i] = word_at(lane, kKeyWords * warp + 2 * i);
        }
        TQ_UNROLL
        for (unsigned i = 0; i < (kValueBits == 3 ? 3 : 1); ++i) at.value[i] = word_at(lane, (kValueBits == 8 ? 8 : kValueBits == 4 ? 2 : kValueBits == 3 ? 3 : 1) * warp + i);
        return at;
    }

    // The warp's sixteen tokens as left operands: a[4 s + i] is register i of step s.
    template <class Load>
    TQ_DEV void decode_keys(const Places& at, Load&& load, std::uint32_t* a) const {
        std::uint32_t words[kKeyWords], r[8 * kKeyGroups];
        if constexpr (kKeyWords % 4 == 0) {
            TQ_UNROLL
            for (int i = 0; i < kKeyWords / 4; ++i) load.four(at.key[0] + 512 * i, words + 4 * i);
        } else {
            TQ_UNROLL
            for (int i = 0; i < kKeyWords / 2; ++i) load.two(at.key[i], words + 2 * i);
        }
        TQ_UNROLL
        for (int k = 0; k < kKeyGroups; ++k) {
            if constexpr (kShifted) device::decode_bytes<4>(keys, words + 4 * k, r + 8 * k);
            else keys.decode(words + kKeyBits * k, r + 8 * k, nullptr);
        }
        TQ_UNROLL
        for (int s = 0; s < kSteps; ++s) {
            TQ_UNROLL
            for (int i = 0; i < 4; ++i) a[4 * s + i] = r[2 * kSteps * (i & 1) + 2 * s + (i >> 1)];
        }
    }

    // The warp's dims as left operands: a[16 i + 4 k + n] is register n of step k (tokens 16 k ..) of output tile i.
    template <class Load>
    TQ_DEV void decode_values(const Places& at, Load&& load, std::uint32_t* a) const {
        constexpr unsigned kOctets = D / 32;  // groups of half the tokens
        TQ_UNROLL
        for (int jj = 0; jj < kMTiles / 2; ++jj) {
            TQ_UNROLL
            for (int s = 0; s < 2; ++s) {
                std::uint32_t words[8], bytes[8];
                // PageSide::group_word of group (s, warp + 4 jj): a multiple of four words from where `at` points to.
                if constexpr (kValueBits == 8) {
                    const unsigned from = at.value[0] + 1024 * (kOctets * s + 4 * jj);
                    load.four(from, words);
                    load.four(from + 512, words + 4);
                } else if constexpr (kValueBits == 4) {
                    TQ_UNROLL
                    for (int i = 0; i < 2; ++i) load.two(at.value[0] + 256 * kOctets * (2 * s + i) + 1024 * jj, words + 2 * i);
                } else if constexpr (kValueBits == 3) {
                    TQ_UNROLL
                    for (int i = 0; i < 3; ++i) words[i] = load.one(at.value[i] + 384 * (kOctets * s + 4 * jj));
                } else {
                    TQ_UNROLL
                    for (int i = 0; i < 2; ++i) words[i] = load.one(at.value[0] + 128 * (kOctets * (2 * s + i) + 4 * jj));
                }
                device::decode_bytes<kValueBits>(values, words, bytes);
                TQ_UNROLL
                for (int hh = 0; hh < 2; ++hh) {
                    TQ_UNROLL
                    for (int e = 0; e < 2; ++e) {
                        TQ_UNROLL
                        for (int r = 0; r < 2; ++r) {
                            std::uint32_t* to = a + 16 * (2 * jj + e) + 4 * (2 * s + hh) + r;
                            to[0] = device::halves_of<0, 1>(bytes[4 * hh + 2 * e + r]);
                            to[2] = device::halves_of<2, 3>(bytes[4 * hh + 2 * e + r]);
                        }
                    }
                }
            }
        }
    }

    // q . reference of eight pages at once, for 16 rows from row `tile` * 16 on; a warp. sum[0], [1]: row g, pages 2 t and 2 t + 1; [2], [3]: row g + 8.
    // query(r, i, four), reference(page, i, four): words 4 i + t, 16 bytes each, of what lies there as D numbers.
    template <class Query, class Reference>
    static TQ_DEV void score_references(Query&& query, Reference&& reference, float* sum) {
        const int g = device::lane_id() >> 2, t = device::lane_id() & 3;
        TQ_UNROLL
        for (int i = 0; i < 4; ++i) sum[i] = 0;
        TQ_UNROLL
        for (int i = 0; i < D / 32; ++i) {
            std::uint32_t upper[4], lower[4] = {}, b[4];
            query(g, 4 * i + t, upper);
            if constexpr (kRows > 8) query(g + 8, 4 * i + t, lower);
            reference(g, 4 * i + t, b);
            TQ_UNROLL
            for (int k = 0; k < 4; k += 2) {
                const std::uint32_t a[4] = {upper[k], lower[k], upper[k + 1], lower[k + 1]};
                device::mma_half(sum, a, b[k], b[k + 1]);
            }
        }
    }

    // What is added to the products of row g by keys that are codeword + 128.
    static TQ_DEV float shift_of(const Loader& loader) {
        if constexpr (!kShifted) return 0;
        int sum = 0;
        TQ_UNROLL
        for (int j = 0; j < 2 * kSteps; ++j) {
            TQ_UNROLL
            for (int b = 0; b < 32; b += 8) {
                sum += 256 * static_cast<std::int8_t>(loader.query[0][j / 2][j % 2] >> b) + static_cast<std::int8_t>(loader.query[1][j / 2][j % 2] >> b);
            }
        }
        sum += static_cast<int>(device::exchange(static_cast<std::uint32_t>(sum), 1));
        sum += static_cast<int>(device::exchange(static_cast<std::uint32_t>(sum), 2));
        return 128.0f * static_cast<float>(sum);
    }

    // s[n][h]: the products of token 16 w + 8 h + g, times the key's scale. shift: of each row. scales: those of h = 0 and 1.
    TQ_DEV void to_scores(const int* products, const float* shift, std::uint32_t scales, float (*s)[2]) const {
        const float scale[2] = {device::low_half(scales), device::high_half(scales)};
        TQ_UNROLL
        for (int n = 0; n < kColumns; ++n) {
            TQ_UNROLL
            for (int h = 0; h < 2; ++h) {
                const int at = 4 * (n / 2) + 2 * h + (n & 1);
                const float x = static_cast<float>(256 * products[at] + products[4 * kTiles + at]);
                s[n][h] = (kShifted ? x - shift[n] : x) * scale[h];
            }
        }
    }

    // Soft cap: afterwards the scores are in log2 units, without unit and bias. cap: in log2 units.
    TQ_DEV void cap_scores(float (*s)[2], const float* bias, float cap) const {
        const float inverse = 2.0f * device::kLog2E / cap;
        TQ_UNROLL
        for (int n = 0; n < kColumns; ++n) {
            TQ_UNROLL
            for (int h = 0; h < 2; ++h) s[n][h] = cap * (1.0f - 2.0f * device::reciprocal_fast(device::exp2_fast(fmaf(s[n][h], unit[n], bias[n]) * inverse) + 1.0f));
        }
    }

    // Zero would meet infinity where m is still that of nothing.
    static TQ_DEV void value_scales(std::uint32_t scales, float* v) {
        v[0] = larger_or_nan(device::low_half(scales), 1e-30f);
        v[1] = larger_or_nan(device::high_half(scales), 1e-30f);
    }

    // bias: q . reference of the page, log2. packed[c][h]: the weights of rows 8 c + 2 t and + 1 for token 16 w + 8 h + g. sum[n]: what l gains. The result is true where m must be
    // raised.
    template <bool kCapped>
    TQ_DEV bool weigh(const float (*s)[2], const float* bias, const float* v, std::uint32_t (*packed)[2], float* sum) const {
        float largest = 0;
        TQ_UNROLL
        for (int c = 0; c < kTiles; ++c) {
            float w[2][2];
            TQ_UNROLL
            for (int e = 0; e < 2; ++e) {
                const int n = 2 * c + e;
                const float shift = kCapped ? -m[n] : bias[n] - m[n];
                TQ_UNROLL
                for (int h = 0; h < 2; ++h) {
                    const float x = device::exp2_fast(kCapped ? s[n][h] + shift : fmaf(s[n][h], unit[n], shift));
                    sum[n] = h ? sum[n] + x : x;
                    w[h][e] = x * v[h];
                    largest = fmaxf(largest, w[h][e]);
                }
            }
            packed[c][0] = device::pack_halves(w[0][0], w[0][1]);
            packed[c][1] = device::pack_halves(w[1][0], w[1][1]);
        }
        return !(largest <= kWeightLimit);
    }

    // The largest score plus log2 of the value's scale among the warp's tokens.
    template <bool kCapped>
    TQ_DEV void tops(const float (*s)[2], const float* bias, const float* v, float* top) const {
        const float log[2] = {device::log2_fast(fmaxf(v[0], 1.5e-8f)), device::log2_fast(fmaxf(v[1], 1.5e-8f))};
        TQ_UNROLL
        for (int n = 0; n < kColumns; ++n) {
            const float x0 = kCapped ? s[n][0] : fmaf(s[n][0], unit[n], bias[n]), x1 = kCapped ? s[n][1] : fmaf(s[n][1], unit[n], bias[n]);
            top[n] = fmaxf(x0 + log[0], x1 + log[1]);
            TQ_UNROLL
            for (int o = 4; o < 32; o *= 2) top[n] = fmaxf(top[n], device::exchange(top[n], o));
        }
    }
    // top: of all four warps.
    TQ_DEV void raise(const float* top) {
        TQ_UNROLL
        for (int n = 0; n < kColumns; ++n) {
            const float higher = fmaxf(m[n], top[n] - kWeightLift), factor = device::exp2_fast(m[n] - higher);
            m[n] = higher;
            l[n] *= factor;
            TQ_UNROLL
            for (int i = 0; i < kMTiles; ++i) {
                out[i][4 * (n / 2) + (n & 1)] *= factor;
                out[i][4 * (n / 2) + 2 + (n & 1)] *= factor;
            }
        }
    }

    // l becomes the sum over the lanes of the warp that share a row; that of the four warps is the row's.
    TQ_DEV void finish() {
        TQ_UNROLL
        for (int n = 0; n < kColumns; ++n) {
            l[n] += device::exchange(l[n], 4);
            l[n] += device::exchange(l[n], 8);
            l[n] += device::exchange(l[n], 16);
        }
    }
};

}  // namespace turboquant::cuda

// A warp's work on one page of 64 tokens of one KV head, for 4, 8 or 16 query rows: scores, softmax, weighted values, all straight
// from the codes (core/page.hpp). Queries and weights are 16-bit integers kept as two bytes, products run on int8 matrix units:
//   query   q = unit * (256 hi + lo), hi and lo signed bytes
//   weight  w = 2^score * value scale = unit * (256 hi + lo), unsigned bytes, relative to the largest w of the row in the page, or the half of it
// With 4 rows the 8 columns of a matrix operand hold hi and lo of each; with more, hi and lo are operands of their own.
//
// m is a reference for the sums, not a maximum: it is raised only when a page exceeds it by 2^40, which the range of a float allows.
#pragma once

#include "cuda/device/lookup.cuh"
#include "cuda/device/rotation.cuh"

namespace turboquant::device {

inline constexpr float kFullWeight = 65024.0f;

template <int kKeyBits, int kValueBits, int kRowsWanted, int kHeadDim>
struct PageMath {
    static constexpr int kRows = kRowsWanted, D = RotationShape<kHeadDim>::kPadded;
    static constexpr bool kFew = kRows == 4;
    static constexpr int kTiles = kFew ? 1 : kRows / 8;      // operands of 8 columns
    static constexpr int kColumns = kFew ? 1 : 2 * kTiles;   // rows that a lane holds results of
    static constexpr int kParts = kTiles * (kFew ? 1 : 2);   // hi and lo
    static constexpr int kSteps = D / 32, kOut = D / 8;
    static constexpr int kPairs = kFew ? D / 32 : D / 16;    // of words of a query row that score_reference takes from a lane
    static constexpr int kMTiles = 4;                        // of 16 tokens
    // Key groups are decoded for so many m-tiles at once that they are whole groups.
    static constexpr int kTogether = D % 64 == 0 ? 1 : 2, kGroups = D * kTogether / 64;
    using KeyLookup = ScalarLookup<kKeyBits>;
    using ValueLookup = ScalarLookup<kValueBits>;

    std::uint32_t query[kParts][kSteps][2];  // tile T: [2T] hi, [2T+1] lo; few: columns 2h and 2h+1 are hi and lo of row h
    float unit[kColumns];                    // of a row's integer scores, in log2 units of the softmax
    float reference_unit[kColumns];          // the same for q . reference
    float m[kColumns], l[kColumns], weight_unit[kColumns];
    float out[kOut][kColumns];               // rotated space: dims (d/8) g + i
    KeyLookup keys;
    ValueLookup values;

    static TQ_DEV int row_of_column(int n, int t) { return kFew ? t : 8 * (n / 2) + 2 * t + n % 2; }
    static TQ_DEV int row_of_lane(int tile, int g) { return kFew ? g >> 1 : 8 * tile + g; }
    // The numbers of a row of queries that a lane brings. With 4 rows two lanes, of an even g and the odd one after it, want the same ones, once as hi and once as
    // lo: where the rotation allows it each brings half of them.
    static constexpr bool kShared = kFew && RotationShape<kHeadDim>::kBase == 1;
    static constexpr int kBrought = kShared ? D / 8 : D / 4;
    static TQ_DEV int first_brought(int g, int t) { return D / 4 * t + (kShared ? D / 8 * (g & 1) : 0); }

    TQ_DEV void init() { keys.init(); values.init(); }
    TQ_DEV void reset() {
        TQ_UNROLL
        for (int n = 0; n < kColumns; ++n) {
            m[n] = kNothing;
            l[n] = 0;
            TQ_UNROLL
            for (int i = 0; i < kOut; ++i) out[i][n] = 0;
        }
    }

    // x: kBrought numbers from first_brought() on of row row_of_lane(tile, g), not rotated. keep(lane, i, w0, w1): keeps pair i of kPairs of `lane` for
    // score_reference: numbers of the row in binary16, times a power of two; seen by the lane after sync_lanes(). scale: softmax scale times log2(e); norm:
    // of the rotation.
    template <class Keep>
    TQ_DEV void load_query(float* x, int tile, float scale, float norm, const std::uint32_t* sign, const std::uint32_t* paley, Keep&& keep) {
        const int lane = lane_id(), g = lane >> 2, t = lane & 3, odd = g & 1;
        float largest = largest_of_row(x);
        const std::uint32_t exponent = as_bits(largest) >> 23 & 255;         // the largest becomes 2^6 .. 2^7
        const float to_half = as_float((260u - (exponent > 200 ? 200u : exponent)) << 23);
        TQ_UNROLL
        for (int i = 0; i < kBrought / 8; ++i) {
            std::uint32_t h[4];
            TQ_UNROLL
            for (int k = 0; k < 4; ++k) h[k] = pack_halves(x[8 * i + 2 * k] * to_half, x[8 * i + 2 * k + 1] * to_half);
            if constexpr (kShared) {
                const int pair = kBrought / 8 * odd + i;
                keep(lane & ~4, pair, h[0], h[2]);
                keep(lane | 4, pair, h[1], h[3]);
            } else if constexpr (kFew) {
                keep(lane, i, odd ? h[1] : h[0], odd ? h[3] : h[2]);
            } else {
                keep(lane, 2 * i, h[0], h[2]);
                keep(lane, 2 * i + 1, h[1], h[3]);
            }
        }
        const float back = scale / to_half;

        if constexpr (kShared) rotate_eighths<kHeadDim>(x, sign);
        else rotate_quads<kHeadDim>(x, sign, paley);
        largest = largest_of_row(x);
        const float inverse = 32512.0f * reciprocal_fast(largest), mine = largest * (1.0f / 32512.0f) * norm * scale;
        constexpr int kWords = kBrought / 4;
        TQ_UNROLL
        for (int j = 0; j < kWords; ++j) {
            std::uint32_t y[4];  // low 16 bits: the integer + 128
            TQ_UNROLL
            for (int b = 0; b < 4; ++b) y[b] = as_bits(fmaf(x[4 * j + b], inverse, kMagic + 128.0f));
            const std::uint32_t p = permute_bytes(y[0], y[1], 0x5140), r = permute_bytes(y[2], y[3], 0x5140);
            const std::uint32_t hi = permute_bytes(p, r, 0x7632), lo = permute_bytes(p, r, 0x5410) ^ 0x80808080u;
            if constexpr (kShared) {
                const std::uint32_t own = odd ? lo : hi, got = exchange(odd ? hi : lo, 4);
                query[0][j >> 1][j & 1] = odd ? got : own;
                query[0][(kWords + j) >> 1][(kWords + j) & 1] = odd ? own : got;
            } else if constexpr (kFew) {
                query[0][j >> 1][j & 1] = odd ? lo : hi;
            } else {
                query[2 * tile % kParts][j >> 1][j & 1] = hi;
                query[(2 * tile + 1) % kParts][j >> 1][j & 1] = lo;
            }
        }
        if constexpr (kFew) {
            unit[0] = from_lane(mine, 8 * t);
            reference_unit[0] = from_lane(back, 8 * t);
        } else {
            TQ_UNROLL
            for (int e = 0; e < 2; ++e) {
                unit[(2 * tile + e) % kColumns] = from_lane(mine, 8 * t + 4 * e);
                reference_unit[(2 * tile + e) % kColumns] = from_lane(back, 8 * t + 4 * e);
            }
        }
    }
    static TQ_DEV float largest_of_row(const float* x) {
        float largest = 1e-18f;
        TQ_UNROLL
        for (int i = 0; i < kBrought; ++i) largest = fmaxf(largest, fabsf(x[i]));
        TQ_UNROLL
        for (int apart = 1; apart <= (kShared ? 4 : 2); apart *= 2) largest = fmaxf(largest, exchange(largest, apart));
        return largest;
    }

    // bias[n] = q . reference in log2 units. reference(i, a): words 4i .. 4i+3 of the d/8 words (two binary16 each) from dim (d/4) t on.
    // pair(tile, i, b): what load_query gave to keep.
    //
    // All rows of the left operand are the reference: its upper eight with the even words, its lower eight with the odd ones, as 16 bytes of it
    // come from memory. So even words count in the results of upper rows, odd words in those of lower rows. With few rows, the even columns
    // of the right operand are the numbers that meet even words, the odd columns those that meet odd words.
    template <class Reference, class Pair>
    TQ_DEV void score_reference(Reference&& reference, Pair&& pair, float* bias) const {
        float even[kTiles][4] = {}, odd[kTiles][4] = {};
        TQ_UNROLL
        for (int i = 0; i < D / 32; ++i) {
            std::uint32_t a[4];
            reference(i, a);
            TQ_UNROLL
            for (int tile = 0; tile < kTiles; ++tile) {
                std::uint32_t b[2];
                if constexpr (kFew) {
                    pair(tile, i, b);
                    mma_half(i % 2 ? odd[tile] : even[tile], a, b[0], b[1]);
                } else {
                    pair(tile, 2 * i, b);
                    mma_half(even[tile], a, b[0], b[1]);
                    pair(tile, 2 * i + 1, b);
                    mma_half(odd[tile], a, b[0], b[1]);
                }
            }
        }
        TQ_UNROLL
        for (int n = 0; n < kColumns; ++n) {
            const int tile = n / 2, e = n & 1;
            const float sum = kFew ? (even[0][0] + odd[0][0]) + (even[0][3] + odd[0][3]) : even[tile][e] + odd[tile][2 + e];
            bias[n] = sum * reference_unit[n];
        }
    }

    // What follows is done for kM m-tiles of a page, all four or two; tokens, groups, scales and words count from the first of them.
    //
    // scores[m-tile][half of 8 tokens][column] = sum of query integers times codewords, times the key's scale. Token of (mt, r): 16 mt +
    // 8 r + g. words(k, w): the kKeyBits words of group k. scales: of the lane's tokens, two to a word.
    template <class Words, int kM>
    TQ_DEV void score_keys(Words&& words, const std::uint32_t* scales, float (&scores)[kM][2][kColumns]) const {
        const int start[4] = {kMagicBits, kMagicBits, kMagicBits, kMagicBits};
        TQ_UNROLL
        for (int step = 0; step < kM / kTogether; ++step) {
            std::uint32_t a[kGroups * 8], second[kGroups * 8];
            TQ_UNROLL
            for (int k = 0; k < kGroups; ++k) {
                std::uint32_t w[kKeyBits];
                words(step * kGroups + k, w);
                keys.decode(w, a + 8 * k, second + 8 * k);
            }
            TQ_UNROLL
            for (int part = 0; part < kTogether; ++part) {
                const int mt = step * kTogether + part;
                const std::uint32_t* own = a + part * 4 * kSteps;
                const std::uint32_t* own2 = second + part * 4 * kSteps;
                int c[kParts][4];
                TQ_UNROLL
                for (int s = 0; s < kSteps; ++s) {  // register of (half of 8 tokens r, step s, half hh of it): 2 steps r + 2 s + hh
                    const std::uint32_t left[4] = {own[2 * s], own[2 * kSteps + 2 * s], own[2 * s + 1], own[2 * kSteps + 2 * s + 1]};
                    TQ_UNROLL
                    for (int n = 0; n < kParts; ++n) mma_signed(c[n], left, query[n][s][0], query[n][s][1], s ? c[n] : start);
                    if constexpr (KeyLookup::kTwoParts) {
                        const std::uint32_t more[4] = {own2[2 * s], own2[2 * kSteps + 2 * s], own2[2 * s + 1], own2[2 * kSteps + 2 * s + 1]};
                        TQ_UNROLL
                        for (int n = 0; n < kParts; ++n) mma_signed(c[n], more, query[n][s][0], query[n][s][1], c[n]);
                    }
                }
                const float scale0 = low_half(scales[mt]), scale1 = high_half(scales[mt]);
                TQ_UNROLL
                for (int n = 0; n < kColumns; ++n) {
                    int hi0, hi1, lo0, lo1;
                    if constexpr (kFew) {
                        hi0 = c[0][0]; lo0 = c[0][1]; hi1 = c[0][2]; lo1 = c[0][3];
                    } else {
                        const int e = n & 1, hi = 2 * (n / 2) % kParts, lo = (2 * (n / 2) + 1) % kParts;
                        hi0 = c[hi][e]; hi1 = c[hi][2 + e]; lo0 = c[lo][e]; lo1 = c[lo][2 + e];
                    }
                    scores[mt][0][n] = fmaf(as_float(static_cast<std::uint32_t>(hi0)) - kMagic, 256.0f, as_float(static_cast<std::uint32_t>(lo0)) - kMagic) * scale0;
                    scores[mt][1][n] = fmaf(as_float(static_cast<std::uint32_t>(hi1)) - kMagic, 256.0f, as_float(static_cast<std::uint32_t>(lo1)) - kMagic) * scale1;
                }
            }
        }
    }

    // Soft cap: scores become cap * tanh(score / cap); afterwards they are in log2 units, with units of 1 and no bias. cap: in log2 units.
    template <int kM>
    TQ_DEV void cap_scores(float (&scores)[kM][2][kColumns], float* bias, float* units, float cap) const {
        const float inverse = 2.0f * kLog2E / cap;
        TQ_UNROLL
        for (int mt = 0; mt < kM; ++mt) {
            TQ_UNROLL
            for (int r = 0; r < 2; ++r) {
                TQ_UNROLL
                for (int n = 0; n < kColumns; ++n) {
                    const float x = fmaf(scores[mt][r][n], units[n], bias[n]);
                    scores[mt][r][n] = cap * (1.0f - 2.0f * reciprocal_fast(exp2_fast(x * inverse) + 1.0f));
                }
            }
        }
        TQ_UNROLL
        for (int n = 0; n < kColumns; ++n) { bias[n] = 0; units[n] = 1; }
    }

    // Hides tokens: column n sees those in [first[n], last[n]], counted from the page's first. Value scales of tokens that no column of
    // the warp sees ([any_first, any_last]) become zero: unused slots may hold anything.
    template <int kM>
    TQ_DEV void hide(float (&scores)[kM][2][kColumns], std::uint32_t* value_scales, const int* first, const int* last, int any_first, int any_last) const {
        const int g = lane_id() >> 2;
        TQ_UNROLL
        for (int mt = 0; mt < kM; ++mt) {
            TQ_UNROLL
            for (int r = 0; r < 2; ++r) {
                const int token = 16 * mt + 8 * r + g;
                TQ_UNROLL
                for (int n = 0; n < kColumns; ++n) {
                    if (token < first[n] || token > last[n]) scores[mt][r][n] = as_float(0xff800000u);
                }
                if (token < any_first || token > any_last) value_scales[mt] &= r ? 0x0000ffffu : 0xffff0000u;
            }
        }
    }

    // A visible value whose scale is NaN makes its rows NaN: the weights, being integers, would lose it.
    template <int kM>
    TQ_DEV void poison(float (&scores)[kM][2][kColumns], const std::uint32_t* value_scales) const {
        TQ_UNROLL
        for (int mt = 0; mt < kM; ++mt) {
            TQ_UNROLL
            for (int r = 0; r < 2; ++r) {
                const float v = r ? high_half(value_scales[mt]) : low_half(value_scales[mt]);
                if (v == v) continue;
                TQ_UNROLL
                for (int n = 0; n < kColumns; ++n) {
                    if (scores[mt][r][n] != as_float(0xff800000u)) scores[mt][r][n] = v;
                }
            }
        }
    }

    // Weights of the page as operands packed[part][m-tile] for add_values; raises l. units and bias: of the scores, log2.
    template <int kM>
    TQ_DEV void soften(float (&scores)[kM][2][kColumns], const std::uint32_t* value_scales, const float* units, const float* bias, std::uint32_t (&packed)[kParts][kM]) {
        const int odd = lane_id() >> 2 & 1;
        float top[kColumns] = {}, gain[kColumns], sum[kColumns], shift[kColumns], all = 0;
        TQ_UNROLL
        for (int mt = 0; mt < kM; ++mt) {
            const float v0 = low_half(value_scales[mt]), v1 = high_half(value_scales[mt]);
            const float log0 = log2_fast(fmaxf(v0, 1.5e-8f)), log1 = log2_fast(fmaxf(v1, 1.5e-8f));
            all += v0 + v1;
            TQ_UNROLL
            for (int n = 0; n < kColumns; ++n) {
                const float x = fmaxf(fmaf(scores[mt][0][n], units[n], log0), fmaf(scores[mt][1][n], units[n], log1));
                top[n] = mt ? fmaxf(top[n], x) : x;
            }
        }
        TQ_UNROLL
        for (int o = 4; o < 32; o *= 2) {
            TQ_UNROLL
            for (int n = 0; n < kColumns; ++n) top[n] = fmaxf(top[n], exchange(top[n], o));
        }
        bool rare = all != all;
        TQ_UNROLL
        for (int n = 0; n < kColumns; ++n) {
            top[n] += bias[n];
            rare |= top[n] > m[n] + 40.0f;
        }
        if (any_lane(rare)) {
            if (all != all) poison(scores, value_scales);
            TQ_UNROLL
            for (int n = 0; n < kColumns; ++n) {
                const float higher = fmaxf(m[n], top[n]), factor = exp2_fast(m[n] - higher);
                m[n] = higher;
                l[n] *= factor;
                TQ_UNROLL
                for (int i = 0; i < kOut; ++i) out[i][n] *= factor;
            }
        }
        TQ_UNROLL
        for (int n = 0; n < kColumns; ++n) {
            gain[n] = kFullWeight * exp2_fast(fminf(m[n] - top[n], 100.0f));
            weight_unit[n] = exp2_fast(top[n] - m[n]) * (1.0f / kFullWeight);
            shift[n] = bias[n] - m[n];
            sum[n] = 0;
        }
        std::uint32_t both[kM];
        TQ_UNROLL
        for (int mt = 0; mt < kM; ++mt) {
            const float v0 = fmaxf(low_half(value_scales[mt]), 0.0f), v1 = fmaxf(high_half(value_scales[mt]), 0.0f);
            std::uint32_t p[2][kColumns];
            TQ_UNROLL
            for (int n = 0; n < kColumns; ++n) {
                const float e0 = exp2_fast(fmaf(scores[mt][0][n], units[n], shift[n])), e1 = exp2_fast(fmaf(scores[mt][1][n], units[n], shift[n]));
                sum[n] += e0;
                sum[n] += e1;
                p[0][n] = as_bits(fmaf(e0, v0 * gain[n], 8388608.0f));  // low 16 bits: the rounded weight
                p[1][n] = as_bits(fmaf(e1, v1 * gain[n], 8388608.0f));
            }
            if constexpr (kFew) {
                both[mt] = transpose8(permute_bytes(p[0][0], p[1][0], 0x5410));
            } else {
                TQ_UNROLL
                for (int tile = 0; tile < kTiles; ++tile) {
                    const int c0 = 2 * tile % kColumns, c1 = (2 * tile + 1) % kColumns;
                    const std::uint32_t y0 = transpose8(permute_bytes(p[0][c0], p[0][c1], 0x5410)), y1 = transpose8(permute_bytes(p[1][c0], p[1][c1], 0x5410));
                    packed[2 * tile % kParts][mt] = permute_bytes(y0, y1, 0x7531);
                    packed[(2 * tile + 1) % kParts][mt] = permute_bytes(y0, y1, 0x6420);
                }
            }
        }
        if constexpr (kFew) {  // column 2h has tokens 0..7 of row h, column 2h+1 tokens 8..15: exchanged so that they have hi and lo
            const std::uint32_t keep = odd ? 0x6420u : 0x7531u, send = odd ? 0x7531u : 0x6420u, first = odd ? 0x1054u : 0x5410u, then = odd ? 0x3276u : 0x7632u;
            TQ_UNROLL
            for (int mt = 0; mt < kM; mt += 2) {
                const std::uint32_t kept = permute_bytes(both[mt], both[mt + 1], keep), got = exchange(permute_bytes(both[mt], both[mt + 1], send), 4);
                packed[0][mt] = permute_bytes(kept, got, first);
                packed[0][mt + 1] = permute_bytes(kept, got, then);
            }
        }
        TQ_UNROLL
        for (int n = 0; n < kColumns; ++n) l[n] += sum[n];
    }

    // words(s, j, w): the kValueBits words of group (s, j).
    template <class Words, int kM>
    TQ_DEV void add_values(Words&& words, const std::uint32_t (&packed)[kParts][kM]) {
        constexpr int kHalves = kM / 2;
        const int start[4] = {kMagicBits, kMagicBits, kMagicBits, kMagicBits};
        TQ_UNROLL
        for (int j = 0; j < D / 32; ++j) {
            std::uint32_t r[kHalves][8], second[kHalves][8];
            TQ_UNROLL
            for (int s = 0; s < kHalves; ++s) {
                std::uint32_t w[kValueBits];
                words(s, j, w);
                values.decode(w, r[s], second[s]);
            }
            TQ_UNROLL
            for (int e = 0; e < 2; ++e) {
                int c[kParts][4];
                TQ_UNROLL
                for (int s = 0; s < kHalves; ++s) {
                    const std::uint32_t left[4] = {r[s][2 * e], r[s][2 * e + 1], r[s][4 + 2 * e], r[s][4 + 2 * e + 1]};
                    TQ_UNROLL
                    for (int n = 0; n < kParts; ++n) mma_unsigned(c[n], left, packed[n][2 * s], packed[n][2 * s + 1], s ? c[n] : start);
                    if constexpr (ValueLookup::kTwoParts) {
                        const std::uint32_t more[4] = {second[s][2 * e], second[s][2 * e + 1], second[s][4 + 2 * e], second[s][4 + 2 * e + 1]};
                        TQ_UNROLL
                        for (int n = 0; n < kParts; ++n) mma_unsigned(c[n], more, packed[n][2 * s], packed[n][2 * s + 1], c[n]);
                    }
                }
                // 256 hi + lo: the addition rounds to a multiple of 256, one 65536th of full weight times a codeword; the rest is exact.
                TQ_UNROLL
                for (int row = 0; row < 2; ++row) {
                    TQ_UNROLL
                    for (int n = 0; n < kColumns; ++n) {
                        int hi, lo;
                        if constexpr (kFew) {
                            hi = c[0][2 * row]; lo = c[0][2 * row + 1];
                        } else {
                            hi = c[2 * (n / 2) % kParts][2 * row + (n & 1)]; lo = c[(2 * (n / 2) + 1) % kParts][2 * row + (n & 1)];
                        }
                        float& o = out[4 * j + 2 * e + row][n];
                        o = fmaf(weight_unit[n], fmaf(as_float(static_cast<std::uint32_t>(hi)), 256.0f, as_float(static_cast<std::uint32_t>(lo)) - 257.0f * kMagic), o);
                    }
                }
            }
        }
    }

    // l becomes the sum over the eight lanes that share a row.
    TQ_DEV void finish() {
        TQ_UNROLL
        for (int n = 0; n < kColumns; ++n) {
            l[n] += exchange(l[n], 4);
            l[n] += exchange(l[n], 8);
            l[n] += exchange(l[n], 16);
        }
    }
};

}  // namespace turboquant::device

// Attention of a warp's 16 query rows on 16 neighbouring exact tokens, as matrix products of binary16 numbers with float32 sums. Queries are
// binary16 without rounding (times a power of two per row), weights are a sum of two binary16 numbers.
//
// Lane = 4 g + t. A lane has rows g and g + 8. Dims are permuted so that a lane's operands are 16 contiguous bytes: of keys and queries the
// dims 8 t .. 8 t + 7 of every 32, of values the dims 8 g .. 8 g + 7 of every 64.
//
// Lane logic on warp.cuh: loads are the caller's, so that it runs on the CPU.
#pragma once

#include "core/page.hpp"
#include "cuda/device/warp.cuh"

namespace turboquant::cuda {

inline constexpr int kExactRows = 16, kExactTokens = 16;  // per step

struct Words {
    std::uint32_t w[4];
};

// Which tokens a row sees, and what its scores are multiplied with; of rows g and g + 8.
struct ExactRow {
    float unit;                        // to log2
    int first, last;                   // tokens
};

template <int kHeadDim>
struct ExactMath {
    static constexpr int kBlocks = (kHeadDim + 31) / 32, kColumns = (kHeadDim + 63) / 64;

    float out[kColumns][8][4];
    float m[2], l[2];                  // as everywhere: weights are 2^(score - m)

    TQ_DEV void reset() {
        m[0] = m[1] = device::kNothing;
        l[0] = l[1] = 0;
        TQ_UNROLL
        for (int c = 0; c < kColumns; ++c) {
            TQ_UNROLL
            for (int j = 0; j < 8; ++j) {
                TQ_UNROLL
                for (int i = 0; i < 4; ++i) out[c][j][i] = 0;
            }
        }
    }

    // query(block, row): the lane's words of row g + 8 row; key(block, n): those of token 8 n + g. scores[n]: rows g and g + 8 (two each),
    // tokens 8 n + 2 t and the next.
    template <class Query, class Key>
    static TQ_DEV void score(Query&& query, Key&& key, float scores[2][4]) {
        TQ_UNROLL
        for (int n = 0; n < 2; ++n) {
            TQ_UNROLL
            for (int i = 0; i < 4; ++i) scores[n][i] = 0;
        }
        TQ_UNROLL
        for (int block = 0; block < kBlocks; ++block) {
            const Words low = query(block, 0), high = query(block, 1);
            TQ_UNROLL
            for (int n = 0; n < 2; ++n) {
                const Words k = key(block, n);
                TQ_UNROLL
                for (int s = 0; s < 2; ++s) {
                    const std::uint32_t a[4] = {low.w[2 * s], high.w[2 * s], low.w[2 * s + 1], high.w[2 * s + 1]};
                    device::mma_half(scores[n], a, k.w[2 * s], k.w[2 * s + 1]);
                }
            }
        }
    }

    // Scores become weights as operands: of the upper halves, then of what these leave. token: the first of the 16.
    TQ_DEV void soften(float scores[2][4], const ExactRow rows[2], float cap, int token, std::uint32_t weights[2][4]) {
        const int t = device::lane_id() & 3;
        TQ_UNROLL
        for (int h = 0; h < 2; ++h) {
            float x[4], top = -INFINITY;
            TQ_UNROLL
            for (int i = 0; i < 4; ++i) {
                const int at = token + 8 * (i >> 1) + 2 * t + (i & 1);
                x[i] = scores[i >> 1][2 * h + (i & 1)] * rows[h].unit;
                if (cap != 0) x[i] = cap * (1.0f - 2.0f * device::reciprocal_fast(device::exp2_fast(x[i] * (2.0f * device::kLog2E / cap)) + 1.0f));
                x[i] = at >= rows[h].first && at <= rows[h].last ? x[i] : -INFINITY;
                top = fmaxf(top, x[i]);
            }
            top = fmaxf(top, device::exchange(top, 1));
            top = fmaxf(top, device::exchange(top, 2));
            const float higher = fmaxf(m[h], top), factor = device::exp2_fast(m[h] - higher);
            m[h] = higher;
            l[h] *= factor;
            TQ_UNROLL
            for (int c = 0; c < kColumns; ++c) {
                TQ_UNROLL
                for (int j = 0; j < 8; ++j) {
                    out[c][j][2 * h] *= factor;
                    out[c][j][2 * h + 1] *= factor;
                }
            }
            TQ_UNROLL
            for (int i = 0; i < 4; ++i) {
                x[i] = device::exp2_fast(x[i] - higher);
                l[h] += x[i];
            }
            TQ_UNROLL
            for (int n = 0; n < 2; ++n) {
                const std::uint32_t upper = device::pack_halves(x[2 * n], x[2 * n + 1]);
                weights[0][2 * n + h] = upper;
                weights[1][2 * n + h] = device::pack_halves(x[2 * n] - device::low_half(upper), x[2 * n + 1] - device::high_half(upper));
            }
        }
    }

    // value(column, i): the lane's words of token 2 t + {0, 1, 8, 9}[i].
    template <class Value>
    TQ_DEV void add_values(Value&& value, const std::uint32_t weights[2][4]) {
        TQ_UNROLL
        for (int c = 0; c < kColumns; ++c) {
            Words v[4];
            TQ_UNROLL
            for (int i = 0; i < 4; ++i) v[i] = value(c, i);
            TQ_UNROLL
            for (int j = 0; j < 8; ++j) {
                const std::uint32_t selector = j % 2 == 0 ? 0x5410u : 0x7632u;
                const std::uint32_t b0 = device::permute_bytes(v[0].w[j / 2], v[1].w[j / 2], selector), b1 = device::permute_bytes(v[2].w[j / 2], v[3].w[j / 2], selector);
                device::mma_half(out[c][j], weights[0], b0, b1);
                device::mma_half(out[c][j], weights[1], b0, b1);
            }
        }
    }

    // After the last step: l becomes the rows' own.
    TQ_DEV void finish() {
        TQ_UNROLL
        for (int h = 0; h < 2; ++h) {
            l[h] += device::exchange(l[h], 1);
            l[h] += device::exchange(l[h], 2);
        }
    }

    // Calls store(row, dim, value) for all that the lane has.
    template <class Store>
    TQ_DEV void give(Store&& store) const {
        const int g = device::lane_id() >> 2, t = device::lane_id() & 3;
        TQ_UNROLL
        for (int c = 0; c < kColumns; ++c) {
            TQ_UNROLL
            for (int j = 0; j < 8; ++j) {
                TQ_UNROLL
                for (int i = 0; i < 4; ++i) {
                    const int dim = 64 * c + 8 * (2 * t + (i & 1)) + j;
                    if (kHeadDim % 64 == 0 || dim < kHeadDim) store(g + 8 * (i >> 1), dim, out[c][j][i]);
                }
            }
        }
    }
};

}  // namespace turboquant::cuda

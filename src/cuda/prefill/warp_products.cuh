// Matrix products of a warp with the tiles of tiles.cuh: 16 query rows from registers, operands as mma.m16n8k16 has them. Lane 4 g + t has rows g and
// g + 8, and s[4 c + 2 h + e] is row g + 8 h, column 8 c + 2 t + e.
//
// Lane logic on warp.cuh. load(at, four): four 8 x 8 matrices of binary16 from a tile; lane 8 i + r names row r of matrix i by its byte, and lane
// 4 g + t gets numbers 2 t and 2 t + 1 of row g of each.
#pragma once

#include "cuda/prefill/tiles.cuh"

namespace turboquant::cuda {

template <int kHeadDim>
struct WarpProducts {
    using Tiles = PrefillTiles<kHeadDim>;
    static constexpr int D = Tiles::D;

    // Where a lane's row begins: of 16 rows of a tile the first or last eight, and of 16 inner numbers the first or last.
    static TQ_DEV unsigned columns_from(unsigned rows) {
        const unsigned lane = lane_number();
        return Tiles::place(rows, 8 * (lane >> 4) + (lane & 7), 8 * (lane >> 3 & 1));
    }
    static TQ_DEV unsigned rows_from(unsigned rows, unsigned first) {
        const unsigned lane = lane_number();
        return Tiles::place(rows, first + 8 * (lane >> 3 & 1) + (lane & 7), 8 * (lane >> 4));
    }
    // The operand of rows first .. first + 15 of a tile of queries (four warps', 64 rows), inner numbers 16 step and on.
    template <class Load>
    static TQ_DEV void load_rows(unsigned first, int step, std::uint32_t* a, Load&& load) {
        load(Tiles::place_from(rows_from(64, first), Tiles::place(64, 0, 16 * step)), a);
    }

    // s: 64 columns, the page's tokens in the tile's order. operand(step): the rows' operand of 16 inner numbers.
    template <class Operand, class Load>
    static TQ_DEV void score(float* s, Operand&& operand, Load&& load) {
        const unsigned own = columns_from(kPageTokens);
        TQ_UNROLL
        for (int i = 0; i < 32; ++i) s[i] = 0;
        TQ_UNROLL
        for (int step = 0; step < D / 16; ++step) {
            std::uint32_t a[4];
            operand(step, a);
            TQ_UNROLL
            for (int c = 0; c < 4; ++c) {
                std::uint32_t b[4];
                load(Tiles::place_from(own, Tiles::place(kPageTokens, 16 * c, 16 * step)), b);
                device::mma_half(s + 8 * c, a, b[0], b[1]);
                device::mma_half(s + 8 * c + 4, a, b[2], b[3]);
            }
        }
    }
    // out: D columns, the dims in the value tile's order. weights: four to each 16 tokens, in the tile's order.
    template <class Load>
    static TQ_DEV void add_values(float* out, const std::uint32_t* weights, Load&& load) {
        const unsigned own = columns_from(D);
        TQ_UNROLL
        for (int step = 0; step < 4; ++step) {
            TQ_UNROLL
            for (int c = 0; c < D / 16; ++c) {
                std::uint32_t b[4];
                load(Tiles::place_from(own, Tiles::place(D, 16 * c, 16 * step)), b);
                device::mma_half(out + 8 * c, weights + 4 * step, b[0], b[1]);
                device::mma_half(out + 8 * c + 4, weights + 4 * step, b[2], b[3]);
            }
        }
    }

private:
    static TQ_DEV unsigned lane_number() { return static_cast<unsigned>(device::lane_id()); }
};

}  // namespace turboquant::cuda

// Matrix products of a warp with the tiles of tiles.cuh: 16 query rows, or twice that, from registers, operands as mma.m16n8k16 has them. Lane 4 g + t has rows g and
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

    // For kRowTiles times 16 rows. s: 64 columns, the page's tokens in the tile's order. operand(tile, step, four): that of 16 inner numbers.
    template <int kRowTiles, class Operand, class Load>
    static TQ_DEV void score(float (*s)[32], Operand&& operand, Load&& load) {
        const unsigned own = columns_from(kPageTokens);
        TQ_UNROLL
        for (int i = 0; i < 32 * kRowTiles; ++i) s[i / 32][i % 32] = 0;
        TQ_UNROLL
        for (int step = 0; step < D / 16; ++step) {
            std::uint32_t a[kRowTiles][4];
            TQ_UNROLL
            for (int tile = 0; tile < kRowTiles; ++tile) operand(tile, step, a[tile]);
            TQ_UNROLL
            for (int c = 0; c < 4; ++c) {
                std::uint32_t b[4];
                load(Tiles::place_from(own, Tiles::place(kPageTokens, 16 * c, 16 * step)), b);
                TQ_UNROLL
                for (int tile = 0; tile < kRowTiles; ++tile) {
                    device::mma_half(s[tile] + 8 * c, a[tile], b[0], b[1]);
                    device::mma_half(s[tile] + 8 * c + 4, a[tile], b[2], b[3]);
                }
            }
        }
    }
    // out(tile): D columns, the dims in the value tile's order. weights: four to each 16 tokens, in the tile's order.
    template <int kRowTiles, class Out, class Load>
    static TQ_DEV void add_values(Out&& out, const std::uint32_t (*weights)[16], Load&& load) {
        const unsigned own = columns_from(D);
        TQ_UNROLL
        for (int step = 0; step < 4; ++step) {
            TQ_UNROLL
            for (int c = 0; c < D / 16; ++c) {
                std::uint32_t b[4];
                load(Tiles::place_from(own, Tiles::place(D, 16 * c, 16 * step)), b);
                TQ_UNROLL
                for (int tile = 0; tile < kRowTiles; ++tile) {
                    device::mma_half(out(tile) + 8 * c, weights[tile] + 4 * step, b[0], b[1]);
                    device::mma_half(out(tile) + 8 * c + 4, weights[tile] + 4 * step, b[2], b[3]);
                }
            }
        }
    }

private:
    static TQ_DEV unsigned lane_number() { return static_cast<unsigned>(device::lane_id()); }
};

}  // namespace turboquant::cuda

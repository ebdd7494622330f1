// Between the two layouts: 64 `rows` records of one KV head <-> its key and value tiles in `simd64`. Exact both ways.
// A key tile's reference belongs to no single row: it stays in the tile and travels beside the records.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/layout.hpp"

namespace turboquant {

// One side of both: where a record's codes and scale lie, and the tile's layout.
struct SideLayout {
    TileLayout tile;
    std::size_t record_bytes, codes_offset, scale_offset;
};

constexpr SideLayout side_layout(const RowLayout& row, Side side) {
    if (side == Side::key) return {{side, row.head_dim, row.key_bits}, row.record_bytes(), 0, row.key_scale_offset()};
    return {{side, row.head_dim, row.value_bits}, row.record_bytes(), row.value_offset(), row.value_scale_offset()};
}

// records: 64 of them, one after another. blob: codes and scales are written, a reference is left alone.
inline void rows_to_tile(const SideLayout& side, const std::uint8_t* records, std::uint8_t* blob) {
    for (int t = 0; t < kTileTokens; ++t) {
        const std::uint8_t* record = records + t * side.record_bytes;
        for (int j = 0; j < side.tile.head_dim; ++j) {
            tile_set_code(side.tile, blob, t, j, row_get_code(record + side.codes_offset, side.tile.bits, j));
        }
        std::memcpy(blob + side.tile.scales_offset() + 2 * t, record + side.scale_offset, 2);
    }
}

// The other side's bytes of the records are left alone.
inline void tile_to_rows(const SideLayout& side, const std::uint8_t* blob, std::uint8_t* records) {
    for (int t = 0; t < kTileTokens; ++t) {
        std::uint8_t* record = records + t * side.record_bytes;
        for (int j = 0; j < side.tile.head_dim; ++j) {
            row_set_code(record + side.codes_offset, side.tile.bits, j, tile_get_code(side.tile, blob, t, j));
        }
        std::memcpy(record + side.scale_offset, blob + side.tile.scales_offset() + 2 * t, 2);
    }
}

}  // namespace turboquant

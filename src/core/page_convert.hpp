// Between mma64 pages and the other two layouts, one KV head at a time. Exact both ways: codes, scales and the reference are moved,
// nothing is coded again.
#pragma once

#include <cstring>

#include "core/convert.hpp"
#include "core/page.hpp"

namespace turboquant {

// One side of a page and of its 64 `rows` records. The reference stays in the page; a record has none.
// records: 64 of them, one after another; the other side's bytes are left alone.
inline void page_to_rows(const PageLayout& layout, Side side, const std::uint8_t* blob, std::uint8_t* records) {
    const SideLayout row = side_layout({layout.head_dim, layout.key_bits, layout.value_bits}, side);
    const PageSide page = layout.of(side);
    const std::uint8_t* part = blob + layout.offset(side);
    for (int t = 0; t < kPageTokens; ++t) {
        std::uint8_t* record = records + t * row.record_bytes;
        for (int j = 0; j < layout.head_dim; ++j) row_set_code(record + row.codes_offset, page.bits, j, page_get_code(page, part, t, j));
        std::memcpy(record + row.scale_offset, part + page.scales_offset() + 2 * page.scale_index(t), 2);
    }
}

// Codes beyond head_dim are left alone: begin with a blob of zero bytes.
inline void rows_to_page(const PageLayout& layout, Side side, const std::uint8_t* records, std::uint8_t* blob) {
    const SideLayout row = side_layout({layout.head_dim, layout.key_bits, layout.value_bits}, side);
    const PageSide page = layout.of(side);
    std::uint8_t* part = blob + layout.offset(side);
    for (int t = 0; t < kPageTokens; ++t) {
        const std::uint8_t* record = records + t * row.record_bytes;
        for (int j = 0; j < layout.head_dim; ++j) page_set_code(page, part, t, j, row_get_code(record + row.codes_offset, page.bits, j));
        std::memcpy(part + page.scales_offset() + 2 * page.scale_index(t), record + row.scale_offset, 2);
    }
}

// One side of a page and a simd64 tile of the same 64 tokens, the key reference included. Tile: TileLayout{side, head_dim, bits}.
inline void page_to_tile(const PageLayout& layout, Side side, const std::uint8_t* blob, std::uint8_t* tile_blob) {
    const PageSide page = layout.of(side);
    const TileLayout tile{side, layout.head_dim, page.bits};
    const std::uint8_t* part = blob + layout.offset(side);
    for (int t = 0; t < kPageTokens; ++t) {
        for (int j = 0; j < layout.head_dim; ++j) tile_set_code(tile, tile_blob, t, j, page_get_code(page, part, t, j));
        std::memcpy(tile_blob + tile.scales_offset() + 2 * t, part + page.scales_offset() + 2 * page.scale_index(t), 2);
    }
    if (side == Side::key) std::memcpy(tile_blob + tile.reference_offset(), part + page.reference_offset(), 2 * static_cast<std::size_t>(layout.head_dim));
}

inline void tile_to_page(const PageLayout& layout, Side side, const std::uint8_t* tile_blob, std::uint8_t* blob) {
    const PageSide page = layout.of(side);
    const TileLayout tile{side, layout.head_dim, page.bits};
    std::uint8_t* part = blob + layout.offset(side);
    for (int t = 0; t < kPageTokens; ++t) {
        for (int j = 0; j < layout.head_dim; ++j) page_set_code(page, part, t, j, tile_get_code(tile, tile_blob, t, j));
        std::memcpy(part + page.scales_offset() + 2 * page.scale_index(t), tile_blob + tile.scales_offset() + 2 * t, 2);
    }
    if (side == Side::key) std::memcpy(part + page.reference_offset(), tile_blob + tile.reference_offset(), 2 * static_cast<std::size_t>(layout.head_dim));
}

}  // namespace turboquant

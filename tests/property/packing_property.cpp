// Any codes, any width, any place: packing gives back what was put in and touches nothing else.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

#include "core/convert.hpp"

namespace turboquant {
namespace {

TileLayout any_layout() {
    const auto of = [](std::span<const int> choices) {
        return *rc::gen::elementOf(std::vector<int>(choices.begin(), choices.end()));
    };
    return {*rc::gen::element(Side::key, Side::value), of(supported_head_dims()), of(supported_bits())};
}

RC_GTEST_PROP(Packing, ARowGivesBackAnyCodes, ()) {
    const TileLayout layout = any_layout();
    const auto codes = *rc::gen::container<std::vector<int>>(layout.head_dim, rc::gen::inRange(0, 1 << layout.bits));
    std::vector<std::uint8_t> packed(RowLayout::packed_bytes(layout.head_dim, layout.bits), *rc::gen::arbitrary<std::uint8_t>());
    for (int j = 0; j < layout.head_dim; ++j) row_set_code(packed.data(), layout.bits, j, codes[j]);
    for (int j = 0; j < layout.head_dim; ++j) RC_ASSERT(row_get_code(packed.data(), layout.bits, j) == codes[j]);
}

RC_GTEST_PROP(Packing, WritingOneCodeOfATileLeavesAllOthersAlone, ()) {
    const TileLayout layout = any_layout();
    const auto seed = *rc::gen::arbitrary<std::uint32_t>();
    std::vector<std::uint8_t> codes(layout.codes_bytes());
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>((i * 2654435761u + seed) >> 13);
    const std::vector<std::uint8_t> before = codes;
    const int token = *rc::gen::inRange(0, kTileTokens), dim = *rc::gen::inRange(0, layout.head_dim);
    const int code = *rc::gen::inRange(0, 1 << layout.bits);
    tile_set_code(layout, codes.data(), token, dim, code);
    for (int t = 0; t < kTileTokens; ++t) {
        for (int j = 0; j < layout.head_dim; ++j) {
            const int expected = t == token && j == dim ? code : tile_get_code(layout, before.data(), t, j);
            RC_ASSERT(tile_get_code(layout, codes.data(), t, j) == expected);
        }
    }
}

RC_GTEST_PROP(Packing, ATileGivesBackTheRowsThatMadeIt, ()) {
    const TileLayout keys = any_layout(), values = any_layout();
    const RowLayout layout{keys.head_dim, keys.bits, values.bits};
    const auto seed = *rc::gen::arbitrary<std::uint32_t>();
    std::vector<std::uint8_t> records(kTileTokens * layout.record_bytes()), back(records.size());
    for (std::size_t i = 0; i < records.size(); ++i) records[i] = static_cast<std::uint8_t>((i * 2654435761u + seed) >> 11);
    for (Side side : {Side::key, Side::value}) {
        const SideLayout both = side_layout(layout, side);
        std::vector<std::uint8_t> blob(both.tile.blob_bytes());
        rows_to_tile(both, records.data(), blob.data());
        tile_to_rows(both, blob.data(), back.data());
    }
    RC_ASSERT(back == records);
}

}  // namespace
}  // namespace turboquant

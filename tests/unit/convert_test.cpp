// Converting between `rows` and `simd64` moves every code and scale and nothing else.
#include "core/convert.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace turboquant {
namespace {

std::vector<std::uint8_t> random_bytes(std::size_t num, unsigned seed) {
    std::mt19937 engine(seed);
    std::vector<std::uint8_t> bytes(num);
    for (auto& b : bytes) b = static_cast<std::uint8_t>(engine());
    return bytes;
}

TEST(Convert, RowsSurviveTheWayThroughTiles) {
    // Any bytes are valid codes and scales, so random records test every bit.
    for (int head_dim : supported_head_dims()) {
        for (std::size_t b = 0; b < supported_bits().size(); ++b) {
            const RowLayout layout{head_dim, supported_bits()[b], supported_bits()[(b + 2) % supported_bits().size()]};
            const std::vector<std::uint8_t> records = random_bytes(kTileTokens * layout.record_bytes(), head_dim + 7 * b);
            std::vector<std::uint8_t> back(records.size(), 0xa5);
            for (Side side : {Side::key, Side::value}) {
                const SideLayout both = side_layout(layout, side);
                std::vector<std::uint8_t> blob(both.tile.blob_bytes(), 0x5a);
                rows_to_tile(both, records.data(), blob.data());
                tile_to_rows(both, blob.data(), back.data());
            }
            ASSERT_EQ(back, records) << head_dim << " " << layout.key_bits << " " << layout.value_bits;
        }
    }
}

TEST(Convert, TilesSurviveTheWayThroughRowsAndKeepTheirReference) {
    const RowLayout layout{96, 3, 5};
    for (Side side : {Side::key, Side::value}) {
        const SideLayout both = side_layout(layout, side);
        const std::vector<std::uint8_t> blob = random_bytes(both.tile.blob_bytes(), 9);
        std::vector<std::uint8_t> records(kTileTokens * layout.record_bytes()), back = blob;
        tile_to_rows(both, blob.data(), records.data());
        std::fill_n(back.begin(), both.tile.reference_offset(), 0);
        rows_to_tile(both, records.data(), back.data());
        EXPECT_EQ(back, blob);
    }
}

TEST(Convert, OneSideLeavesTheOtherAlone) {
    const RowLayout layout{64, 4, 2};
    const SideLayout keys = side_layout(layout, Side::key);
    const std::vector<std::uint8_t> blob(keys.tile.blob_bytes(), 0);
    std::vector<std::uint8_t> records(kTileTokens * layout.record_bytes(), 0xff);
    tile_to_rows(keys, blob.data(), records.data());
    for (int t = 0; t < kTileTokens; ++t) {
        for (std::size_t i = 0; i < layout.record_bytes(); ++i) {
            ASSERT_EQ(records[t * layout.record_bytes() + i], i < layout.value_offset() ? 0 : 0xff);
        }
    }
}

}  // namespace
}  // namespace turboquant

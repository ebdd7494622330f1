// Every code has bits of its own in both layouts, all bits are used, and converting between the layouts is exact.
#include "core/layout.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <numeric>
#include <random>
#include <vector>

namespace turboquant {
namespace {

int bits_set(const std::vector<std::uint8_t>& bytes) {
    return std::accumulate(bytes.begin(), bytes.end(), 0, [](int sum, std::uint8_t b) { return sum + std::popcount(b); });
}

std::vector<TileLayout> every_tile_layout() {
    std::vector<TileLayout> layouts;
    for (int head_dim : supported_head_dims()) {
        for (int bits : supported_bits()) {
            for (Side side : {Side::key, Side::value}) layouts.push_back({side, head_dim, bits});
        }
    }
    return layouts;
}

std::string describe(const TileLayout& layout) {
    return (layout.side == Side::key ? "keys " : "values ") + std::to_string(layout.head_dim) + " x " + std::to_string(layout.bits);
}

std::vector<int> random_codes(const TileLayout& layout) {
    std::mt19937 engine(layout.head_dim * 16 + layout.bits);
    std::vector<int> codes(static_cast<std::size_t>(layout.head_dim) * kTileTokens);
    for (int& code : codes) code = static_cast<int>(engine() % (1u << layout.bits));
    return codes;
}

TEST(TileLayout, EveryCodeHasItsOwnBitsAndNoneIsLeft) {
    // Setting all ones code by code adds exactly `bits` bits each time: no overlap, and at the end every bit is set.
    for (const TileLayout& layout : every_tile_layout()) {
        std::vector<std::uint8_t> bytes(layout.codes_bytes(), 0);
        int expected = 0;
        for (int t = 0; t < kTileTokens; ++t) {
            for (int j = 0; j < layout.head_dim; ++j) {
                tile_set_code(layout, bytes.data(), t, j, (1 << layout.bits) - 1);
                expected += layout.bits;
            }
            ASSERT_EQ(bits_set(bytes), expected) << describe(layout) << ", token " << t;
        }
        EXPECT_EQ(static_cast<std::size_t>(expected), 8 * layout.codes_bytes()) << describe(layout);
    }
}

TEST(TileLayout, CodesReadBackWhateverTheBytesHeldBefore) {
    for (const TileLayout& layout : every_tile_layout()) {
        const std::vector<int> codes = random_codes(layout);
        std::vector<std::uint8_t> zeros(layout.codes_bytes(), 0), ones(layout.codes_bytes(), 0xff);
        for (int i = 0; i < static_cast<int>(codes.size()); ++i) {
            tile_set_code(layout, zeros.data(), i / layout.head_dim, i % layout.head_dim, codes[i]);
            tile_set_code(layout, ones.data(), i / layout.head_dim, i % layout.head_dim, codes[i]);
        }
        ASSERT_EQ(zeros, ones) << describe(layout);
        for (int i = 0; i < static_cast<int>(codes.size()); ++i) {
            ASSERT_EQ(tile_get_code(layout, zeros.data(), i / layout.head_dim, i % layout.head_dim), codes[i])
                << describe(layout) << ", code " << i;
        }
    }
}

TEST(TileLayout, EveryCodeValueReadsBackInEveryPlaceOfAChunk) {
    for (int bits : supported_bits()) {
        const TileLayout layout{Side::key, 64, bits};
        std::vector<std::uint8_t> bytes(layout.codes_bytes(), 0);
        for (int code = 0; code < 1 << bits; ++code) {
            for (int t = 0; t < kTileTokens; ++t) {
                for (int j = 0; j < 8; ++j) {
                    tile_set_code(layout, bytes.data(), t, j, code);
                    ASSERT_EQ(tile_get_code(layout, bytes.data(), t, j), code);
                }
            }
        }
    }
}

TEST(TileLayout, PlacesAreWhatTheHeaderSays) {
    const TileLayout keys{Side::key, 128, 4}, values{Side::value, 128, 4};
    EXPECT_EQ(keys.place(0, 0).vector, 0);
    EXPECT_EQ(keys.place(17, 6).vector, 4 + 1);
    EXPECT_EQ(keys.place(17, 6).lane, 4 + 2);
    EXPECT_EQ(values.place(17, 6).vector, 4);
    EXPECT_EQ(values.place(17, 6).lane, 6 * 4 + 1);
    EXPECT_EQ(values.place(63, 127).vector, 127);
    EXPECT_EQ(values.place(63, 127).lane, 63);
}

TEST(TileLayout, FourNeighbouringLanesAreWhatOneDotProductAddsUp) {
    for (Side side : {Side::key, Side::value}) {
        const TileLayout layout{side, 96, 3};
        for (int t = 0; t < kTileTokens; t += side == Side::key ? 1 : 4) {
            for (int j = 0; j < 96; j += side == Side::key ? 4 : 1) {
                const auto first = layout.place(t, j);
                for (int i = 1; i < 4; ++i) {
                    const auto next = side == Side::key ? layout.place(t, j + i) : layout.place(t + i, j);
                    ASSERT_EQ(next.vector, first.vector);
                    ASSERT_EQ(next.lane, first.lane + i);
                }
                ASSERT_EQ(first.lane % 4, 0);
            }
        }
    }
}

TEST(TileLayout, ChunksHoldEightVectorsMainPlaneFirst) {
    // A code of one bit in the main plane touches the first main_bits * 64 bytes of its chunk, a high bit the rest.
    for (int bits : supported_bits()) {
        const TileLayout layout{Side::value, 64, bits};
        EXPECT_EQ(layout.chunk_bytes() * layout.head_dim / kChunkVectors, layout.codes_bytes());
        EXPECT_EQ(main_plane_bits(bits) + extra_plane_bits(bits), bits);
        for (int j : {0, 15, 16, 63}) {
            for (int bit = 0; bit < bits; ++bit) {
                std::vector<std::uint8_t> bytes(layout.codes_bytes(), 0);
                tile_set_code(layout, bytes.data(), 33, j, 1 << bit);
                std::size_t at = 0;
                while (bytes[at] == 0) ++at;
                EXPECT_EQ(at / layout.chunk_bytes(), static_cast<std::size_t>(layout.place(33, j).vector / kChunkVectors));
                EXPECT_EQ(at % layout.chunk_bytes() >= static_cast<std::size_t>(64 * main_plane_bits(bits)),
                          bit >= main_plane_bits(bits));
            }
        }
    }
}

TEST(TileLayout, BlobsAreCodesScalesAndForKeysAReference) {
    for (const TileLayout& layout : every_tile_layout()) {
        EXPECT_EQ(layout.codes_bytes() % 64, 0u);
        EXPECT_EQ(layout.scales_offset(), layout.codes_bytes());
        EXPECT_EQ(layout.reference_offset(), layout.codes_bytes() + 128);
        EXPECT_EQ(layout.blob_bytes(), layout.codes_bytes() + 128 + (layout.side == Side::key ? 2 * layout.head_dim : 0))
            << describe(layout);
    }
}

TEST(RowLayout, CodesReadBackAndUseEveryBit) {
    for (int head_dim : supported_head_dims()) {
        for (int bits : supported_bits()) {
            std::vector<std::uint8_t> packed(RowLayout::packed_bytes(head_dim, bits), 0);
            for (int j = 0; j < head_dim; ++j) {
                row_set_code(packed.data(), bits, j, (1 << bits) - 1);
                ASSERT_EQ(bits_set(packed), (j + 1) * bits);
            }
            for (int j = 0; j < head_dim; ++j) row_set_code(packed.data(), bits, j, j * 5 & ((1 << bits) - 1));
            for (int j = 0; j < head_dim; ++j) ASSERT_EQ(row_get_code(packed.data(), bits, j), (j * 5 & ((1 << bits) - 1)));
        }
    }
}

TEST(RowLayout, IsALittleEndianBitString) {
    std::uint8_t packed[6] = {};
    row_set_code(packed, 3, 0, 0b101);
    row_set_code(packed, 3, 2, 0b110);  // bits 6, 7 and 8
    EXPECT_EQ(packed[0], 0b10000101);
    EXPECT_EQ(packed[1], 0b1);
}

TEST(RowLayout, RecordsAreKeyThenValueEachWithItsScale) {
    for (int head_dim : supported_head_dims()) {
        for (int key_bits : supported_bits()) {
            for (int value_bits : supported_bits()) {
                const RowLayout layout{head_dim, key_bits, value_bits};
                EXPECT_EQ(layout.key_scale_offset() * 8, static_cast<std::size_t>(head_dim * key_bits));
                EXPECT_EQ(layout.value_offset(), layout.key_scale_offset() + 2);
                EXPECT_EQ(layout.record_bytes() * 8, static_cast<std::size_t>(head_dim * (key_bits + value_bits) + 32));
                EXPECT_EQ(layout.key_scale_offset() % 2, 0u);
                EXPECT_EQ(layout.value_scale_offset() % 2, 0u);
            }
        }
    }
}

}  // namespace
}  // namespace turboquant

// mma64 pages: every code has bits of its own, the words are where the kernels load them, and converting is exact.
#include "core/page.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "core/page_convert.hpp"
#include "core/paley.hpp"

namespace turboquant {
namespace {

constexpr int kHeadDims[] = {64, 80, 96, 112, 128, 192, 256};
constexpr int kPageBits[] = {2, 3, 4, 8};

std::vector<std::uint8_t> random_bytes(std::size_t num, unsigned seed) {
    std::mt19937 engine(seed);
    std::vector<std::uint8_t> bytes(num);
    for (auto& b : bytes) b = static_cast<std::uint8_t>(engine());
    return bytes;
}

TEST(Page, EveryCodeHasItsOwnBits) {
    for (int head_dim : kHeadDims) {
        for (int bits : kPageBits) {
            for (Side side : {Side::key, Side::value}) {
                const PageSide layout{side, head_dim, bits};
                std::vector<std::uint8_t> codes(layout.codes_bytes(), 0);
                for (int t = 0; t < kPageTokens; ++t) {
                    for (int j = 0; j < head_dim; ++j) page_set_code(layout, codes.data(), t, j, (1 << bits) - 1);
                }
                const int set = std::accumulate(codes.begin(), codes.end(), 0, [](int sum, std::uint8_t b) { return sum + std::popcount(b); });
                ASSERT_EQ(set, kPageTokens * head_dim * bits) << head_dim << " x " << bits;
            }
        }
    }
}

TEST(Page, WordsOfALaneCoverTheCodes) {
    for (int head_dim : kHeadDims) {
        for (int bits : kPageBits) {
            const PageSide layout{Side::value, head_dim, bits};
            std::set<std::size_t> seen;
            for (int lane = 0; lane < kWarpLanes; ++lane) {
                for (int group = 0; group < layout.padded_dim() / 16; ++group) {
                    for (int w = 0; w < bits; ++w) seen.insert(layout.word_offset(lane, layout.group_word(group, w)));
                }
            }
            ASSERT_EQ(seen.size() * 4, layout.codes_bytes());
            ASSERT_EQ(*seen.rbegin() + 4, layout.codes_bytes());
        }
    }
}

TEST(Page, FourBitKeysOfPowersOfTwoAreRowMajor) {
    const PageSide layout{Side::key, 128, 4};
    std::vector<std::uint8_t> codes(layout.codes_bytes(), 0);
    for (int t : {0, 5, 63}) {
        for (int j : {0, 1, 77, 127}) {
            std::fill(codes.begin(), codes.end(), 0);
            page_set_code(layout, codes.data(), t, j, 15);
            EXPECT_EQ(codes[64 * t + j / 2], j % 2 ? 0xf0 : 0x0f);
        }
    }
}

TEST(Page, PartsAreAlignedForBulkCopies) {
    for (int head_dim : kHeadDims) {
        for (int kb : kPageBits) {
            for (int vb : kPageBits) {
                const PageLayout layout{head_dim, kb, vb};
                EXPECT_EQ(layout.keys().part_bytes() % 16, 0u);
                EXPECT_EQ(layout.values().part_bytes() % 16, 0u);
                EXPECT_EQ(layout.keys().reference_offset() % 16, 0u);
                EXPECT_EQ(layout.blob_bytes() % 128, 0u);
            }
        }
    }
}

TEST(Page, SurvivesTheWayThroughRowsAndTiles) {
    for (int head_dim : kHeadDims) {
        for (std::size_t b = 0; b < std::size(kPageBits); ++b) {
            const PageLayout layout{head_dim, kPageBits[b], kPageBits[(b + 1) % 4]};
            const RowLayout row{head_dim, layout.key_bits, layout.value_bits};
            const std::vector<std::uint8_t> records = random_bytes(kPageTokens * row.record_bytes(), head_dim + 7 * static_cast<unsigned>(b));
            std::vector<std::uint8_t> blob(layout.blob_bytes(), 0), again(layout.blob_bytes(), 0), back(records.size(), 0xa5);
            for (Side side : {Side::key, Side::value}) rows_to_page(layout, side, records.data(), blob.data());
            for (int j = 0; j < head_dim; ++j) blob[layout.keys().reference_offset() + 2 * j] = static_cast<std::uint8_t>(j + 1);
            for (Side side : {Side::key, Side::value}) {
                const TileLayout tile{side, head_dim, layout.of(side).bits};
                std::vector<std::uint8_t> tile_blob(tile.blob_bytes(), 0x5a);
                page_to_tile(layout, side, blob.data(), tile_blob.data());
                tile_to_page(layout, side, tile_blob.data(), again.data());
                page_to_rows(layout, side, again.data(), back.data());
            }
            ASSERT_EQ(again, blob) << head_dim << " " << layout.key_bits << " " << layout.value_bits;
            ASSERT_EQ(back, records) << head_dim << " " << layout.key_bits << " " << layout.value_bits;
        }
    }
}

TEST(Page, PaleyBitsAreTheRotationsMatrix) {
    for (int order : {1, 12, 20, 28}) {
        const PaleyBits bits = paley_bits(order);
        const std::vector<float> matrix = paley_hadamard(order);
        for (int i = 0; i < order; ++i) {
            for (int a = 0; a < order; ++a) ASSERT_EQ(bits.row[i] >> a & 1 ? -1.0f : 1.0f, matrix[i * order + a]) << order << " " << i << " " << a;
        }
    }
}

}  // namespace
}  // namespace turboquant

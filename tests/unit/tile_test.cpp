// Sealing and opening tiles: the reference, rows that do not count, and codes that survive a trip through binary16.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "core/layout.hpp"
#include "support/vectors.hpp"

namespace turboquant {
namespace {

using testing::kAllRows;
using testing::spec_of;
using testing::Tile;

std::vector<std::uint8_t> seal(const Coder& coder, const Tile& tile, std::uint64_t counted, bool centred, std::uint8_t before = 0,
                               Balance balance = {}) {
    std::vector<std::uint8_t> blob(TileLayout{coder.side, coder.head_dim, coder.bits}.blob_bytes(), before);
    reference::seal_tile(coder, tile.rows, counted, centred, blob.data(), balance);
    return blob;
}

void open(const Coder& coder, const std::vector<std::uint8_t>& blob, Tile& tile, Balance balance = {}) {
    for (int t = 0; t < kTileTokens; ++t) {
        reference::open_row(coder, blob.data(), t, &tile.numbers[static_cast<std::size_t>(t) * tile.head_dim], balance);
    }
}

std::uint16_t half_at(const std::vector<std::uint8_t>& blob, std::size_t offset) {
    std::uint16_t h;
    std::memcpy(&h, &blob[offset], 2);
    return h;
}

double open_error(const Coder& coder, const Tile& tile, bool centred) {
    Tile opened(tile.head_dim, 0);
    open(coder, seal(coder, tile, kAllRows, centred), opened);
    double error = 0;
    for (std::size_t i = 0; i < tile.numbers.size(); ++i) {
        const double e = half_to_float(tile.numbers[i]) - half_to_float(opened.numbers[i]);
        error += e * e;
    }
    return error / static_cast<double>(tile.numbers.size());
}

TEST(TileReference, IsTheMeanOfTheCountedRows) {
    const Tile tile(96, 1, 3.0f);
    for (std::uint64_t counted : {kAllRows, kAllRows << 4, std::uint64_t{1} << 17, std::uint64_t{0x00ff00000ff00ff0}}) {
        std::vector<std::uint16_t> mean(96);
        reference::tile_reference(96, tile.rows, counted, mean.data());
        for (int j = 0; j < 96; ++j) {
            double sum = 0;
            int count = 0;
            for (int t = 0; t < kTileTokens; ++t) {
                if (counted >> t & 1) sum += half_to_float(tile.rows[t][j]), ++count;
            }
            // binary16 rounding: half an ulp, 2^-11 of the value.
            ASSERT_NEAR(half_to_float(mean[j]), sum / count, std::abs(sum / count) * 0x1p-11 + 1e-6);
        }
    }
}

TEST(TileReference, OfNoRowsIsZeroAndOfOneRowIsThatRow) {
    const Tile tile(64, 2);
    std::vector<std::uint16_t> mean(64, 0xffff);
    reference::tile_reference(64, tile.rows, 0, mean.data());
    EXPECT_EQ(mean, std::vector<std::uint16_t>(64, 0));
    reference::tile_reference(64, tile.rows, 1ull << 63, mean.data());
    EXPECT_TRUE(std::equal(mean.begin(), mean.end(), tile.rows[63]));
}

TEST(TileReference, NeverTouchesRowsThatDoNotCount) {
    Tile tile(64, 3);
    tile.rows[0] = nullptr;  // such as a sink, which lies elsewhere
    tile.rows[40] = nullptr;
    const std::uint64_t counted = kAllRows & ~1ull & ~(1ull << 40);
    seal(make_coder(spec_of(64, 4), Side::key), tile, counted, true);
    seal(make_coder(spec_of(64, 4), Side::value), tile, counted, false);
}

TEST(SealTile, WritesEveryByte) {
    const Tile tile(80, 4);
    for (int bits : supported_bits()) {
        for (Side side : {Side::key, Side::value}) {
            const Coder coder = make_coder(spec_of(80, bits), side);
            EXPECT_EQ(seal(coder, tile, kAllRows, true, 0x00), seal(coder, tile, kAllRows, true, 0xff));
        }
    }
}

TEST(SealTile, HoldsTheCodesOfTheDifferenceFromTheReference) {
    const Tile tile(64, 5, 2.0f);
    const Coder coder = make_coder(spec_of(64, 3), Side::key);
    const TileLayout layout{Side::key, 64, 3};
    const std::vector<std::uint8_t> blob = seal(coder, tile, kAllRows, true);
    std::vector<std::uint16_t> mean(64);
    reference::tile_reference(64, tile.rows, kAllRows, mean.data());
    for (int j = 0; j < 64; ++j) ASSERT_EQ(half_at(blob, layout.reference_offset() + 2 * j), mean[j]);
    for (int t = 0; t < kTileTokens; ++t) {
        std::vector<float> x(64);
        for (int j = 0; j < 64; ++j) x[j] = half_to_float(tile.rows[t][j]) - half_to_float(mean[j]);
        const testing::Encoded e = testing::encode(coder, x.data());
        ASSERT_EQ(half_at(blob, layout.scales_offset() + 2 * t), e.scale);
        for (int j = 0; j < 64; ++j) ASSERT_EQ(tile_get_code(layout, blob.data(), t, j), e.codes[j]);
    }
}

TEST(SealTile, RowsThatDoNotCountHaveScaleZero) {
    const Tile tile(64, 6);
    const std::uint64_t counted = kAllRows << 4;
    for (Side side : {Side::key, Side::value}) {
        const std::vector<std::uint8_t> blob = seal(make_coder(spec_of(64, 4), side), tile, counted, true);
        const TileLayout layout{side, 64, 4};
        for (int t = 0; t < kTileTokens; ++t) EXPECT_EQ(half_at(blob, layout.scales_offset() + 2 * t) == 0, t < 4);
    }
}

TEST(SealTile, WithoutCentringTheReferenceIsZero) {
    const Tile tile(64, 7, 4.0f);
    const TileLayout layout{Side::key, 64, 4};
    const std::vector<std::uint8_t> blob = seal(make_coder(spec_of(64, 4), Side::key), tile, kAllRows, false);
    for (int j = 0; j < 64; ++j) EXPECT_EQ(half_at(blob, layout.reference_offset() + 2 * j), 0);
}

TEST(SealTile, CentringPaysOffOnBiasedKeysAndCostsNothingOnOthers) {
    const Coder coder = make_coder(spec_of(128, 4), Side::key);
    const Tile biased(128, 8, 5.0f), unbiased(128, 8, 0.0f);
    EXPECT_LT(open_error(coder, biased, true), open_error(coder, biased, false) / 20);  // the mean is 25 x the variance
    EXPECT_LT(open_error(coder, unbiased, true), open_error(coder, unbiased, false) * 1.02);
}

TEST(TileReference, LeavesOutRowsWithAnInfinityOrNan) {
    for (std::uint16_t bad : {0x7c00, 0xfc00, 0x7e00, 0xfe01}) {
        Tile tile(64, 9, 1.0f);
        std::vector<std::uint16_t> without(64), with(64);
        reference::tile_reference(64, tile.rows, kAllRows & ~(1ull << 10), without.data());
        tile.numbers[10 * 64 + 3] = bad;
        reference::tile_reference(64, tile.rows, kAllRows, with.data());
        EXPECT_EQ(with, without);
    }
}

TEST(SealTile, ARowWithANanSpoilsNoOther) {
    Tile tile(64, 9);
    tile.numbers[10 * 64 + 3] = 0x7e00;
    const Coder keys = make_coder(spec_of(64, 4), Side::key);
    const TileLayout layout{Side::key, 64, 4};
    for (bool centred : {false, true}) {
        const std::vector<std::uint8_t> blob = seal(keys, tile, kAllRows, centred);
        for (int t = 0; t < kTileTokens; ++t) {
            EXPECT_EQ(std::isnan(half_to_float(half_at(blob, layout.scales_offset() + 2 * t))), t == 10);
        }
    }
}

TEST(SealTile, BalanceScalesChannelsBeforeCodingAndAfterDecoding) {
    // Rows times 2^e coded plainly are the same codes as rows coded with balance e: scaling by powers of two is exact.
    const int d = 64;
    std::vector<std::int8_t> balance(d);
    for (int j = 0; j < d; ++j) balance[j] = static_cast<std::int8_t>(j % 9 - 4);
    Tile tile(d, 11), scaled(d, 11);
    for (int i = 0; i < kTileTokens * d; ++i)
        scaled.numbers[i] = float_to_half(std::ldexp(half_to_float(tile.numbers[i]), balance[i % d]));
    for (int i = 0; i < kTileTokens * d; ++i)
        tile.numbers[i] = float_to_half(std::ldexp(half_to_float(scaled.numbers[i]), -balance[i % d]));
    const Coder coder = make_coder(spec_of(d, 4), Side::key);
    const std::vector<std::uint8_t> balanced = seal(coder, tile, kAllRows, false, 0, balance),
                                    plain = seal(coder, scaled, kAllRows, false);
    EXPECT_EQ(balanced, plain);
    Tile opened(d, 0), opened_plain(d, 0);
    open(coder, balanced, opened, balance);
    open(coder, plain, opened_plain);
    for (int i = 0; i < kTileTokens * d; ++i) {  // but for rounding to subnormals of binary16
        ASSERT_NEAR(half_to_float(opened.numbers[i]), std::ldexp(half_to_float(opened_plain.numbers[i]), -balance[i % d]),
                    0x1p-24f * 16);
    }
    const std::vector<std::int8_t> zeros(d, 0);
    EXPECT_EQ(seal(coder, tile, kAllRows, true, 0, zeros), seal(coder, tile, kAllRows, true));
}

// An engine saves a cache as decoded binary16 numbers: sealing those again must find the same codes
// (the issue of DESIGN.md section 3: measured on real keys, all of them).
class Restored : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(EveryWidth, Restored, ::testing::ValuesIn(supported_bits().begin(), supported_bits().end()));

TEST_P(Restored, TilesKeepTheirCodes) {
    for (int head_dim : {64, 128}) {
        for (Side side : {Side::key, Side::value}) {
            const Coder coder = make_coder(spec_of(head_dim, GetParam()), side);
            const TileLayout layout{side, head_dim, GetParam()};
            const Tile tile(head_dim, 10, 2.0f);
            std::vector<std::int8_t> balance(side == Side::key ? head_dim : 0);
            for (std::size_t j = 0; j < balance.size(); ++j) balance[j] = static_cast<std::int8_t>(j * 7 % 5 - 2);
            const std::vector<std::uint8_t> first = seal(coder, tile, kAllRows, true, 0, balance);
            Tile opened(head_dim, 0);
            open(coder, first, opened, balance);
            const std::vector<std::uint8_t> second = seal(coder, opened, kAllRows, true, 0, balance);
            int same = 0;
            for (int i = 0; i < kTileTokens * head_dim; ++i) {
                same += tile_get_code(layout, first.data(), i / head_dim, i % head_dim) ==
                        tile_get_code(layout, second.data(), i / head_dim, i % head_dim);
            }
            EXPECT_GE(same, 0.99 * kTileTokens * head_dim) << (side == Side::key ? "keys " : "values ") << head_dim;
        }
    }
}

}  // namespace
}  // namespace turboquant

// Whole tiles against core's reference: blobs byte for byte, decoded rows bit for bit.
#include <cstring>

#include "cpu/tile_codec.hpp"
#include "parity/cases.hpp"
#include "parity/support.hpp"

namespace turboquant::parity {
namespace {

constexpr std::uint64_t kCounted[] = {testing::kAllRows, 0, 1, 0x8000000000000000, 0xfffffffffffffff0, 0x00000000ffff0f0f};

// 64 rows lying row_stride numbers apart, as in a store with several heads; some hold what vectors may hold.
struct StridedTile {
    std::size_t stride;
    std::vector<std::uint16_t> numbers;
    const std::uint16_t* rows[kTileTokens];

    StridedTile(int dim, std::uint64_t seed, bool strange) : stride(dim + 24), numbers(stride * kTileTokens, 0x7e01) {
        const std::vector<float> mean = gaussian(dim, seed, 0.0f, 3.0f);
        for (int t = 0; t < kTileTokens; ++t) {
            const bool odd_one = strange && t % 9 == 4;
            std::vector<float> x = odd_one ? make_vector(kInputs[(seed + t / 9) % std::size(kInputs)], dim, seed + t) : gaussian(dim, seed * 100 + t);
            for (int j = 0; j < dim; ++j) numbers[t * stride + j] = float_to_half(odd_one ? x[j] : x[j] + mean[j]);
            rows[t] = &numbers[t * stride];
        }
    }
};

// Exponents as core takes them and factors as kernels do; the keys of every other seed are balanced.
struct TestBalance {
    std::vector<std::int8_t> exponents;
    std::vector<float> forward, inverse;

    TestBalance(const Coder& coder, std::uint64_t seed) {
        for (int j = 0; j < coder.head_dim && coder.side == Side::key && seed % 2; ++j) {
            exponents.push_back(static_cast<std::int8_t>((j * 7 + static_cast<int>(seed)) % 17 - 8));
            forward.push_back(std::ldexp(1.0f, exponents[j]));
            inverse.push_back(std::ldexp(1.0f, -exponents[j]));
        }
    }
    cpu::BalanceFactors factors() const { return exponents.empty() ? cpu::BalanceFactors{} : cpu::BalanceFactors{forward.data(), inverse.data()}; }
};

std::vector<std::uint8_t> expected_blob(const Coder& coder, const StridedTile& tile, std::uint64_t counted, bool centred, const TestBalance& balance) {
    std::vector<std::uint8_t> blob(TileLayout{coder.side, coder.head_dim, coder.bits}.blob_bytes());
    reference::seal_tile(coder, tile.rows, counted, centred, blob.data(), balance.exponents);
    return blob;
}

void expect_same_tile(const Coder& coder, std::uint64_t seed, bool strange, std::uint64_t counted, bool centred) {
    const StridedTile tile(coder.head_dim, seed, strange);
    const TestBalance balance(coder, seed);
    const cpu::TileCodec codec(coder);
    cpu::CodecScratch scratch;
    const std::vector<std::uint8_t> expected = expected_blob(coder, tile, counted, centred, balance);
    std::vector<std::uint8_t> found(expected.size(), 0xee);
    codec.seal(tile.rows[0], tile.stride, counted, centred, balance.factors(), found.data(), scratch);
    EXPECT_TRUE(same_bits(found, expected)) << "seal";

    const std::size_t d = coder.head_dim, stride = d + 8;
    std::vector<std::uint16_t> opened(kTileTokens * stride, 0x1234), rows(opened);
    for (int t = 0; t < kTileTokens; ++t) reference::open_row(coder, expected.data(), t, &rows[t * stride], balance.exponents);
    codec.open(expected.data(), balance.factors(), opened.data(), stride, scratch);
    EXPECT_TRUE(same_bits(opened, rows)) << "open";
}

TEST(TileCodec, SealsAndOpensLikeTheReference) {
    std::uint64_t i = 0;
    for (const int dim : supported_head_dims()) {
        for (const int bits : supported_bits()) {
            for (const Side side : {Side::key, Side::value}) {
                SCOPED_TRACE(::testing::Message() << "head_dim " << dim << ", " << bits << " bits, side " << static_cast<int>(side));
                expect_same_tile(make_coder(testing::spec_of(dim, bits), side), i / 2, false, testing::kAllRows, true);
                ++i;
                expect_same_tile(make_coder(testing::spec_of(dim, bits), side), i, true, kCounted[i % std::size(kCounted)], i % 3 != 0);
            }
        }
    }
}

TEST(TileCodec, CountsAnySubsetOfRows) {
    for (const std::uint64_t counted : kCounted) {
        for (const bool centred : {true, false}) {
            SCOPED_TRACE(::testing::Message() << std::hex << counted << ", centred " << centred);
            expect_same_tile(make_coder(testing::spec_of(64, 3), Side::key), 3, false, counted, centred);
        }
    }
}

// Row t of `which` is coded again against the blob's reference, every other byte stays.
TEST(TileCodec, RecodesSingleRows) {
    for (const int bits : supported_bits()) {
        for (const Side side : {Side::key, Side::value}) {
            SCOPED_TRACE(::testing::Message() << bits << " bits, side " << static_cast<int>(side));
            const Coder coder = make_coder(testing::spec_of(80, bits), side);
            const cpu::TileCodec codec(coder);
            const StridedTile before(80, 1, false), after(80, 2, true);
            const TestBalance balance(coder, bits / 2);
            std::vector<std::uint8_t> expected = expected_blob(coder, before, testing::kAllRows, true, balance), found = expected;
            const std::uint64_t which = 0x8000000410002011;
            for (int t = 0; t < kTileTokens; ++t) {
                if (!(which >> t & 1)) continue;
                std::vector<float> x(80);
                for (int j = 0; j < 80; ++j) {
                    std::uint16_t mean = 0;
                    if (side == Side::key) std::memcpy(&mean, &expected[codec.layout().reference_offset() + 2 * j], 2);
                    x[j] = half_to_float(after.rows[t][j]) - half_to_float(mean);
                    if (!balance.exponents.empty()) x[j] = std::ldexp(x[j], balance.exponents[j]);
                }
                const testing::Encoded coded = testing::encode(coder, x.data());
                for (int j = 0; j < 80; ++j) tile_set_code(codec.layout(), expected.data(), t, j, coded.codes[j]);
                std::memcpy(&expected[codec.layout().scales_offset() + 2 * t], &coded.scale, 2);
            }
            cpu::CodecScratch scratch;
            codec.recode(after.rows[0], after.stride, which, balance.factors(), found.data(), scratch);
            EXPECT_TRUE(same_bits(found, expected));
        }
    }
}

TEST(TileCodec, MeasuresWhatCentringLeaves) {
    const StridedTile tile(128, 9, false);
    const cpu::TileCodec codec(make_coder(testing::spec_of(128, 4), Side::key));
    cpu::CodecScratch scratch;
    std::vector<double> power(128, 1.0);
    codec.add_power(tile.rows[0], tile.stride, 0, true, power.data(), scratch);
    codec.add_power(tile.rows[0], tile.stride, 1ull << 17, true, power.data(), scratch);
    for (const double p : power) EXPECT_NEAR(p, 1.0, 1e-6);
    codec.add_power(tile.rows[0], tile.stride, testing::kAllRows, true, power.data(), scratch);
    double sum = 0;
    for (const double p : power) sum += (p - 1) / 128;
    EXPECT_NEAR(sum, 63, 2);  // 64 unit normals around any mean
    std::vector<double> whole(128, 0.0);
    codec.add_power(tile.rows[0], tile.stride, testing::kAllRows, false, whole.data(), scratch);
    for (int j = 0; j < 128; ++j) {
        double squares = 0;
        for (int t = 0; t < kTileTokens; ++t) squares += std::pow(half_to_float(tile.rows[t][j]), 2);
        EXPECT_NEAR(whole[j], squares, 1e-6 * squares) << j;
    }
}

}  // namespace
}  // namespace turboquant::parity

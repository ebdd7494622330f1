// A number of a key as append() turns it is that of the definition, rounded as the rows' own format rounds.
#include "cuda/device/rope.cuh"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "core/rope.hpp"

namespace turboquant {
namespace {

using reference::RopePairs;

TEST(Rope, IsTheDefinitionBitForBit) {
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    for (RopePairs pairs : {RopePairs::halves, RopePairs::neighbours}) {
        for (int half : {1, 16, 20, 64}) {
            std::vector<float> row(128), cosine(half), sine(half);
            for (float& x : row) x = normal(engine);
            for (int j = 0; j < half; ++j) {
                cosine[j] = std::cos(normal(engine));
                sine[j] = std::sin(normal(engine));
            }
            std::vector<float> want = row;
            reference::rope(pairs, cosine, sine, want.data());
            for (int dim = 0; dim < 2 * half; ++dim) {
                const device::RopePlace place = device::rope_place(pairs == RopePairs::neighbours, half, dim);
                ASSERT_EQ(device::rope_number(row[dim], row[place.partner], cosine[place.pair], sine[place.pair], place.second), want[dim]) << half << ", " << dim;
            }
            for (int dim = 2 * half; dim < 128; ++dim) ASSERT_EQ(want[dim], row[dim]);
        }
    }
}

TEST(Rope, TurnsByTheAngle) {
    const float angle = 0.7f, cosine[] = {std::cos(angle)}, sine[] = {std::sin(angle)};
    float row[] = {3, 4, 5};
    reference::rope(RopePairs::neighbours, cosine, sine, row);
    EXPECT_NEAR(std::atan2(row[1], row[0]), std::atan2(4, 3) + angle, 1e-6);
    EXPECT_NEAR(std::hypot(row[0], row[1]), 5, 1e-5);
    EXPECT_EQ(row[2], 5);
}

TEST(Rope, RoundsToBf16) {
    const auto rounded = [](std::uint32_t bits) { return device::as_bits(device::round_to_bf16(device::as_float(bits))); };
    EXPECT_EQ(rounded(0x3f800000), 0x3f800000u);
    EXPECT_EQ(rounded(0x3f808000), 0x3f800000u);  // a tie, to even
    EXPECT_EQ(rounded(0x3f818000), 0x3f820000u);
    EXPECT_EQ(rounded(0x3f808001), 0x3f810000u);
    EXPECT_EQ(rounded(0xbf80ffff), 0xbf810000u);
    EXPECT_EQ(rounded(0x7f7fffff), 0x7f800000u);  // beyond the largest
    EXPECT_EQ(rounded(0x7f800000), 0x7f800000u);
    EXPECT_TRUE(std::isnan(device::round_to_bf16(NAN)));
}

}  // namespace
}  // namespace turboquant

namespace turboquant::device {

// What host_warp.hpp leaves to whoever runs the lanes: here there is nothing to exchange.
int lane_id() { return 0; }
Meeting meet(const std::uint32_t*, int) { return nullptr; }

}  // namespace turboquant::device

// The counter-based generator: balanced, different for every seed and stream, and frozen.
#include "core/counter_rng.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <set>

namespace turboquant {
namespace {

TEST(CounterRng, WordsAreFrozen) {
    // SplitMix64's finaliser is a bijection with mix64(0) = 0; golden/signs.bin holds whole streams.
    EXPECT_EQ(mix64(0), 0u);
    EXPECT_EQ(mix64(0x9e3779b97f4a7c15ull), 0xe220a8397b1dcdafull);          // SplitMix64's first output from state 0
    EXPECT_EQ(counter_word(0x54515f76315f0001, 0, 0), 0x070f3b2a7f407ec4u);  // docs/format.md, section 2
    EXPECT_EQ(counter_word(0x54515f76315f0001, 1, 0), 0xfe5bc86b729d49afu);
}

TEST(CounterRng, BitsAreBalanced) {
    int ones = 0;
    const int words = 4096;
    for (int i = 0; i < words; ++i) ones += std::popcount(counter_word(1, 0, i));
    EXPECT_NEAR(ones, words * 32, 5 * 0.5 * 512);  // five standard deviations: sqrt(4096 * 64) / 2 = 256 each
}

TEST(CounterRng, SeedsStreamsAndIndicesGiveDifferentWords) {
    std::set<std::uint64_t> words;
    for (std::uint64_t seed = 0; seed < 16; ++seed) {
        for (std::uint64_t stream = 0; stream < 16; ++stream) {
            for (std::uint64_t index = 0; index < 16; ++index) words.insert(counter_word(seed, stream, index));
        }
    }
    EXPECT_EQ(words.size(), 16u * 16 * 16);
}

TEST(CounterRng, SignsAreTheBitsOfTheWordsLowestFirst) {
    for (std::uint64_t i = 0; i < 200; ++i) {
        EXPECT_EQ(counter_sign(5, 1, i), (counter_word(5, 1, i / 64) >> (i % 64) & 1) == 1);
    }
}

}  // namespace
}  // namespace turboquant

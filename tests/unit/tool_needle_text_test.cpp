// Texts of the retrieval test: where the needle stands, how long the text is, and that they are the same every time.
#include "needle_text.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace turboquant::tool {
namespace {

std::size_t count_words(std::string_view text) {
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), ' ')) + (text.empty() || text.front() == ' ' ? 0 : 1);
}

NeedleText make(int depth, int keys = 1, std::uint64_t seed = 1, std::size_t tokens = 600) {
    const auto made = make_needle_text({tokens, depth, keys, seed}, generated_filler(3, 50), count_words);
    EXPECT_TRUE(made.ok()) << made.status().message();
    return made.value();
}

double place(const NeedleText& made) {
    const auto at = made.text.find(made.asked.sentence());
    EXPECT_NE(at, std::string::npos);
    return static_cast<double>(at) / static_cast<double>(made.text.size() - made.asked.sentence().size());
}

TEST(NeedleText, StandsAtItsDepth) {
    EXPECT_EQ(place(make(0)), 0);
    EXPECT_NEAR(place(make(25)), 0.25, 0.03);
    EXPECT_NEAR(place(make(50)), 0.5, 0.03);
    EXPECT_EQ(place(make(100)), 1);
}

TEST(NeedleText, FillsTheRoomAndNoMore) {
    for (const int keys : {1, 4}) {
        const std::size_t words = count_words(make(50, keys).text);
        EXPECT_LE(words, 600u);
        EXPECT_GT(words, 600u - 20);
    }
}

TEST(NeedleText, DependsOnTheSeedOnlyAndOtherwiseMovesTheNeedle) {
    EXPECT_EQ(make(50).text, make(50).text);
    EXPECT_NE(make(50, 1, 2).asked.digits, make(50).asked.digits);
    EXPECT_EQ(make(0).asked.digits, make(100).asked.digits);
    NeedleText first = make(0), last = make(100);
    const auto without = [](const NeedleText& made) {
        std::string text = made.text;
        text.erase(text.find(made.asked.sentence()), made.asked.sentence().size());
        text.erase(0, text.find_first_not_of(' '));
        text.erase(text.find_last_not_of(' ') + 1);
        return text;
    };
    EXPECT_EQ(without(first), without(last));
}

TEST(NeedleText, OtherNeedlesHaveOtherNames) {
    const NeedleText made = make(50, static_cast<int>(most_needles()), 5, 2000);
    EXPECT_EQ(made.others.size(), most_needles() - 1);
    std::set<std::string> cities{made.asked.city};
    for (const Needle& other : made.others) {
        cities.insert(other.city);
        EXPECT_NE(made.text.find(other.sentence()), std::string::npos);
        EXPECT_EQ(other.digits.size(), kNeedleDigits);
        EXPECT_NE(other.digits, made.asked.digits);
    }
    EXPECT_EQ(cities.size(), most_needles());
}

TEST(NeedleText, SaysWhenThereIsNoRoom) {
    const auto made = make_needle_text({10, 50, 4, 1}, generated_filler(3, 50), count_words);
    ASSERT_FALSE(made.ok());
    EXPECT_NE(made.status().message().find("4 needles take 28 tokens and only 10 are left"), std::string::npos)
        << made.status().message();
}

TEST(Filler, HasNoDigitsAndEndsItsSentences) {
    EXPECT_EQ(generated_filler(7, 20), generated_filler(7, 20));
    for (const std::string& sentence : generated_filler(7, 200)) {
        EXPECT_EQ(sentence.find_first_of("0123456789"), std::string::npos);
        EXPECT_EQ(sentence.back(), '.');
    }
    EXPECT_EQ(sentences_of("One  two.\nThree\nfour! It is 5. A heading\n\nSix"),
              (std::vector<std::string>{"One two.", "Three four!", "A heading", "Six"}));
    EXPECT_TRUE(sentences_of("  \n 1 2 3").empty());
}

}  // namespace
}  // namespace turboquant::tool

// Texts for the retrieval test: filler with one or more needles in it, and the question. Pure text, no engine.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/status.hpp"

namespace turboquant::tool {

// "The secret number of Oslo is 3141592."
struct Needle {
    std::string city, digits;

    std::string sentence() const { return opening() + " " + digits + "."; }
    std::string opening() const { return "The secret number of " + city + " is"; }
    std::string question() const { return "What is the secret number of " + city + "?"; }
};

inline constexpr std::size_t kNeedleDigits = 7;
std::size_t most_needles();  // as many as there are cities

// How many tokens a text takes.
using CountTokens = std::function<std::size_t(std::string_view)>;

struct NeedleRequest {
    std::size_t tokens = 0;  // at most so many, needles included
    int depth = 0;           // per cent of the filler that stands before the needle asked for
    int keys = 1;            // needles of the same form, one of which is asked for
    std::uint64_t seed = 0;  // decides filler, cities, digits and the places of the other needles
};

struct NeedleText {
    std::string text;
    Needle asked;
    std::vector<Needle> others;
};

// An error where not even the needles fit. filler: sentences, used from a place that the seed decides, over and over.
Result<NeedleText> make_needle_text(const NeedleRequest& request, const std::vector<std::string>& filler, const CountTokens& count);

// Plain sentences of everyday words, without digits.
std::vector<std::string> generated_filler(std::uint64_t seed, std::size_t sentences);

// The sentences of a text; what has a digit is left out, lest it is taken for a needle.
std::vector<std::string> sentences_of(const std::string& text);

}  // namespace turboquant::tool

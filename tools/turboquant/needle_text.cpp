#include "needle_text.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace turboquant::tool {
namespace {

constexpr std::array kCities = {"Oslo",  "Lima",   "Cairo", "Quito",  "Delhi", "Paris",  "Tokyo",  "Rome",
                                "Accra", "Berlin", "Sofia", "Havana", "Seoul", "Madrid", "Dublin", "Vienna"};
constexpr std::array kAdjectives = {"old", "quiet", "young", "tired", "cheerful", "tall", "clever", "careful", "friendly", "busy"};
constexpr std::array kPeople = {"farmer",  "teacher",  "baker",  "sailor",    "doctor",
                                "painter", "gardener", "driver", "neighbour", "singer"};
constexpr std::array kVerbs = {"carried", "painted",  "repaired",  "found",   "sold",
                               "washed",  "borrowed", "described", "watched", "moved"};
constexpr std::array kThings = {"boat", "fence", "basket", "clock", "bicycle", "table", "letter", "lamp", "garden", "bridge"};
constexpr std::array kWhen = {"in the morning", "before lunch", "after the rain", "on the way home", "near the river",
                              "at the market",  "last summer",  "without a word", "with great care", "behind the house"};

// The same sequence on every machine, which the distributions of the standard library do not promise.
class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    std::size_t below(std::size_t limit) { return static_cast<std::size_t>(next() % limit); }
    template <class List>
    const auto& one_of(const List& list) {
        return list[below(list.size())];
    }

private:
    std::uint64_t state_;
};

std::vector<Needle> make_needles(Random& random, int count) {
    std::vector<std::string> cities(kCities.begin(), kCities.end());
    std::vector<Needle> needles;
    for (int i = 0; i < count; ++i) {
        const std::size_t chosen = random.below(cities.size());
        Needle needle{cities[chosen], std::string(1, static_cast<char>('1' + random.below(9)))};
        cities.erase(cities.begin() + static_cast<std::ptrdiff_t>(chosen));
        while (needle.digits.size() < kNeedleDigits) needle.digits += static_cast<char>('0' + random.below(10));
        needles.push_back(std::move(needle));
    }
    return needles;
}

}  // namespace

std::size_t most_needles() { return kCities.size(); }

Result<NeedleText> make_needle_text(const NeedleRequest& request, const std::vector<std::string>& filler,
                                    const CountTokens& count) {
    Random random(request.seed);
    std::vector<Needle> needles = make_needles(random, request.keys);
    std::size_t used = 0;
    for (const Needle& needle : needles) used += count(" " + needle.sentence());
    if (used > request.tokens)
        return invalid_argument(
            fmt::format("{} needles take {} tokens and only {} are left for the text; raise --context or lower --keys",
                        needles.size(), used, request.tokens));

    std::vector<std::string> sentences;
    for (std::size_t at = random.below(filler.size());; at = (at + 1) % filler.size()) {
        const std::size_t more = count(" " + filler[at]);
        if (used + more > request.tokens) break;
        used += more;
        sentences.push_back(filler[at]);
    }

    // Places are counted before anything is inserted, and filled from the end, so that they stay what they were.
    struct Place {
        std::size_t at;
        const Needle* needle;
    };
    std::vector<Place> places{{(sentences.size() * static_cast<std::size_t>(request.depth) + 50) / 100, &needles.front()}};
    for (std::size_t i = 1; i < needles.size(); ++i) places.push_back({random.below(sentences.size() + 1), &needles[i]});
    std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.at > b.at; });
    for (const Place& place : places)
        sentences.insert(sentences.begin() + static_cast<std::ptrdiff_t>(place.at), place.needle->sentence());

    NeedleText out;
    for (const std::string& sentence : sentences) out.text += (out.text.empty() ? "" : " ") + sentence;
    out.asked = needles.front();
    out.others.assign(needles.begin() + 1, needles.end());
    return out;
}

std::vector<std::string> generated_filler(std::uint64_t seed, std::size_t sentences) {
    Random random(seed);
    std::vector<std::string> out;
    for (std::size_t i = 0; i < sentences; ++i) {
        // One after another: the order in which a call's arguments are evaluated is the compiler's choice.
        const auto* adjective = random.one_of(kAdjectives);
        const auto* person = random.one_of(kPeople);
        const auto* verb = random.one_of(kVerbs);
        const auto* thing_adjective = random.one_of(kAdjectives);
        const auto* other = random.one_of(kPeople);
        const auto* thing = random.one_of(kThings);
        const auto* when = random.one_of(kWhen);
        out.push_back(
            fmt::format("The {} {} {} the {} of the {} {} {}.", adjective, person, verb, thing, thing_adjective, other, when));
    }
    return out;
}

std::vector<std::string> sentences_of(const std::string& text) {
    std::vector<std::string> out;
    std::string sentence;
    const auto finish = [&] {
        const bool has_digit = std::any_of(sentence.begin(), sentence.end(), [](char c) { return c >= '0' && c <= '9'; });
        if (sentence.size() > 1 && !has_digit) out.push_back(sentence);
        sentence.clear();
    };
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool space = text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r';
        if (!space) {
            sentence += text[i];
            continue;
        }
        if (sentence.empty()) continue;
        const bool paragraph = text[i] == '\n' && i + 1 < text.size() && text[i + 1] == '\n';
        if (paragraph || std::string_view(".!?").find(sentence.back()) != std::string_view::npos)
            finish();
        else if (sentence.back() != ' ')
            sentence += ' ';
    }
    while (!sentence.empty() && sentence.back() == ' ') sentence.pop_back();
    finish();
    return out;
}

}  // namespace turboquant::tool

// What a CTA finds out about its tokens from the slots: which rows form runs, and whose reference counts for each.
#pragma once

#include "core/page.hpp"
#include "cuda/append/page_before.cuh"
#include "cuda/append/params.hpp"

namespace turboquant::cuda {

inline constexpr int kMaxTile = 64, kBefore = 3 * kPageTokens, kWindow = kBefore + kMaxTile + kPageTokens;
inline constexpr int kLongRun = 16;       // rows whose mean may be a reference although there is a page before
inline constexpr int kMeans = 8;          // long runs that rows of one tile may refer to: at most six

enum class Source : std::int32_t { none, stored, mean };

struct AppendToken {
    std::int64_t slot;                    // negative: skipped
    std::int32_t page;                    // whose stored reference counts (Source::stored)
    std::int32_t run, run_length;         // first token of the run whose mean counts (Source::mean)
    Source source;
    bool starts_page;                     // the run begins with the page's first slot
};

// Which slots follow the one before them in the same page: bit i % 32 of word i / 32 for entry i of the window.
struct Links {
    std::uint32_t words[kWindow / 32 + 2];  // the last ones are zero

    __device__ std::uint64_t from(int i) const {  // bits i .. i + 63
        const std::uint32_t a = words[i / 32], b = words[i / 32 + 1], c = words[i / 32 + 2];
        return static_cast<std::uint64_t>(__funnelshift_r(b, c, i)) << 32 | __funnelshift_r(a, b, i);
    }
    __device__ int begin_of_run(int i) const { return i - __clzll(~from(i - 63)); }
    __device__ int end_of_run(int i) const { return i + __ffsll(static_cast<long long>(~from(i + 1))); }  // i: any of the run
};
static_assert(kBefore >= 2 * kPageTokens + 63, "runs are looked for backwards");

// slots: those of tokens [first - kBefore, first + kMaxTile + 64), -1 outside.
__device__ inline AppendToken describe_token(const AppendParams& p, const std::int64_t* slots, const Links& links, int i, int first) {
    AppendToken token{};
    const int at = kBefore + i;
    token.slot = slots[at];
    token.source = Source::none;
    if (token.slot < 0) return token;
    int begin = links.begin_of_run(at), end = links.end_of_run(at);
    // Where slots of the page were skipped in this call, the run that begins the page counts, if it is in this call.
    const int place = place_of(slots[begin]);
    if (place != 0 && slots[begin - place] == slots[begin] - place) {
        begin -= place;
        end = links.end_of_run(begin);
    }
    token.starts_page = place_of(slots[begin]) == 0;
    token.page = static_cast<std::int32_t>(page_of(token.slot));
    if (!p.centred) return token;
    token.source = Source::stored;
    if (!token.starts_page) return token;
    token.source = Source::mean;
    token.run = first - kBefore + begin;
    token.run_length = end - begin;
    if (token.run_length >= kLongRun) return token;
    const std::int32_t before = page_before(p, token.run);
    if (before < 0) return token;
    // The page before may begin in this very call: then its reference is the mean of its 64 rows, not what the page holds; or, if some of
    // these are skipped, whatever another CTA is about to settle: the run takes its own mean.
    if (slots[begin - kPageTokens] == static_cast<std::int64_t>(before) * kPageTokens) {
        const int other = links.begin_of_run(begin - 1);
        if (slots[begin - 1] != static_cast<std::int64_t>(before) * kPageTokens + kPageTokens - 1 || begin - other != kPageTokens) return token;
        token.run = first - kBefore + other;
        token.run_length = kPageTokens;
        return token;
    }
    token.source = Source::stored;
    token.page = before;
    return token;
}

}  // namespace turboquant::cuda

// The measuring part of needle: the same questions to every cache, and how sure it is of the right answers.
#pragma once

#include <string>
#include <vector>

#include "session.hpp"
#include "turboquant/spec.hpp"

namespace turboquant::tool {

struct NeedleOptions {
    EngineOptions engine;
    std::string text_file;  // filler; empty: made from a list of words
    std::string plot_file;  // empty: no picture
    std::vector<std::string> caches{std::string(presets().front().name)};
    std::vector<int> contexts{512, 1024, 2048};
    std::vector<int> depths{0, 25, 50, 75, 100};
    int keys = 1, trials = 3, batch = 64;
    std::uint64_t seed = 1;
    bool no_template = false, json = false;
};

// One question to one cache.
struct NeedleAnswer {
    bool exact = false;      // greedy decoding gives the right digits, and no further one
    bool finite = true;      // all logits of the answer were
    double nll = 0;          // -log of the right digits' probability, mean over their tokens
    double probability = 0;  // of all of them
};

// All trials of one cache at one context and depth; f16's are `base` for the others.
struct NeedleCell {
    std::string cache;
    int context = 0, depth = 0;
    std::vector<NeedleAnswer> answers;  // by trial
    double prompt_tokens = 0;           // mean over trials
    double bits = 0, full_bits = 0;     // bits per value at the end of the last trial
    double seconds = 0;
    std::string remark;

    int exact() const;
};

// Cells by cache, then context, then depth. caches: the base first.
Result<std::vector<NeedleCell>> search_needles(const NeedleOptions& options, Engine& engine,
                                               const std::vector<CacheChoice>& caches);

}  // namespace turboquant::tool

// The measuring part of eval: the same text through the f16 cache and through others, side by side, and what differs.
#pragma once

#include <string>
#include <vector>

#include "eval_state.hpp"
#include "session.hpp"
#include "turboquant/spec.hpp"

namespace turboquant::tool {

struct EvalOptions {
    EngineOptions engine;
    std::string text_file, state_file, markdown_file, plot_file;
    std::vector<std::string> caches{"q8_0", "q4_0", std::string(presets().front().name)};
    std::vector<int> contexts{2048};
    int chunks = 3;
    int batch = 64;    // tokens at once; the more, the more of them are exact while they attend to each other
    int together = 8;  // caches held in memory at once, besides the base
    int generate = 0;  // tokens generated greedily after each chunk's beginning; 0: none
    bool json = false;
};

// Evaluates what `state` does not have yet. caches: without the base, each once. tokens: the whole text.
Status evaluate(const EvalOptions& options, Engine& engine, const std::vector<CacheChoice>& caches,
                const std::vector<llama_token>& tokens, EvalState& state);

}  // namespace turboquant::tool

// From a prompt to generated text.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "session.hpp"

namespace turboquant::tool {

// The model's chat template around a prompt. Empty when the model has none or llama.cpp does not know it: use the text as it
// is.
std::string apply_chat_template(const llama_model* model, const std::string& system, const std::string& prompt);

std::vector<llama_token> tokenize(const llama_vocab* vocab, const std::string& text);
std::string piece_of(const llama_vocab* vocab, llama_token token);

struct Sampling {
    float temperature = 0;  // 0: always the most likely token
    std::uint32_t seed = 1;
};

struct Generation {
    std::string cache;
    std::vector<llama_token> tokens;
    std::string text;
    std::size_t prompt_tokens = 0;
    double prompt_seconds = 0;
    std::size_t steps = 0;  // timed decode steps: one less than the tokens
    double step_seconds = 0;
    std::string stopped;  // "end of text", "length", "context full"
    CacheUse use;
    std::string remark;

    double prompt_speed() const { return prompt_seconds > 0 ? static_cast<double>(prompt_tokens) / prompt_seconds : 0; }
    double speed() const { return step_seconds > 0 ? static_cast<double>(steps) / step_seconds : 0; }
};

// Called with every new piece of text.
using OnPiece = std::function<void(std::string_view)>;

Result<Generation> generate(Session& session, const std::vector<llama_token>& prompt, int limit, const Sampling& sampling,
                            const OnPiece& on_piece);

}  // namespace turboquant::tool

#include "generate.hpp"

#include <chrono>
#include <memory>

namespace turboquant::tool {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

using Sampler = std::unique_ptr<llama_sampler, decltype(&llama_sampler_free)>;

Sampler make_sampler(const Sampling& sampling) {
    llama_sampler* chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    if (sampling.temperature <= 0) {
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
    } else {  // the engine's own defaults around the temperature
        llama_sampler_chain_add(chain, llama_sampler_init_top_k(40));
        llama_sampler_chain_add(chain, llama_sampler_init_top_p(0.95f, 1));
        llama_sampler_chain_add(chain, llama_sampler_init_min_p(0.05f, 1));
        llama_sampler_chain_add(chain, llama_sampler_init_temp(sampling.temperature));
        llama_sampler_chain_add(chain, llama_sampler_init_dist(sampling.seed));
    }
    return {chain, llama_sampler_free};
}

}  // namespace

std::string apply_chat_template(const llama_model* model, const std::string& system, const std::string& prompt) {
    const char* text = llama_model_chat_template(model, nullptr);
    if (!text) return "";
    std::vector<llama_chat_message> messages;
    if (!system.empty()) messages.push_back({"system", system.c_str()});
    messages.push_back({"user", prompt.c_str()});
    std::string out(2 * (system.size() + prompt.size()) + 256, '\0');
    for (int attempt = 0; attempt < 2; ++attempt) {
        const int32_t length =
            llama_chat_apply_template(text, messages.data(), messages.size(), true, out.data(), static_cast<int32_t>(out.size()));
        if (length < 0) return "";
        const bool fits = static_cast<std::size_t>(length) <= out.size();
        out.resize(static_cast<std::size_t>(length));
        if (fits) return out;
    }
    return "";
}

std::vector<llama_token> tokenize(const llama_vocab* vocab, const std::string& text) {
    std::vector<llama_token> tokens(text.size() + 8);
    const auto length = static_cast<int32_t>(text.size());
    int32_t count = llama_tokenize(vocab, text.data(), length, tokens.data(), static_cast<int32_t>(tokens.size()), true, true);
    if (count < 0) {  // -count are needed
        tokens.resize(static_cast<std::size_t>(-count));
        count = llama_tokenize(vocab, text.data(), length, tokens.data(), static_cast<int32_t>(tokens.size()), true, true);
    }
    tokens.resize(static_cast<std::size_t>(count < 0 ? 0 : count));
    return tokens;
}

std::string piece_of(const llama_vocab* vocab, llama_token token) {
    std::string piece(64, '\0');
    int32_t length = llama_token_to_piece(vocab, token, piece.data(), static_cast<int32_t>(piece.size()), 0, false);
    if (length < 0) {
        piece.resize(static_cast<std::size_t>(-length));
        length = llama_token_to_piece(vocab, token, piece.data(), static_cast<int32_t>(piece.size()), 0, false);
    }
    piece.resize(static_cast<std::size_t>(length < 0 ? 0 : length));
    return piece;
}

Result<Generation> generate(Session& session, const std::vector<llama_token>& prompt, int limit, const Sampling& sampling,
                            const OnPiece& on_piece) {
    const llama_vocab* vocab = session.vocab();
    const Sampler sampler = make_sampler(sampling);
    const auto room = static_cast<std::int64_t>(llama_n_ctx(session.context()));
    Generation out;
    out.cache = session.cache().name;
    out.prompt_tokens = prompt.size();

    const auto prompt_start = Clock::now();
    if (const Status done = session.decode(prompt); !done.ok()) return done;
    out.prompt_seconds = seconds_since(prompt_start);

    const auto steps_start = Clock::now();
    out.stopped = "length";
    while (static_cast<int>(out.tokens.size()) < limit) {
        const llama_token token = llama_sampler_sample(sampler.get(), session.context(), -1);
        if (llama_vocab_is_eog(vocab, token)) {
            out.stopped = "end of text";
            break;
        }
        out.tokens.push_back(token);
        const std::string piece = piece_of(vocab, token);
        out.text += piece;
        on_piece(piece);
        if (static_cast<int>(out.tokens.size()) == limit) break;  // its successor is not wanted
        if (session.count() >= room) {
            out.stopped = "context full";
            break;
        }
        if (const Status done = session.decode({&token, 1}); !done.ok()) return done;
        ++out.steps;
    }
    out.step_seconds = seconds_since(steps_start);
    session.settle();
    out.use = session.cache_use();
    out.remark = session.remark();
    return out;
}

}  // namespace turboquant::tool

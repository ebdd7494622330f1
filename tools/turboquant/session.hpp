// One context with one kind of cache: decode, go back, and say what the cache holds.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cache_bytes.hpp"
#include "engine.hpp"

namespace turboquant::tool {

struct SessionOptions {
    std::uint32_t context = 0;  // cells
    std::uint32_t batch = 2048;
    std::uint32_t ubatch = 512;
    std::uint32_t outputs = 1;  // at most so many tokens of a batch have logits; each takes a vocabulary of floats
};

class Session {
public:
    // Loads the model if needed, makes the context and decodes one token so that nothing is cold.
    static Result<std::unique_ptr<Session>> open(Engine& engine, const CacheChoice& cache, const SessionOptions& options);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    // Appends tokens; logits are those of the last one. Returns when the results are there.
    Status decode(std::span<const llama_token> tokens);

    // Appends tokens that fit in one batch; those from `first_output` on have logits (the options' outputs at most).
    Status decode_scored(std::span<const llama_token> tokens, std::size_t first_output);

    // Logits of token i of the last decode_scored(), or of the last token of decode() for i = -1; valid until the next
    // decoding, one float for each entry of the vocabulary.
    std::span<const float> logits(int i);

    // Takes away what follows the first `count` tokens; false when this kind of model cannot (then clear and decode again).
    bool rewind(std::int64_t count);
    void clear();

    // Takes stock of the cache. Call it when this session has worked and before another one does, outside of what is timed.
    void settle();

    void use_threads(int threads) { llama_set_n_threads(context_, threads, threads); }

    std::int64_t count() const { return count_; }  // tokens in the cache
    CacheUse cache_use() const;                    // as of the last settle()
    std::string remark() const;                    // what the reader of a result should know, or empty

    const CacheChoice& cache() const { return cache_; }
    llama_context* context() const { return context_; }
    const llama_model* model() const { return llama_get_model(context_); }
    const llama_vocab* vocab() const { return llama_model_get_vocab(model()); }

private:
    Session(CacheChoice cache, std::uint32_t batch) : cache_(std::move(cache)), batch_(batch) {}
    Status warm_up();
    Status decode_batch(const llama_batch& batch);

    CacheChoice cache_;
    std::uint32_t batch_;
    llama_context* context_ = nullptr;
    std::vector<AnnouncedCache> announced_;
    PackedMeter meter_;
    std::int64_t count_ = 0;
    std::int64_t written_ = 0;  // the most cells that were in use since clear()
};

}  // namespace turboquant::tool

#include "session.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "auto_bits.hpp"
#include "engine_log.hpp"
#include "terminal.hpp"

namespace turboquant::tool {
namespace {

llama_context_params context_params(const Engine& engine, const CacheChoice& cache, const SessionOptions& options) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = options.context;
    params.n_batch = options.batch;
    params.n_ubatch = std::min(options.ubatch, options.batch);
    params.n_seq_max = 1;
    params.n_outputs_max = options.outputs;  // each takes a vocabulary-sized buffer
    params.n_threads = engine.options().threads;
    params.n_threads_batch = engine.options().threads;
    params.flash_attn_type = cache.flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = cache.type;
    params.type_v = cache.type;
    params.swa_full = false;  // as llama-cli and llama-server have it
    return params;
}

// What the plug-in is told: TQ_PRESET and TQ_LAYERS.
Result<PlanNames> policy_for(Engine& engine, const CacheChoice& cache, const SessionOptions& options) {
    const std::string& exceptions = engine.options().layers;
    if (cache.auto_bits == 0) return PlanNames{cache.name, exceptions};
    return auto_policy(engine, cache.auto_bits, options.context, exceptions);
}

std::string why_not(int code) {
    if (code == 1) return "the context is full; raise -c";
    const std::string reason = engine_reason();
    return fmt::format("{} (llama_decode returned {}); -v shows its log", reason.empty() ? "llama.cpp gave no reason" : reason,
                       code);
}

}  // namespace

Result<std::unique_ptr<Session>> Session::open(Engine& engine, const CacheChoice& cache, const SessionOptions& options) {
    if (cache.ours) {
        const char* message = nullptr;
        const Result<PlanNames> names = policy_for(engine, cache, options);
        if (!names.ok()) return names.status();
        const auto& [preset, layers] = names.value();
        if (cache.auto_bits > 0) note(fmt::format("{}: {}{}", cache.name, preset, layers.empty() ? " in every layer" : ", but " + layers));
        if (tq_ggml_set_policy(preset.c_str(), layers.empty() ? nullptr : layers.c_str(), &message) != 0)
            return invalid_argument(message ? message : fmt::format("the cache '{}' cannot be used", cache.name));
    }
    const Result<llama_model*> model = engine.model(cache.ours);
    if (!model.ok()) return model.status();

    std::unique_ptr<Session> session(new Session(cache, options.batch));
    if (cache.ours) PackedMeter::skip();
    forget_engine_log();
    session->context_ = llama_init_from_model(model.value(), context_params(engine, cache, options));
    if (!session->context_) {
        const std::string reason = engine_reason();
        return unsupported(
            fmt::format("cannot make a context with the {} cache: {}; try another cache or a smaller -c, -v shows llama.cpp's log",
                        cache.name, reason.empty() ? "llama.cpp gave no reason" : reason));
    }
    for (const std::string& line : engine_log())
        if (const auto announced = parse_announcement(line)) session->announced_.push_back(*announced);
    if (engine.threads()) llama_attach_threadpool(session->context_, engine.threads(), engine.threads());
    if (const Status warm = session->warm_up(); !warm.ok()) return warm;
    return session;
}

Session::~Session() {
    if (context_) llama_free(context_);
    if (cache_.ours) PackedMeter::skip();
}

Status Session::warm_up() {
    const llama_token start = llama_vocab_bos(vocab());
    const llama_token token = start == LLAMA_TOKEN_NULL ? 0 : start;
    const Status done = decode({&token, 1});
    clear();
    return done;
}

Status Session::decode(std::span<const llama_token> tokens) {
    while (!tokens.empty()) {
        const auto part = tokens.first(std::min<std::size_t>(tokens.size(), batch_));
        // llama_batch_get_one takes a pointer to non-const but the engine only reads.
        const Status done =
            decode_batch(llama_batch_get_one(const_cast<llama_token*>(part.data()), static_cast<int32_t>(part.size())));
        if (!done.ok()) return done;
        tokens = tokens.subspan(part.size());
    }
    llama_synchronize(context_);
    return {};
}

Status Session::decode_scored(std::span<const llama_token> tokens, std::size_t first_output) {
    std::vector<std::int8_t> outputs(tokens.size(), 0);
    std::fill(outputs.begin() + static_cast<std::ptrdiff_t>(std::min(first_output, outputs.size())), outputs.end(), std::int8_t{1});
    llama_batch batch = llama_batch_get_one(const_cast<llama_token*>(tokens.data()), static_cast<int32_t>(tokens.size()));
    batch.logits = outputs.data();
    const Status done = decode_batch(batch);
    llama_synchronize(context_);
    return done;
}

Status Session::decode_batch(const llama_batch& batch) {
    const int code = llama_decode(context_, batch);
    if (code != 0)
        return unsupported(fmt::format("decoding with the {} cache failed at token {}: {}", cache_.name, count_, why_not(code)));
    count_ += batch.n_tokens;
    written_ = std::max(written_, count_);
    return {};
}

std::span<const float> Session::logits(int i) {
    const float* row = llama_get_logits_ith(context_, i);
    return {row, row ? static_cast<std::size_t>(llama_vocab_n_tokens(vocab())) : 0};
}

bool Session::rewind(std::int64_t count) {
    if (!llama_memory_seq_rm(llama_get_memory(context_), 0, static_cast<llama_pos>(count), -1)) return false;
    count_ = std::min(count_, count);
    return true;
}

void Session::clear() {
    llama_memory_clear(llama_get_memory(context_), true);
    count_ = written_ = 0;
    settle();
}

void Session::settle() {
    if (cache_.ours) meter_.absorb();
}

CacheUse Session::cache_use() const { return cache_.ours ? meter_.use(written_) : engine_cache_use(announced_, written_); }

std::string Session::remark() const {
    if (!cache_.ours) return "";
    const std::uint32_t plain = meter_.plain_tensors(), all = plain + meter_.packed_tensors();
    if (plain > 0) return fmt::format("{}: {} of {} cache tensors are kept in plain f16", cache_.name, plain, all);
    if (meter_.noisy_key_layers() > 0)
        return fmt::format("{}: {} layers have keys too large for its bits, and it has no 8-bit keys to take instead: expect worse output",
                           cache_.name, meter_.noisy_key_layers());
    if (meter_.wide_key_layers() > 0)
        return fmt::format("{}: {} layers were given 8-bit keys automatically", cache_.name, meter_.wide_key_layers());
    return "";
}

}  // namespace turboquant::tool

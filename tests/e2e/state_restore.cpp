// What saving and restoring a state costs, on a real model through the engine: how many codes come out the same, tile by tile, and
// how much further the next tokens are from those of the f16 cache. Prints JSON; tests/e2e/test_state.py judges it.
//
//   tq_state_restore MODEL TEXT PRESET,PRESET,... TOKENS FOLLOWING
//
// For each preset, TOKENS of the text are decoded and the state is saved; the FOLLOWING ones, less a batch, are scored three times: going on as if nothing had been
// saved ("kept"), after the same context has read its own state ("same"), and in a context that has seen nothing but it ("fresh").
#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <vector>

#include <nlohmann/json.hpp>

#include "cache_tensor.hpp"
#include "core/layout.hpp"
#include "divergence.hpp"
#include "engine.hpp"
#include "generate.hpp"
#include "turboquant_ggml.h"

namespace turboquant::tool {
namespace {

constexpr int kBatch = 64;

[[noreturn]] void stop(const std::string& why) {
    std::fprintf(stderr, "tq_state_restore: %s\n", why.c_str());
    std::exit(1);
}

// Every cache tensor that this context's attention reads, by name.
using Tensors = std::map<std::string, const ggml::CacheTensor*>;

class Context {
public:
    Context(Engine& engine, bool ours, std::uint32_t cells) {
        const Result<llama_model*> model = engine.model(ours);
        if (!model.ok()) stop(model.status().message());
        llama_context_params params = llama_context_default_params();
        params.n_ctx = cells;
        params.n_batch = params.n_ubatch = params.n_outputs_max = kBatch;
        params.n_seq_max = 1;
        params.n_threads = params.n_threads_batch = engine.options().threads;
        params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
        params.swa_full = false;
        params.cb_eval = look_at_node;
        params.cb_eval_user_data = &tensors_;
        context_ = llama_init_from_model(model.value(), params);
        if (!context_) stop("no context");
        if (engine.threads()) llama_attach_threadpool(context_, engine.threads(), engine.threads());
    }
    ~Context() { llama_free(context_); }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    void decode(std::span<const llama_token> tokens, bool with_logits) {
        std::vector<std::int8_t> outputs(tokens.size(), with_logits ? 1 : 0);
        llama_batch batch = llama_batch_get_one(const_cast<llama_token*>(tokens.data()), static_cast<int32_t>(tokens.size()));
        batch.logits = outputs.data();
        if (llama_decode(context_, batch) != 0) stop("llama_decode failed");
        llama_synchronize(context_);
    }

    std::span<const float> logits(int i) const {
        const auto count = static_cast<std::size_t>(llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(context_))));
        return {llama_get_logits_ith(context_, i), count};
    }

    std::vector<std::uint8_t> state() const {
        std::vector<std::uint8_t> bytes(llama_state_get_size(context_));
        bytes.resize(llama_state_get_data(context_, bytes.data(), bytes.size()));
        return bytes;
    }
    void restore(const std::vector<std::uint8_t>& bytes) {
        if (llama_state_set_data(context_, bytes.data(), bytes.size()) != bytes.size()) stop("the state cannot be restored");
    }

    const Tensors& tensors() const { return tensors_; }

private:
    // The scheduler asks of each node whether it shall stop after it: never, but attention names the cache.
    static bool look_at_node(ggml_tensor* node, bool, void* data) {
        if (node->op != GGML_OP_FLASH_ATTN_EXT) return false;
        for (const int source : {1, 2}) {
            const ggml::CacheTensor* cache = ggml::find_cache_tensor(node->src[source]);
            if (cache) (*static_cast<Tensors*>(data))[cache->root()->name] = cache;
        }
        return false;
    }

    Tensors tensors_;
    llama_context* context_ = nullptr;
};

// Sealed blobs of every store, and what they are to be read with.
struct Snapshot {
    struct Side {
        int bits = 0;
        std::vector<std::vector<std::int8_t>> balance;                            // by KV head
        std::map<std::pair<std::int64_t, int>, std::vector<std::uint8_t>> blobs;  // by tile and KV head
        std::map<std::pair<std::int64_t, int>, std::uint64_t> kept;
        int head_dim = 0, sinks = 0;
        bool keys = false;
    };
    std::map<std::string, Side> sides;
};

Snapshot snapshot_of(const Context& context) {
    Snapshot out;
    for (const auto& [name, tensor] : context.tensors()) {
        const TileStore* store = tensor->store();
        if (!store) stop(name + " is not kept in codes");
        Snapshot::Side& side = out.sides[name];
        side.bits = store->bits();
        side.head_dim = store->spec().head_dim;
        side.sinks = store->spec().sink_tokens;
        side.keys = store->shape().side == CacheSide::keys;
        for (int head = 0; head < store->shape().num_kv_heads; ++head) {
            const auto balance = store->balance(head);
            side.balance.emplace_back(balance.begin(), balance.end());
            for (std::int64_t tile = 0; tile * kTileTokens < store->shape().cells_per_stream; ++tile) {
                const auto blob = store->sealed_blob(0, tile, head);
                if (blob.empty()) continue;
                side.blobs[{tile, head}] = {blob.begin(), blob.end()};
                side.kept[{tile, head}] = store->kept_rows(0, tile, head);
            }
        }
    }
    return out;
}

struct Equality {
    std::int64_t codes = 0, equal = 0, tiles = 0, channels = 0, balanced_alike = 0, kept_before = 0, kept_after = 0;
    double least = 1;    // of one layer
    int least_bits = 0;  // of its codes
    bool widths_differ = false;
};

Equality compare(const Snapshot& before, const Snapshot& after, bool keys) {
    Equality out;
    for (const auto& [name, a] : before.sides) {
        if (a.keys != keys) continue;
        const Snapshot::Side& b = after.sides.at(name);
        if (a.bits != b.bits) {
            out.widths_differ = true;
            continue;
        }
        for (std::size_t head = 0; head < a.balance.size(); ++head) {
            for (std::size_t j = 0; j < a.balance[head].size() && j < b.balance[head].size(); ++j) {
                ++out.channels;
                out.balanced_alike += a.balance[head][j] == b.balance[head][j];
            }
        }
        const TileLayout layout{keys ? Side::key : Side::value, a.head_dim, a.bits};
        std::int64_t codes = 0, equal = 0;
        for (const auto& [place, blob] : a.blobs) {
            const auto other = b.blobs.find(place);
            if (other == b.blobs.end()) continue;
            ++out.tiles;
            out.kept_before += std::popcount(a.kept.at(place));
            out.kept_after += std::popcount(b.kept.at(place));
            for (int t = place.first == 0 ? a.sinks : 0; t < kTileTokens; ++t) {
                for (int j = 0; j < a.head_dim; ++j) {
                    ++codes;
                    equal += tile_get_code(layout, blob.data(), t, j) == tile_get_code(layout, other->second.data(), t, j);
                }
            }
        }
        if (const double share = static_cast<double>(equal) / static_cast<double>(std::max<std::int64_t>(codes, 1));
            codes > 0 && share < out.least) {
            out.least = share;
            out.least_bits = a.bits;
        }
        out.codes += codes;
        out.equal += equal;
    }
    return out;
}

nlohmann::ordered_json to_json(const Equality& e) {
    return {{"codes", e.codes},
            {"equal", e.equal},
            {"tiles", e.tiles},
            {"least_layer", e.least},
            {"least_layer_bits", e.least_bits},
            {"widths_differ", e.widths_differ},
            {"balance_channels", e.channels},
            {"balance_equal", e.balanced_alike},
            {"kept_before", e.kept_before},
            {"kept_after", e.kept_after}};
}

// Both go through the tokens a batch at a time. The first batch is not scored: what waits for queries is sealed at its end, and
// after_first is called then.
template <class AfterFirst>
double mean_divergence(Context& base, Context& other, std::span<const llama_token> tokens, llama_token next,
                       AfterFirst after_first) {
    Scores scores;
    for (std::size_t at = 0; at < tokens.size(); at += kBatch) {
        const auto part = tokens.subspan(at, std::min<std::size_t>(tokens.size() - at, kBatch));
        base.decode(part, true);
        other.decode(part, true);
        if (at == 0) {
            after_first();
            continue;
        }
        for (std::size_t i = 0; i < part.size(); ++i) {
            const auto base_logits = base.logits(static_cast<int>(i)), logits = other.logits(static_cast<int>(i));
            const llama_token follows = at + i + 1 < tokens.size() ? tokens[at + i + 1] : next;
            scores.add(TokenScore::of(Distribution(base_logits), base_logits, logits, static_cast<std::size_t>(follows)));
        }
    }
    return scores.size() > 0 ? summarise(scores).kl_mean : std::numeric_limits<double>::quiet_NaN();  // JSON: null
}

void decode_in_batches(Context& context, std::span<const llama_token> tokens) {
    for (std::size_t at = 0; at < tokens.size(); at += kBatch)
        context.decode(tokens.subspan(at, std::min<std::size_t>(tokens.size() - at, kBatch)), false);
}

struct Text {
    std::vector<llama_token> tokens;
    std::span<const llama_token> before, after;
    llama_token next;

    Text(const std::string& path, const llama_vocab* vocab, std::size_t saved, std::size_t following) {
        std::ifstream file(path, std::ios::binary);
        const std::string text{std::istreambuf_iterator<char>(file), {}};
        tokens = tokenize(vocab, text.substr(0, 16 * (saved + following + 1)));
        if (tokens.size() <= saved + following) stop("the text is too short");
        if (llama_vocab_get_add_bos(vocab)) tokens.front() = llama_vocab_bos(vocab);
        before = std::span(tokens).first(saved);
        after = std::span(tokens).subspan(saved, following);
        next = tokens[saved + following];
    }
};

nlohmann::ordered_json measure(Engine& engine, const std::string& preset, const Text& text, Context& base,
                               const std::vector<std::uint8_t>& base_state) {
    const char* message = nullptr;
    if (tq_ggml_set_policy(preset.c_str(), nullptr, &message) != 0) stop(message);
    const auto cells = static_cast<std::uint32_t>(text.before.size() + text.after.size() + kBatch);
    Context ours(engine, true, cells), fresh(engine, true, cells);
    decode_in_batches(ours, text.before);
    const auto state = ours.state();
    const Snapshot saved = snapshot_of(ours);
    if (saved.sides.empty()) stop("no cache tensors on our device");
    nlohmann::ordered_json out{{"preset", preset}};
    base.restore(base_state);
    out["kept"]["kl"] = mean_divergence(base, ours, text.after, text.next, [] {});
    for (const auto& [name, context] : {std::pair{"same", &ours}, std::pair{"fresh", &fresh}}) {
        base.restore(base_state);
        context->restore(state);
        Snapshot again;
        const double kl =
            mean_divergence(base, *context, text.after, text.next, [&, from = context] { again = snapshot_of(*from); });
        out[name] = {{"kl", kl}, {"keys", to_json(compare(saved, again, true))}, {"values", to_json(compare(saved, again, false))}};
    }
    return out;
}

int run(const std::string& model_path, const std::string& text_path, const std::string& presets, std::size_t tokens,
        std::size_t following) {
    auto engine = Engine::open({model_path, "", 2, false});
    if (!engine.ok()) stop(engine.status().message());
    const Result<llama_model*> model = engine.value()->model(false);
    if (!model.ok()) stop(model.status().message());
    const Text text(text_path, llama_model_get_vocab(model.value()), tokens, following);
    Context base(*engine.value(), false, static_cast<std::uint32_t>(tokens + following + kBatch));
    decode_in_batches(base, text.before);
    const auto base_state = base.state();
    nlohmann::ordered_json results = nlohmann::ordered_json::array();
    std::istringstream names(presets);
    for (std::string preset; std::getline(names, preset, ',');)
        results.push_back(measure(*engine.value(), preset, text, base, base_state));
    std::printf("%s\n", results.dump(1).c_str());
    return 0;
}

}  // namespace
}  // namespace turboquant::tool

int main(int count, char** arguments) {
    if (count != 6) {
        std::fprintf(stderr, "usage: tq_state_restore MODEL TEXT PRESET,... TOKENS FOLLOWING\n");
        return 2;
    }
    return turboquant::tool::run(arguments[1], arguments[2], arguments[3], std::strtoul(arguments[4], nullptr, 10),
                                 std::strtoul(arguments[5], nullptr, 10));
}

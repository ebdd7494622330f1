#include "auto_bits.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "engine_log.hpp"
#include "generate.hpp"
#include "needle_text.hpp"
#include "session.hpp"
#include "terminal.hpp"

namespace turboquant::tool {
namespace {

constexpr std::size_t kProbeTokens = 512;

std::vector<tq_ggml_tensor> live_tensors() {
    std::vector<tq_ggml_tensor> all;
    tq_ggml_tensor one{};
    one.size = sizeof one;
    while (tq_ggml_get_tensor(static_cast<std::uint32_t>(all.size()), &one) == 0) all.push_back(one);
    return all;
}

std::string made_text() {
    std::string text;
    for (const std::string& sentence : generated_filler(1, kProbeTokens / 8)) text += (text.empty() ? "" : " ") + sentence;
    return text;
}

// Of the session whose tensors begin at `first`: others may be alive.
Result<std::vector<LayerDemand>> demands_of(std::size_t first, std::uint32_t context) {
    std::vector<LayerDemand> demands;
    const std::vector<tq_ggml_tensor> all = live_tensors();
    for (std::size_t i = first; i < all.size(); ++i) {
        const tq_ggml_tensor& tensor = all[i];
        if (tensor.is_values) continue;
        if (tensor.state != 1) {
            note(fmt::format("layer {} stays in plain f16 and is not part of the budget; -v shows why", tensor.layer));
            continue;
        }
        if (tensor.logit_noise <= 0) return unsupported(fmt::format("layer {} has decided nothing: the text is too short; auto needs about 200 tokens", tensor.layer));
        demands.push_back({tensor.layer, tensor.num_kv_heads, tensor.head_dim, std::min<std::int64_t>(tensor.cells, context), tensor.logit_noise});
    }
    if (demands.empty()) return unsupported("no layer of this model keeps its cache in codes, so that there is nothing to plan; -v shows why");
    std::sort(demands.begin(), demands.end(), [](const LayerDemand& a, const LayerDemand& b) { return a.layer < b.layer; });
    return demands;
}

}  // namespace

Result<LayerProbe> probe_layers(Engine& engine, std::uint32_t context, const std::string& text) {
    const Result<llama_model*> model = engine.model(true);
    if (!model.ok()) return model.status();
    if (context == 0) context = static_cast<std::uint32_t>(llama_model_n_ctx_train(model.value()));
    std::vector<llama_token> tokens = tokenize(llama_model_get_vocab(model.value()), text.empty() ? made_text() : text);
    tokens.resize(std::min(tokens.size(), kProbeTokens));

    const std::size_t first = live_tensors().size();
    SessionOptions options;
    options.context = std::max<std::uint32_t>(context, kProbeTokens);
    const QuietEngine quiet;
    auto session = Session::open(engine, {.name = presets().front().name, .ours = true}, options);
    if (!session.ok()) return session.status();
    if (const Status done = session.value()->decode(tokens); !done.ok()) return done;
    auto demands = demands_of(first, context);
    if (!demands.ok()) return demands.status();
    return LayerProbe{std::move(demands.value()), tokens.size(), context};
}

Result<BitPlan> plan_for(const LayerProbe& probe, double bits_per_value) { return plan_bits(probe.demands, presets().front().spec, bits_per_value); }

Result<PlanNames> auto_policy(Engine& engine, double bits_per_value, std::uint32_t context, const std::string& exceptions) {
    const auto probe = probe_layers(engine, context);
    if (!probe.ok()) return probe.status();
    const auto plan = plan_for(probe.value(), bits_per_value);
    if (!plan.ok()) return plan.status();
    PlanNames names = name_plan(plan.value());
    if (!exceptions.empty()) names.layers += (names.layers.empty() ? "" : ",") + exceptions;
    return names;
}

}  // namespace turboquant::tool

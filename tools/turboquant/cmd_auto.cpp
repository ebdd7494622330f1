// turboquant auto: looks at a model and says which layers should get how many bits under a budget, and why.
#include <algorithm>
#include <cmath>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "auto_bits.hpp"
#include "command.hpp"
#include "engine_options.hpp"
#include "environment_block.hpp"
#include "files.hpp"
#include "table.hpp"
#include "terminal.hpp"

namespace turboquant::tool {
namespace {

struct AutoOptions {
    EngineOptions engine;
    double bits = 0, memory_mib = 0;
    std::uint32_t context = 0;
    std::string file, text;
    bool json = false;
};

double median(std::vector<double> numbers) {
    const auto middle = numbers.begin() + static_cast<std::ptrdiff_t>(numbers.size() / 2);
    std::nth_element(numbers.begin(), middle, numbers.end());
    return *middle;
}

// What sets this layer apart from the others, in words.
std::string reason(const LayerDemand& demand, double usual_noise, std::int64_t most_cells) {
    std::string text;
    if (demand.cells < most_cells) text = "sliding window: bits are cheap and do less";
    const double ratio = demand.key_noise / usual_noise;
    if (ratio > 1.3) text += fmt::format("{}keys {:.1f}x as noisy as usual", text.empty() ? "" : ", ", ratio);
    if (ratio < 0.77) text += fmt::format("{}keys {:.1f}x less noisy than usual", text.empty() ? "" : ", ", 1 / ratio);
    return text.empty() ? "as usual" : text;
}

std::vector<std::string> reasons(const LayerProbe& probe) {
    std::vector<double> noise;
    std::int64_t most_cells = 0;
    for (const LayerDemand& demand : probe.demands) {
        noise.push_back(demand.key_noise);
        most_cells = std::max(most_cells, demand.cells);
    }
    const double usual = median(noise);
    std::vector<std::string> out;
    for (const LayerDemand& demand : probe.demands) out.push_back(reason(demand, usual, most_cells));
    return out;
}

int print_plan(const AutoOptions& options, const LayerProbe& probe, const BitPlan& plan) {
    const std::vector<std::string> why = reasons(probe);
    const PlanNames names = name_plan(plan);
    double harm = 0;
    for (const LayerBits& bits : plan.layers) harm += bits.harm;
    if (options.json) {
        Json layers = Json::array();
        for (std::size_t i = 0; i < probe.demands.size(); ++i) {
            const LayerBits& bits = plan.layers[i];
            layers.push_back({{"layer", bits.layer},
                              {"cells", probe.demands[i].cells},
                              {"key_noise", figure(probe.demands[i].key_noise)},
                              {"key_bits", bits.key_bits},
                              {"value_bits", bits.value_bits},
                              {"share_of_harm", figure(harm > 0 ? bits.harm / harm : 0)},
                              {"why", why[i]}});
        }
        Json environment = environment_block(options.engine.threads, options.engine.model);
        environment["context"] = probe.context;
        environment["probe_tokens"] = probe.tokens;
        return print_json(std::move(environment), Json::array({{{"budget_bits", rounded(options.bits)},
                                                               {"bits", rounded(plan.bits_per_value())},
                                                               {"bytes", std::llround(plan.bytes)},
                                                               {"preset", names.preset},
                                                               {"layers_text", names.layers},
                                                               {"layers", std::move(layers)}}}));
    }
    Table table({{"layer"}, {"cells"}, {"noise of 4-bit keys"}, {"keys"}, {"values"}, {"share of harm"}, {"why", Table::Align::left}});
    for (std::size_t i = 0; i < probe.demands.size(); ++i) {
        const LayerBits& bits = plan.layers[i];
        table.add({std::to_string(bits.layer), std::to_string(probe.demands[i].cells), fmt::format("{:.2f}", probe.demands[i].key_noise),
                   std::to_string(bits.key_bits), std::to_string(bits.value_bits), fmt::format("{:.0f} %", harm > 0 ? 100 * bits.harm / harm : 0), why[i]});
    }
    fmt::print("{}\n", table.text(colour_wanted(1)));
    fmt::print("At most {} for {} tokens, {:.2f} bits per value (budget {:.2f}), the exact newest tokens and kept keys counted at\n"
               "their largest. The model read {} tokens to find out. To use it with any llama.cpp program:\n\n",
               format_bytes(plan.bytes), probe.context, plan.bits_per_value(), options.bits, probe.tokens);
    fmt::print("  turboquant exec --preset {}{} -- llama-server -m {} -c {}\n", names.preset,
               names.layers.empty() ? "" : " --layers " + names.layers, options.engine.model, probe.context);
    return kOk;
}

int run(AutoOptions options) {
    if ((options.bits > 0) == (options.memory_mib > 0)) return fail(kUsage, "auto needs a budget: either --bits or --memory");
    if (!options.file.empty()) {
        const Result<std::string> text = read_text(options.file);
        if (!text.ok()) return fail(text.status());
        options.text = text.value();
    }
    auto engine = Engine::open(options.engine);
    if (!engine.ok()) return fail(engine.status());
    const auto probe = probe_layers(*engine.value(), options.context, options.text);
    if (!probe.ok()) return fail(probe.status());
    if (options.memory_mib > 0) {
        double numbers = 0;
        for (const LayerDemand& demand : probe.value().demands) numbers += demand.numbers();
        options.bits = std::min(16.0, 8 * options.memory_mib * 1048576 / numbers);
    }
    const auto plan = plan_for(probe.value(), options.bits);
    return plan.ok() ? print_plan(options, probe.value(), plan.value()) : fail(plan.status());
}

}  // namespace

void add_auto(CLI::App& app, Action& chosen) {
    CLI::App* sub = app.add_subcommand("auto", "Choose bits for each layer of a model under a budget, and say why");
    auto options = std::make_shared<AutoOptions>();
    add_engine_options(*sub, options->engine);
    sub->add_option("--bits", options->bits, "At most so many bits per value with a full context, everything in memory counted")->check(CLI::Range(1.0, 16.0));
    sub->add_option("--memory", options->memory_mib, "At most so many MiB with a full context")->check(CLI::PositiveNumber);
    sub->add_option("-c,--ctx-size", options->context, "The context in tokens (default: what the model was trained for)")->check(CLI::PositiveNumber);
    sub->add_option("-f,--file", options->file, "A text like those that the model will see (default: plain sentences)");
    sub->add_flag("--json", options->json, "Print one JSON object");
    sub->callback([options, &chosen] { chosen = [options] { return run(*options); }; });
}

}  // namespace turboquant::tool

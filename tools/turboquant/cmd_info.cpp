// turboquant info: what this build is, what it would use on this machine and why, and what can be asked of it.
#include <array>
#include <cstdlib>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "command.hpp"
#include "environment_block.hpp"
#include "machine.hpp"
#include "paths.hpp"
#include "table.hpp"
#include "terminal.hpp"
#include "turboquant/cpu.hpp"
#include "turboquant/environment.hpp"
#include "turboquant/spec.hpp"
#ifdef TQ_HAVE_CUDA
#include "turboquant/cuda.hpp"
#endif

namespace turboquant::tool {
namespace {

constexpr std::array kHeadDims = {64, 128};

CodeBits bits_at(Spec spec, int head_dim) {
    spec.head_dim = head_dim;
    return code_bits(spec);
}

const char* value_of(std::string_view variable) { return std::getenv(std::string(variable).c_str()); }

// {"built": false}, or the GPUs and what this build has for them.
Json cuda_block() {
    Json block = {{"built", false}};
#ifdef TQ_HAVE_CUDA
    block["built"] = true;
    block["devices"] = Json::array();
    for (const cuda::Device& device : cuda::devices())
        block["devices"].push_back({{"name", device.name},
                                    {"compute_capability", fmt::format("{}.{}", device.major, device.minor)},
                                    {"processors", device.processors},
                                    {"memory_bytes", device.memory_bytes}});
    block["kernels"] = Json::array();
    for (const cuda::BuiltKernel& kernel : cuda::built_kernels())
        block["kernels"].push_back({{"verb", kernel.verb},
                                    {"head_dim", kernel.head_dim},
                                    {"key_bits", kernel.key_bits},
                                    {"value_bits", kernel.value_bits},
                                    {"rows", kernel.rows},
                                    {"threads", kernel.threads},
                                    {"target", kernel.target}});
#endif
    return block;
}

void print_cuda() {
#ifdef TQ_HAVE_CUDA
    const auto devices = cuda::devices();
    if (devices.empty()) fmt::print("CUDA       no device\n");
    for (const cuda::Device& device : devices)
        fmt::print("CUDA       {}, compute capability {}.{}, {} processors, {:.1f} GiB\n", device.name, device.major, device.minor, device.processors,
                   static_cast<double>(device.memory_bytes) / (1 << 30));
    Table kernels({{"CUDA kernel", Table::Align::left}, {"head", Table::Align::right}, {"codes", Table::Align::left}, {"rows"}, {"threads"}, {"sm"}});
    for (const cuda::BuiltKernel& kernel : cuda::built_kernels())
        kernels.add({kernel.verb, std::to_string(kernel.head_dim), kernel.key_bits ? fmt::format("k{}v{}", kernel.key_bits, kernel.value_bits) : "all",
                     std::to_string(kernel.rows), std::to_string(kernel.threads), std::to_string(kernel.target)});
    fmt::print("{}", kernels.text(colour_wanted(1)));
#else
    fmt::print("CUDA       none in this build (configure with TQ_CUDA=ON)\n");
#endif
}

Json info_environment(const Result<std::string>& plugin) {
    Json environment = environment_block(default_threads());
    environment["plugin"] = plugin.ok() ? Json(plugin.value()) : Json(nullptr);
    Json candidates = Json::array();
    for (const IsaCandidate& isa : explain_isa())
        candidates.push_back({{"name", isa.name},
                              {"compiled", isa.compiled},
                              {"supported", isa.supported},
                              {"chosen", isa.chosen},
                              {"reason", isa.reason}});
    environment["isa_candidates"] = std::move(candidates);
    Json variables = Json::array();
    for (const EnvironmentVariable& variable : environment_variables()) {
        const char* value = value_of(variable.name);
        variables.push_back(
            {{"name", variable.name}, {"meaning", variable.meaning}, {"value", value ? Json(value) : Json(nullptr)}});
    }
    environment["variables"] = std::move(variables);
    environment["cuda"] = cuda_block();
    return environment;
}

Json preset_results() {
    Json results = Json::array();
    for (const Preset& preset : presets()) {
        Json bits;
        for (int head_dim : kHeadDims) {
            const CodeBits at = bits_at(preset.spec, head_dim);
            bits[std::to_string(head_dim)] = {{"keys", at.keys}, {"values", at.values}, {"mean", at.mean}};
        }
        results.push_back({{"preset", preset.name},
                           {"summary", preset.summary},
                           {"default", &preset == &presets().front()},
                           {"key_bits", preset.spec.key_bits},
                           {"value_bits", preset.spec.value_bits},
                           {"sink_tokens", preset.spec.sink_tokens},
                           {"kept_keys", preset.spec.kept_keys},
                           {"tail_tiles", preset.spec.tail_tiles},
                           {"key_estimator", preset.spec.key_estimator == Estimator::prod ? "prod" : "mse"},
                           {"value_scheme", preset.spec.value_scheme == ValueScheme::group ? "group" : "rotated"},
                           {"outlier_split", preset.spec.outlier_split},
                           {"code_bits_at_head_dim", std::move(bits)}});
    }
    return results;
}

void print_text(const Result<std::string>& plugin) {
    const bool bold_title = colour_wanted(1);
    const EngineVersion engine = engine_version();
    fmt::print("turboquant {}\n", TQ_VERSION);
    fmt::print("processor  {} ({} threads by default)\n", cpu_name(), default_threads());
    if (engine.built_in)
        fmt::print("engine     llama.cpp {}, ggml {} ({}), backend API version {}\n", engine.llama, engine.ggml, engine.ggml_commit,
                   engine.backend_api);
    else
        fmt::print("engine     none in this build: the commands that run a model are missing (configure with TQ_ENGINE_DIR)\n");
    print_cuda();
    fmt::print("plug-in    {}\n\n", plugin.ok() ? plugin.value() : "not found; needed by exec only (--plugin names it)");

    using Align = Table::Align;
    Table isas({{"instruction set", Align::left}, {"used", Align::left}, {"why", Align::left}});
    for (const IsaCandidate& isa : explain_isa()) isas.add({isa.name, isa.chosen ? "yes" : "no", isa.reason});
    fmt::print("{}\n", isas.text(bold_title));

    Table list({{"preset", Align::left}, {"bits, head 64"}, {"bits, head 128"}, {"what it is", Align::left}});
    for (const Preset& preset : presets())
        list.add({std::string(preset.name), fmt::format("{:.2f}", bits_at(preset.spec, 64).mean),
                  fmt::format("{:.2f}", bits_at(preset.spec, 128).mean), std::string(preset.summary)});
    fmt::print("{}", list.text(bold_title));
    fmt::print(
        "The first one is the default; any other two widths (2, 3, 4, 5, 6 or 8 bits) are a name as well, such as k5v3. With\n"
        "auto@4.25 the tool chooses the bits of each layer under that budget (`turboquant auto` shows how). Bits are those of\n"
        "sealed tiles, scales and key references included; the exact first and newest tokens come on top: `turboquant bench`\n"
        "measures everything.\n\n");

    Table variables({{"variable", Align::left}, {"now", Align::left}, {"meaning", Align::left}});
    for (const EnvironmentVariable& variable : environment_variables()) {
        const char* value = value_of(variable.name);
        variables.add({std::string(variable.name), value ? value : "-", std::string(variable.meaning)});
    }
    fmt::print("{}", variables.text(bold_title));
}

}  // namespace

void add_info(CLI::App& app, Action& chosen) {
    CLI::App* sub =
        app.add_subcommand("info", "Show the version, the instruction set chosen and why, presets and environment variables");
    auto json = std::make_shared<bool>(false);
    sub->add_flag("--json", *json, "Print one JSON object");
    sub->callback([json, &chosen] {
        chosen = [json] {
            const Result<std::string> plugin = find_plugin("");
            if (*json) return print_json(info_environment(plugin), preset_results());
            print_text(plugin);
            return kOk;
        };
    });
}

}  // namespace turboquant::tool

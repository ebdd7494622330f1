// turboquant exec: starts a llama.cpp program with the plug-in in its environment.
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "auto_name.hpp"
#include "command.hpp"
#include "environment_block.hpp"
#include "machine.hpp"
#include "paths.hpp"
#include "terminal.hpp"
#include "turboquant/spec.hpp"

#if TQ_HAVE_ENGINE
#include "auto_bits.hpp"
#include "turboquant_ggml.h"
#endif

namespace turboquant::tool {
namespace {

struct ExecOptions {
    std::string preset{presets().front().name}, layers, plugin;
    bool print = false, json = false;
    std::vector<std::string> program;
};

// llama.cpp programs that never make a cache and would not understand -dev.
constexpr std::array kNoCache = {"llama-quantize",  "llama-gguf",     "llama-gguf-split",
                                 "llama-gguf-hash", "llama-tokenize", "llama-export-lora"};

bool names_a_device(const std::vector<std::string>& arguments) {
    return std::any_of(arguments.begin(), arguments.end(), [](const std::string& argument) {
        return argument == "-dev" || argument == "--device" || argument.starts_with("--device=");
    });
}

// Builds of llama.cpp with the CPU code linked in read GGML_BACKEND_PATH only when a device is named.
bool wants_device(const std::vector<std::string>& program) {
    const std::string name = std::filesystem::path(program.front()).filename().string();
    if (name != "llama" && !name.starts_with("llama-")) return false;
    if (std::find(kNoCache.begin(), kNoCache.end(), name) != kNoCache.end()) return false;
    return !names_a_device(program);
}

std::string quoted(const std::string& word) {
    const bool plain =
        !word.empty() &&
        word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-") == std::string::npos;
    if (plain) return word;
    std::string out = "'";
    for (char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
}

Status check_layers(const std::string& preset, const std::string& layers) {
#if TQ_HAVE_ENGINE
    const char* message = nullptr;
    if (tq_ggml_set_policy(preset.c_str(), layers.empty() ? nullptr : layers.c_str(), &message) != 0)
        return invalid_argument(message ? message : "the layers cannot be used");
#else
    (void)preset, (void)layers;  // the plug-in judges them when it is loaded
#endif
    return {};
}

// The value of a program's option, given as "-m FILE" or "--model=FILE"; empty when it is not there.
[[maybe_unused]] std::string argument_of(const std::vector<std::string>& program, const std::string& short_name, const std::string& long_name) {
    for (std::size_t i = 1; i < program.size(); ++i) {
        if (program[i].starts_with(long_name + "=")) return program[i].substr(long_name.size() + 1);
        if ((program[i] == short_name || program[i] == long_name) && i + 1 < program.size()) return program[i + 1];
    }
    return "";
}

// auto@BITS becomes a preset and exceptions by layer, for the model and the context that the program will have. (Those given with
// --layers come last, and win.)
Status resolve_auto(ExecOptions& options) {
    const Result<double> bits = auto_bits(options.preset);
    if (!bits.ok()) return bits.status();
    if (bits.value() == 0) return {};
#if TQ_HAVE_ENGINE
    EngineOptions model{.model = argument_of(options.program, "-m", "--model"), .layers = "", .threads = default_threads()};
    if (model.model.empty()) return invalid_argument("auto has to look at the model, and the program is given none with -m; name a preset, or use turboquant auto");
    const std::string context = argument_of(options.program, "-c", "--ctx-size");
    auto engine = Engine::open(model);
    if (!engine.ok()) return engine.status();
    const auto cells = static_cast<std::uint32_t>(std::strtoul(context.c_str(), nullptr, 10));  // 0: what the model was trained for
    const auto chosen = auto_policy(*engine.value(), bits.value(), cells, options.layers);
    if (!chosen.ok()) return chosen.status();
    options.preset = chosen.value().preset;
    options.layers = chosen.value().layers;
    return {};
#else
    return unsupported("auto has to run the model, and this build of the tool has no llama.cpp; name a preset");
#endif
}

using Variables = std::vector<std::pair<std::string, std::string>>;

int print_plan(const ExecOptions& options, const Variables& variables, const std::vector<std::string>& command) {
    if (options.json) {
        Json set;
        for (const auto& [name, value] : variables) set[name] = value;
        return print_json(environment_block(default_threads()),
                          Json::array({{{"command", command}, {"variables", std::move(set)}}}));
    }
    std::string line;
    for (const auto& [name, value] : variables) line += name + "=" + quoted(value) + " ";
    for (const std::string& word : command) line += quoted(word) + " ";
    line.pop_back();
    fmt::print("{}\n", line);
    return kOk;
}

int run_exec(ExecOptions options) {
    if (options.program.empty())
        return fail(kUsage,
                    "no program to start; put it after --, as in: turboquant exec --preset k4v4 -- llama-server -m model.gguf");
    if (options.json && !options.print) return fail(kUsage, "exec --json describes what would be started; add --print");
    if (const Status resolved = resolve_auto(options); !resolved.ok()) return fail(resolved);
    if (const auto preset = find_preset(options.preset); !preset.ok()) return fail(kUsage, preset.status().message());
    if (const Status layers = check_layers(options.preset, options.layers); !layers.ok()) return fail(layers);
    const Result<std::string> plugin = find_plugin(options.plugin);
    if (!plugin.ok()) return fail(plugin.status());

    Variables variables = {{"GGML_BACKEND_PATH", plugin.value()}, {"TQ_PRESET", options.preset}};
    if (!options.layers.empty()) variables.emplace_back("TQ_LAYERS", options.layers);
    std::vector<std::string> command = options.program;
    if (wants_device(command)) command.insert(command.end(), {"-dev", "TQ0"});
    if (options.print) return print_plan(options, variables, command);

    const auto path = find_program(command.front());
    if (!path) return fail(kNotFound, fmt::format("there is no program '{}'; check the name, or give its path", command.front()));
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
    std::vector<char*> argv;
    for (std::string& word : command) argv.push_back(word.data());
    argv.push_back(nullptr);
    execv(path->c_str(), argv.data());
    return fail(kFailure, fmt::format("cannot start '{}': {}", *path, std::strerror(errno)));
}

}  // namespace

void add_exec(CLI::App& app, Action& chosen, const std::vector<std::string>& program) {
    CLI::App* sub = app.add_subcommand(
        "exec", "Start a llama.cpp program on a TurboQuant cache: turboquant exec [options] -- PROGRAM ARGUMENTS...");
    auto options = std::make_shared<ExecOptions>();
    sub->add_option("--preset", options->preset, "The cache's preset, as listed by turboquant info, or auto@BITS")
        ->envname("TQ_PRESET")
        ->capture_default_str();
    sub->add_option("--layers", options->layers, "Layers treated otherwise, e.g. 0=k8v4,5-7=f16");
    sub->add_option("--plugin", options->plugin, "Use this libggml-turboquant.so, e.g. one for another llama.cpp");
    sub->add_flag("--print", options->print, "Show the command and its environment, start nothing");
    sub->add_flag("--json", options->json, "With --print: one JSON object");
    sub->callback([options, program, &chosen] {
        options->program = program;
        chosen = [options] { return run_exec(*options); };
    });
}

}  // namespace turboquant::tool

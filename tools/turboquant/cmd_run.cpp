// turboquant run: generates text on a TurboQuant cache; --compare generates on the f16 cache as well and shows both.
#include <unistd.h>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "command.hpp"
#include "engine_options.hpp"
#include "environment_block.hpp"
#include "generate.hpp"
#include "table.hpp"
#include "terminal.hpp"
#include "turboquant/spec.hpp"

namespace turboquant::tool {
namespace {

struct RunOptions {
    EngineOptions engine;
    std::string prompt, file, system, cache{presets().front().name};
    int limit = 256, context = 0;
    Sampling sampling;
    bool compare = false, no_template = false, json = false;
};

Result<std::string> read_prompt(const RunOptions& options) {
    if (!options.prompt.empty()) return options.prompt;
    std::string text;
    if (!options.file.empty() && options.file != "-") {
        std::ifstream file(options.file, std::ios::binary);
        if (!file)
            return invalid_argument(fmt::format("cannot read the prompt file '{}'; check the path given to -f", options.file));
        text.assign(std::istreambuf_iterator<char>(file), {});
    } else if (options.file == "-" || !isatty(0)) {
        text.assign(std::istreambuf_iterator<char>(std::cin), {});
    }
    if (text.find_first_not_of(" \t\r\n") == std::string::npos)
        return invalid_argument("there is no prompt; give -p TEXT, -f FILE, or pipe one in");
    return text;
}

Result<std::vector<llama_token>> prompt_tokens(const llama_model* model, const RunOptions& options, const std::string& prompt) {
    std::string text = prompt;
    if (!options.no_template) {
        text = apply_chat_template(model, options.system, prompt);
        if (text.empty()) {
            note(
                "the model has no chat template that llama.cpp knows; the prompt is used as it is (--no-chat-template silences "
                "this)");
            text = prompt;
        }
    }
    std::vector<llama_token> tokens = tokenize(llama_model_get_vocab(model), text);
    if (tokens.empty())
        return unsupported("the model's tokenizer made no token of the prompt; try another model or a longer prompt");
    if (options.context > 0 && tokens.size() >= static_cast<std::size_t>(options.context))
        return invalid_argument(
            fmt::format("the prompt has {} tokens and -c {} leaves no room to answer; raise -c or shorten the prompt",
                        tokens.size(), options.context));
    return tokens;
}

// What was asked for, or the prompt and the answer, within what the model was trained for.
std::uint32_t context_size(const llama_model* model, const RunOptions& options, std::size_t prompt_size) {
    if (options.context > 0) return static_cast<std::uint32_t>(options.context);
    const auto wanted = static_cast<std::int64_t>(prompt_size) + options.limit;
    const auto trained = std::max<std::int64_t>(llama_model_n_ctx_train(model), static_cast<std::int64_t>(prompt_size) + 1);
    return static_cast<std::uint32_t>(std::min(wanted, trained));
}

Result<Generation> run_one(Engine& engine, const CacheChoice& cache, const RunOptions& options, const std::string& prompt,
                           const OnPiece& on_piece) {
    const Result<llama_model*> model = engine.model(cache.ours);
    if (!model.ok()) return model.status();
    const auto tokens = prompt_tokens(model.value(), options, prompt);
    if (!tokens.ok()) return tokens.status();
    SessionOptions session_options;
    session_options.context = context_size(model.value(), options, tokens.value().size());
    auto session = Session::open(engine, cache, session_options);
    if (!session.ok()) return session.status();
    auto made = generate(*session.value(), tokens.value(), options.limit, options.sampling, on_piece);
    on_piece("\n");  // before the session ends and the plug-in reports
    return made;
}

// Index of the first token that differs, or nothing when the shorter is the beginning of the longer and both are equally long.
std::optional<std::size_t> first_difference(const Generation& a, const Generation& b) {
    const std::size_t common = std::min(a.tokens.size(), b.tokens.size());
    for (std::size_t i = 0; i < common; ++i)
        if (a.tokens[i] != b.tokens[i]) return i;
    if (a.tokens.size() != b.tokens.size()) return common;
    return std::nullopt;
}

Json to_json(const Generation& made) {
    return {{"cache", made.cache},
            {"text", made.text},
            {"stopped", made.stopped},
            {"prompt_tokens", made.prompt_tokens},
            {"prompt_tokens_per_second", rounded(made.prompt_speed())},
            {"generated_tokens", made.tokens.size()},
            {"tokens_per_second", rounded(made.speed())},
            {"cells", made.use.cells},
            {"cache_bytes", made.use.whole_bytes()},
            {"cache_bytes_method", made.use.method},
            {"bits_per_value", rounded(made.use.bits_per_value())},
            {"remark", made.remark}};
}

std::string shown_token(const Generation& made, std::size_t i, const llama_vocab* vocab) {
    return i < made.tokens.size() ? fmt::format("{:?}", piece_of(vocab, made.tokens[i])) : "(end)";
}

void print_comparison(const Generation& plain, const Generation& ours, const llama_vocab* vocab) {
    const auto difference = first_difference(plain, ours);
    if (!difference)
        fmt::print("\nBoth texts are the same, token for token ({} tokens).\n\n", ours.tokens.size());
    else
        fmt::print("\nFirst different token: number {} of {}: f16 has {}, {} has {}.\n\n", *difference + 1,
                   std::max(plain.tokens.size(), ours.tokens.size()), shown_token(plain, *difference, vocab), ours.cache,
                   shown_token(ours, *difference, vocab));
    Table table({{"cache", Table::Align::left}, {"prompt tok/s"}, {"generation tok/s"}, {"cache"}, {"of f16"}, {"bits per value"}});
    for (const Generation* made : {&plain, &ours})
        table.add({made->cache, fmt::format("{:.1f}", made->prompt_speed()), fmt::format("{:.1f}", made->speed()),
                   format_bytes(made->use.bytes), fmt::format("{:.0f} %", 100 * made->use.bytes / plain.use.bytes),
                   format_bits(made->use.bits_per_value())});
    fmt::print("{}", table.text(colour_wanted(1)));
    fmt::print(
        "Cache sizes are for the {} cells in use ({} of prompt). One run: `turboquant bench` measures speed with its spread.\n",
        ours.use.cells, ours.prompt_tokens);
}

void print_summary(const Generation& made) {
    note(fmt::format("{} cache: prompt {} tokens at {:.1f}/s, answer {} tokens at {:.1f}/s ({}), {} in {} cells, {} bits per value",
                     made.cache, made.prompt_tokens, made.prompt_speed(), made.tokens.size(), made.speed(), made.stopped,
                     format_bytes(made.use.bytes), made.use.cells, format_bits(made.use.bits_per_value())));
}

int run(const RunOptions& options) {
    const Result<CacheChoice> cache = find_cache(options.cache);
    if (!cache.ok()) return fail(cache.status());
    const Result<std::string> prompt = read_prompt(options);
    if (!prompt.ok()) return fail(prompt.status());
    auto engine = Engine::open(options.engine);
    if (!engine.ok()) return fail(engine.status());

    std::vector<CacheChoice> caches;
    if (options.compare) caches.push_back(find_cache("f16").value());
    caches.push_back(cache.value());
    std::vector<Generation> made;
    for (const CacheChoice& one : caches) {
        const bool shown = !options.json;
        if (shown && options.compare) {
            fmt::print("{}{}\n", made.empty() ? "" : "\n", bold(fmt::format("--- {} cache ---", one.name), 1));
            std::fflush(stdout);
        }
        auto result = run_one(*engine.value(), one, options, prompt.value(), [shown](std::string_view piece) {
            if (!shown) return;
            fmt::print("{}", piece);
            std::fflush(stdout);
        });
        if (!result.ok()) return fail(result.status());
        made.push_back(std::move(result.value()));
        if (!made.back().remark.empty()) note(made.back().remark);
    }

    if (options.json) {
        Json results = Json::array();
        for (const Generation& one : made) results.push_back(to_json(one));
        if (options.compare) {
            const auto difference = first_difference(made[0], made[1]);
            results[1]["first_different_token"] = difference ? Json(*difference) : Json(nullptr);
        }
        return print_json(environment_block(options.engine.threads, options.engine.model), std::move(results));
    }
    if (!options.compare)
        print_summary(made.front());
    else
        print_comparison(made[0], made[1], llama_model_get_vocab(engine.value()->model(caches.back().ours).value()));
    return kOk;
}

}  // namespace

void add_run(CLI::App& app, Action& chosen) {
    CLI::App* sub = app.add_subcommand("run", "Generate text on a TurboQuant cache");
    auto options = std::make_shared<RunOptions>();
    add_engine_options(*sub, options->engine);
    auto* text = sub->add_option("-p,--prompt", options->prompt, "The prompt");
    sub->add_option("-f,--file", options->file, "Read the prompt from a file (- or nothing: standard input)")->excludes(text);
    sub->add_option("-n,--n-predict", options->limit, "At most so many tokens")->capture_default_str()->check(CLI::PositiveNumber);
    sub->add_option("--preset,--cache", options->cache, "The cache: a preset of turboquant info, or one of llama.cpp's types")
        ->envname("TQ_PRESET")
        ->capture_default_str();
    sub->add_option("-c,--ctx-size", options->context, "Context in tokens (default: prompt and answer)")
        ->check(CLI::PositiveNumber);
    sub->add_option("--temp", options->sampling.temperature, "Temperature; 0 takes the most likely token")
        ->capture_default_str()
        ->check(CLI::NonNegativeNumber);
    sub->add_option("--seed", options->sampling.seed, "Seed for a temperature above 0")->capture_default_str();
    sub->add_option("--system", options->system, "A system message");
    sub->add_flag("--no-chat-template", options->no_template, "Use the prompt as it is");
    sub->add_flag("--compare", options->compare, "Generate on the f16 cache too and compare");
    sub->add_flag("--json", options->json, "Print one JSON object");
    sub->callback([options, &chosen] { chosen = [options] { return run(*options); }; });
}

}  // namespace turboquant::tool

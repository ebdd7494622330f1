// turboquant eval: what caches cost in quality, beside the f16 cache, on a text, at several context lengths.
#include <algorithm>
#include <filesystem>
#include <limits>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "command.hpp"
#include "engine_options.hpp"
#include "environment_block.hpp"
#include "eval_plot.hpp"
#include "eval_report.hpp"
#include "evaluate.hpp"
#include "fingerprint.hpp"
#include "generate.hpp"
#include "files.hpp"
#include "paths.hpp"
#include "terminal.hpp"

namespace turboquant::tool {
namespace {

// With fewer tokens most of a cache of ours is still exact: the newest 65 to 128 tokens always are.
constexpr int kTellingContext = 512;
constexpr int kLeastContext = 16;

Status check(const EvalOptions& options) {
    if (const Status good = check_plot(options.plot_file, "eval"); !good.ok()) return good;
    for (int context : options.contexts) {
        if (context < kLeastContext)
            return invalid_argument(
                fmt::format("--context {} is too short to be scored; at least {} tokens", context, kLeastContext));
        if (options.generate > 0 && 2 * options.generate > context)
            return invalid_argument(fmt::format(
                "--generate {} leaves too little of --context {} for the prompt; at most half of it", options.generate, context));
    }
    return {};
}

// All that a figure depends on, apart from the cache, the context and the chunk, which every record names.
Result<Json> fingerprint(const EvalOptions& options, const std::string& text) {
    const Result<std::string> model = hash_of_file(options.engine.model);
    if (!model.ok()) return model.status();
    const Result<std::string> tool = hash_of_file("/proc/self/exe");
    if (!tool.ok()) return tool.status();
    const EngineVersion engine = engine_version();
    const Json environment = environment_block(options.engine.threads);
    return Json{{"model", model.value()},
                {"text", hash_of(text)},
                {"batch size", options.batch},
                {"layers text", options.engine.layers},
                {"generated length", options.generate},
                {"build of turboquant", tool.value()},
                {"engine", engine.llama + " " + engine.ggml_commit},
                {"instruction set", environment["isa"]}};
}

Status check_length(const EvalOptions& options, const llama_model* model, std::size_t tokens) {
    const int longest = *std::max_element(options.contexts.begin(), options.contexts.end());
    const auto needed = static_cast<std::size_t>(longest) * static_cast<std::size_t>(options.chunks);
    if (tokens < needed)
        return invalid_argument(
            fmt::format("the text has {} tokens, and {} chunks of {} take {}; give a longer text with -f, or lower "
                        "--chunks or --context",
                        tokens, options.chunks, longest, needed));
    if (longest > llama_model_n_ctx_train(model))
        note(fmt::format("the model was trained on {} tokens; {} are more, and f16 itself gets worse beyond",
                         llama_model_n_ctx_train(model), longest));
    for (int context : options.contexts)
        if (context < kTellingContext)
            note(fmt::format("with {} tokens most of a cache of ours is still exact; figures from {} tokens on say more", context,
                             kTellingContext));
    return {};
}

Json eval_environment(const EvalOptions& options, const Json& made_of) {
    Json environment = environment_block(options.engine.threads, options.engine.model);
    environment["text"] = options.text_file.substr(options.text_file.rfind('/') + 1);
    environment["batch"] = options.batch;
    environment["chunks"] = options.chunks;
    environment["layers"] = options.engine.layers;
    environment["base"] = kBase;
    environment["error_block_tokens"] = kBlock;
    environment["fingerprint"] = made_of;
    return environment;
}

// Rows as points; the base is what the others are measured from, and no point.
std::vector<PlotPoint> plot_points(const std::vector<EvalRow>& rows, const std::vector<CacheChoice>& caches) {
    std::vector<PlotPoint> points;
    for (const EvalRow& row : rows) {
        const auto cache =
            std::find_if(caches.begin(), caches.end(), [&](const CacheChoice& one) { return one.name == row.cache; });
        if (cache == caches.end()) continue;
        const PlotSeries series = cache->ours ? PlotSeries::ours : row.cache == kFloor ? PlotSeries::floor : PlotSeries::engine;
        const double kl = row.finite() ? row.summary.kl_mean : std::numeric_limits<double>::quiet_NaN();
        points.push_back({row.cache, series, row.context, row.bits, kl, row.summary.kl_mean_error});
    }
    return points;
}

void print_text(const std::vector<EvalRow>& rows, const EvalOptions& options) {
    fmt::print("{}", eval_table(rows, colour_wanted(1)));
    fmt::print(
        "KL: divergence of the next token's distribution from that of the f16 cache, natural logarithm, {} tokens a row; ± is the\n"
        "standard error from blocks of {} tokens. Bits count everything in memory at this context. `{}` is f16 rounded "
        "otherwise.\n",
        rows.back().summary.tokens, kBlock, kFloor);
    if (options.generate > 0)
        fmt::print("First difference: equal tokens before the first one that differs from f16's, median and least of {} texts.\n",
                   options.chunks);
}

int eval(const EvalOptions& options) {
    const auto caches = other_caches(options.caches);
    if (!caches.ok()) return fail(caches.status());
    if (const Status good = check(options); !good.ok()) return fail(good);
    const Result<std::string> text = read_text(options.text_file);
    if (!text.ok()) return fail(text.status());
    auto engine = Engine::open(options.engine);
    if (!engine.ok()) return fail(engine.status());
    const Result<Json> made_of = fingerprint(options, text.value());
    if (!made_of.ok()) return fail(made_of.status());
    auto state = EvalState::open(options.state_file, made_of.value());
    if (!state.ok()) return fail(state.status());
    if (state.value().size() > 0) note(fmt::format("{} results are taken from '{}'", state.value().size(), options.state_file));

    const Result<llama_model*> model = engine.value()->model(false);
    if (!model.ok()) return fail(model.status());
    const std::vector<llama_token> tokens = tokenize(llama_model_get_vocab(model.value()), text.value());
    if (const Status long_enough = check_length(options, model.value(), tokens.size()); !long_enough.ok()) return fail(long_enough);
    if (const Status done = evaluate(options, *engine.value(), caches.value(), tokens, state.value()); !done.ok())
        return fail(done);

    std::vector<std::string> names;
    for (const CacheChoice& cache : caches.value()) names.push_back(cache.name);
    const auto rows = eval_rows(state.value(), kBase, names, options.contexts, options.chunks, options.generate);
    for (const EvalRow& row : rows)
        if (!row.remark.empty()) note(fmt::format("{} tokens: {}", row.context, row.remark));
    const Json environment = eval_environment(options, made_of.value());
    if (!options.markdown_file.empty())
        if (const Status written = write_file(options.markdown_file, eval_markdown(rows, environment)); !written.ok())
            return fail(written);
    if (!options.plot_file.empty()) {
        const std::string picture =
            eval_plot(plot_points(rows, caches.value()), std::filesystem::path(options.engine.model).stem().string());
        if (const Status written = write_file(options.plot_file, picture); !written.ok()) return fail(written);
    }
    if (options.json) return print_json(environment, eval_results(rows));
    print_text(rows, options);
    return kOk;
}

}  // namespace

void add_eval(CLI::App& app, Action& chosen) {
    CLI::App* sub = app.add_subcommand("eval", "Measure what caches cost in quality, beside the f16 cache, on a text");
    auto options = std::make_shared<EvalOptions>();
    add_engine_options(*sub, options->engine);
    sub->add_option("-f,--file", options->text_file, "The text, at least chunks x context tokens")->required();
    sub->add_option("--cache", options->caches,
                    "Caches: presets of turboquant info, llama.cpp's types, and floor (f16 always runs)")
        ->delimiter(',')
        ->capture_default_str();
    sub->add_option("--context", options->contexts, "Tokens of a chunk; the second half of each is scored")
        ->delimiter(',')
        ->capture_default_str();
    sub->add_option("--chunks", options->chunks, "Chunks of the text")->capture_default_str()->check(CLI::PositiveNumber);
    add_quality_batch(*sub, options->batch);
    sub->add_option("--generate", options->generate,
                    "Also generate so many tokens greedily and compare them with f16's; 0 does not")
        ->capture_default_str()
        ->check(CLI::NonNegativeNumber);
    sub->add_option("--state", options->state_file, "Keep results in this file as they come, and take from it what is there");
    sub->add_option("--together", options->together, "Caches in memory at once; f16 runs again for every so many")
        ->capture_default_str()
        ->check(CLI::PositiveNumber);
    sub->add_option("--markdown", options->markdown_file, "Write the table to this file as Markdown");
    add_plot(*sub, options->plot_file);
    sub->add_flag("--json", options->json, "Print one JSON object");
    sub->callback([options, &chosen] { chosen = [options] { return eval(*options); }; });
}

}  // namespace turboquant::tool

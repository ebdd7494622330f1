// turboquant needle: does a cache still find one sentence in a long text? By context, depth and cache, beside f16.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "command.hpp"
#include "engine_options.hpp"
#include "environment_block.hpp"
#include "heat_map.hpp"
#include "needle.hpp"
#include "needle_text.hpp"
#include "files.hpp"
#include "table.hpp"
#include "terminal.hpp"

namespace turboquant::tool {
namespace {

constexpr int kLeastContext = 128;

struct CellFigures {
    double nll = 0, probability = 0;  // means over trials; NaN when some logits were not finite
    int lost = 0, gained = 0;         // trials that only f16, or only this cache, answered
};

CellFigures figures_of(const NeedleCell& cell, const NeedleCell& base) {
    CellFigures out;
    const auto trials = static_cast<double>(cell.answers.size());
    for (std::size_t i = 0; i < cell.answers.size(); ++i) {
        const NeedleAnswer& answer = cell.answers[i];
        out.nll += answer.nll / trials;
        out.probability += answer.probability / trials;
        out.lost += base.answers[i].exact && !answer.exact;
        out.gained += !base.answers[i].exact && answer.exact;
    }
    return out;
}

std::size_t not_finite(const NeedleCell& cell) {
    return static_cast<std::size_t>(
        std::count_if(cell.answers.begin(), cell.answers.end(), [](const auto& one) { return !one.finite; }));
}

std::string remark_of(const NeedleCell& cell) {
    const std::size_t wrong = not_finite(cell);
    if (wrong == 0) return cell.remark;
    return fmt::format("{}{}: the logits are not finite in {} of {} trials: this cache cannot be used here",
                       cell.remark.empty() ? "" : cell.remark + "; ", cell.cache, wrong, cell.answers.size());
}

// cells are cache by cache, the base's first, each with all contexts and depths in the same order.
Json to_json(const std::vector<NeedleCell>& cells, std::size_t per_cache) {
    Json results = Json::array();
    for (std::size_t i = 0; i < cells.size(); ++i) {
        const NeedleCell& cell = cells[i];
        const CellFigures figures = figures_of(cell, cells[i % per_cache]);
        results.push_back({{"cache", cell.cache},
                           {"context", cell.context},
                           {"depth", cell.depth},
                           {"trials", cell.answers.size()},
                           {"exact", cell.exact()},
                           {"lost", figures.lost},
                           {"gained", figures.gained},
                           {"nll", figure(figures.nll)},
                           {"probability", figure(figures.probability)},
                           {"bits", figure(cell.bits)},
                           {"bits_full_attention", figure(cell.full_bits)},
                           {"prompt_tokens", figure(cell.prompt_tokens)},
                           {"seconds", figure(cell.seconds)},
                           {"remark", remark_of(cell)}});
    }
    return results;
}

// A map for each cache.
std::vector<HeatMap> maps_of(const std::vector<NeedleCell>& cells, const NeedleOptions& options, std::size_t per_cache) {
    std::vector<HeatMap> maps;
    for (std::size_t first = 0; first < cells.size(); first += per_cache) {
        HeatMap map;
        map.corner = "depth";
        for (int context : options.contexts) map.columns.push_back(std::to_string(context));
        for (int depth : options.depths) map.rows.push_back(fmt::format("{} %", depth));
        map.cells.resize(map.rows.size());
        int exact = 0, lost = 0, gained = 0;
        for (std::size_t i = 0; i < per_cache; ++i) {
            const NeedleCell& cell = cells[first + i];
            const CellFigures figures = figures_of(cell, cells[i]);
            exact += cell.exact();
            lost += figures.lost;
            gained += figures.gained;
            const double rate = static_cast<double>(cell.exact()) / static_cast<double>(cell.answers.size());
            const std::string nll = std::isfinite(figures.nll) ? fmt::format("{:.2f}", figures.nll) : "not finite";
            map.cells[i % map.rows.size()].push_back({rate, fmt::format("{}/{} {}", cell.exact(), cell.answers.size(), nll)});
        }
        const std::string beside = first == 0 ? "" : fmt::format(", {} that f16 answers lost, {} gained", lost, gained);
        map.title =
            fmt::format("{}: {} of {} right{}", cells[first].cache, exact, static_cast<int>(per_cache) * options.trials, beside);
        maps.push_back(std::move(map));
    }
    return maps;
}

void print_maps(const std::vector<HeatMap>& maps) {
    for (const HeatMap& map : maps) fmt::print("{}\n{}\n", bold(map.title, 1), heat_map(map, colour_wanted(1)));
    fmt::print(
        "Columns: tokens of context. A cell: right answers of greedy decoding / trials, and the mean -log probability of the "
        "right\n"
        "digits' tokens when they are given one by one (0: certain).\n");
}

Status check(const NeedleOptions& options) {
    if (const Status good = check_plot(options.plot_file, "needle"); !good.ok()) return good;
    for (int context : options.contexts)
        if (context < kLeastContext)
            return invalid_argument(
                fmt::format("--context {} is too short for a text and a question; at least {}", context, kLeastContext));
    for (int depth : options.depths)
        if (depth < 0 || depth > 100) return invalid_argument(fmt::format("--depth {} is not a per cent; 0 to 100", depth));
    if (options.keys < 1 || static_cast<std::size_t>(options.keys) > most_needles())
        return invalid_argument(fmt::format("--keys {} cannot be made; 1 to {}", options.keys, most_needles()));
    return {};
}

int needle(const NeedleOptions& options) {
    const auto others = other_caches(options.caches);
    if (!others.ok()) return fail(others.status());
    if (const Status good = check(options); !good.ok()) return fail(good);
    std::vector<CacheChoice> caches{CacheChoice{kBase}};
    caches.insert(caches.end(), others.value().begin(), others.value().end());
    auto engine = Engine::open(options.engine);
    if (!engine.ok()) return fail(engine.status());
    const auto found = search_needles(options, *engine.value(), caches);
    if (!found.ok()) return fail(found.status());
    const std::vector<NeedleCell>& cells = found.value();
    const std::size_t per_cache = options.contexts.size() * options.depths.size();
    std::string told;
    for (const NeedleCell& cell : cells)
        if (const std::string remark = remark_of(cell); !remark.empty() && remark != told) note(told = remark);
    const std::vector<HeatMap> maps = maps_of(cells, options, per_cache);
    if (!options.plot_file.empty()) {
        const std::string model = std::filesystem::path(options.engine.model).stem().string();
        const std::string picture = heat_map_picture(maps, model + ": right answers by depth and context", "tokens of context");
        if (const Status written = write_file(options.plot_file, picture); !written.ok()) return fail(written);
    }
    if (!options.json) {
        print_maps(maps);
        return kOk;
    }
    Json environment = environment_block(options.engine.threads, options.engine.model);
    environment["batch"] = options.batch;
    environment["keys"] = options.keys;
    environment["seed"] = options.seed;
    environment["layers"] = options.engine.layers;
    environment["text"] =
        options.text_file.empty() ? Json("generated") : Json(options.text_file.substr(options.text_file.rfind('/') + 1));
    environment["base"] = kBase;
    return print_json(std::move(environment), to_json(cells, per_cache));
}

}  // namespace

void add_needle(CLI::App& app, Action& chosen) {
    CLI::App* sub = app.add_subcommand("needle", "Test whether caches still find one sentence in a long text, beside f16");
    auto options = std::make_shared<NeedleOptions>();
    add_engine_options(*sub, options->engine);
    sub->add_option("--cache", options->caches, "Caches: presets of turboquant info and llama.cpp's types (f16 always runs)")
        ->delimiter(',')
        ->capture_default_str();
    sub->add_option("--context", options->contexts, "Tokens of the whole prompt and its answer")
        ->delimiter(',')
        ->capture_default_str();
    sub->add_option("--depth", options->depths, "Where the sentence stands, in per cent of the text before it")
        ->delimiter(',')
        ->capture_default_str();
    sub->add_option("--keys", options->keys, "Sentences of this form in the text, one of which is asked for")
        ->capture_default_str();
    sub->add_option("-n,--trials", options->trials, "Questions for each context and depth")
        ->capture_default_str()
        ->check(CLI::PositiveNumber);
    sub->add_option("-f,--file", options->text_file, "Fill with sentences of this text (default: made from a list of words)");
    sub->add_option("--seed", options->seed, "Decides texts, numbers and places; the same for all caches")->capture_default_str();
    add_quality_batch(*sub, options->batch);
    add_plot(*sub, options->plot_file);
    sub->add_flag("--no-chat-template", options->no_template, "Use the prompt without the model's chat template");
    sub->add_flag("--json", options->json, "Print one JSON object");
    sub->callback([options, &chosen] { chosen = [options] { return needle(*options); }; });
}

}  // namespace turboquant::tool

// turboquant bench: prefill and decode speed and true size of several caches, at several depths.
#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "command.hpp"
#include "engine_options.hpp"
#include "environment_block.hpp"
#include "interrupt.hpp"
#include "measure.hpp"
#include "table.hpp"
#include "terminal.hpp"

namespace turboquant::tool {
namespace {

Json to_json(const std::vector<Measurement>& all) {
    Json results = Json::array();
    for (const Measurement& one : all) {
        const Spread speed = spread(one.samples);
        Json samples = Json::array();
        for (double sample : one.samples) samples.push_back(rounded(sample));
        results.push_back({{"cache", one.cache},
                           {"test", one.test},
                           {"depth", one.depth},
                           {"tokens", one.tokens},
                           {"tokens_per_second", rounded(speed.mean)},
                           {"stddev", rounded(speed.stddev)},
                           {"cache_bytes", one.use.whole_bytes()},
                           {"bits_per_value", rounded(one.use.bits_per_value())},
                           {"cells", one.use.cells},
                           {"cache_bytes_method", one.use.method},
                           {"repetitions", one.samples.size()},
                           {"samples", std::move(samples)}});
    }
    return results;
}

void print_table(const std::vector<Measurement>& all, int repetitions) {
    std::map<std::pair<std::string, int>, double> f16;  // speed by test and depth
    for (const Measurement& one : all)
        if (one.cache == "f16") f16[{one.test, one.depth}] = spread(one.samples).mean;

    Table table({{"cache", Table::Align::left},
                 {"test", Table::Align::left},
                 {"depth"},
                 {"tokens/s"},
                 {"vs f16"},
                 {"cache size"},
                 {"bits per value"}});
    for (const Measurement& one : all) {
        const Spread speed = spread(one.samples);
        const auto base = f16.find({one.test, one.depth});
        table.add({one.cache, fmt::format("{} {}", one.test, one.tokens), std::to_string(one.depth),
                   fmt::format("{:.2f} ± {:.2f}", speed.mean, speed.stddev),
                   base == f16.end() ? "-" : fmt::format("{:.2f}x", speed.mean / base->second), format_bytes(one.use.bytes),
                   format_bits(one.use.bits_per_value())});
    }
    fmt::print("{}", table.text(colour_wanted(1)));
    fmt::print("Mean ± standard deviation; repetitions: {}. Sizes are what the cells in use take, everything counted.\n", repetitions);
}

int bench(const BenchOptions& options) {
    std::vector<CacheChoice> caches;
    for (const std::string& name : options.caches) {
        const Result<CacheChoice> cache = find_cache(name);
        if (!cache.ok()) return fail(cache.status());
        caches.push_back(cache.value());
    }
    if (options.prompt == 0 && options.generate == 0)
        return fail(kUsage, "-p 0 and -n 0 leave nothing to measure; make one of them larger");
    auto engine = Engine::open(options.engine);
    if (!engine.ok()) return fail(engine.status());

    SessionOptions session_options = options.session;
    session_options.context = static_cast<std::uint32_t>(*std::max_element(options.depths.begin(), options.depths.end()) +
                                                         std::max(options.prompt, options.generate));
    Sessions sessions;
    for (const CacheChoice& cache : caches) {
        auto session = Session::open(*engine.value(), cache, session_options);
        if (!session.ok()) return fail(session.status());
        sessions.push_back(std::move(session.value()));
    }

    catch_interrupts();
    auto measured = measure_all(options, sessions);
    if (!measured.ok()) return fail(measured.status());
    for (const auto& session : sessions)
        if (const std::string remark = session->remark(); !remark.empty()) note(remark);
    const int ended_by = interrupted(), exit_code = ended_by ? kSignal + ended_by : kOk;
    if (ended_by) note(measured.value().empty() ? "interrupted before anything was measured" : "interrupted; this is what was measured by then");
    if (!options.json) {
        if (!measured.value().empty()) print_table(measured.value(), options.repetitions);
        return exit_code;
    }
    Json environment = environment_block(options.engine.threads, options.engine.model);
    environment["batch"] = options.session.batch;
    environment["ubatch"] = options.session.ubatch;
    environment["restored_by"] = options.refill ? "clearing and filling again" : "removing the tokens after the depth";
    environment["complete"] = ended_by == 0;
    const int printed = print_json(std::move(environment), to_json(measured.value()));
    return printed == kOk ? exit_code : printed;
}

}  // namespace

void add_bench(CLI::App& app, Action& chosen) {
    CLI::App* sub = app.add_subcommand("bench", "Measure prefill and decode speed and size of caches, side by side");
    auto options = std::make_shared<BenchOptions>();
    add_engine_options(*sub, options->engine);
    sub->add_option("--cache", options->caches, "Caches: presets of turboquant info and llama.cpp's types")
        ->delimiter(',')
        ->capture_default_str();
    sub->add_option("-d,--depth", options->depths, "Measure with so many tokens in the cache already")
        ->delimiter(',')
        ->capture_default_str()
        ->check(CLI::NonNegativeNumber);
    sub->add_option("-p,--n-prompt", options->prompt, "Tokens of the prefill test; 0 leaves it out")
        ->capture_default_str()
        ->check(CLI::NonNegativeNumber);
    sub->add_option("-n,--n-gen", options->generate, "Tokens of the decode test; 0 leaves it out")
        ->capture_default_str()
        ->check(CLI::NonNegativeNumber);
    sub->add_option("-r,--repetitions", options->repetitions, "Repetitions of each test")
        ->capture_default_str()
        ->check(CLI::PositiveNumber);
    sub->add_option("-b,--batch-size", options->session.batch, "Tokens handed to llama.cpp at once")
        ->capture_default_str()
        ->check(CLI::PositiveNumber);
    sub->add_option("-u,--ubatch-size", options->session.ubatch, "Tokens computed at once")
        ->capture_default_str()
        ->check(CLI::PositiveNumber);
    sub->add_option("--fill-threads", options->engine.most_threads, "Threads that fill the cache before a test (at least those of -t)")
        ->check(CLI::Range(1, GGML_MAX_N_THREADS));
    sub->add_flag("--refill", options->refill,
                  "Fill the cache again before every repetition instead of removing the tokens after the depth");
    sub->add_flag("--json", options->json, "Print one JSON object");
    sub->callback([options, &chosen] { chosen = [options] { return bench(*options); }; });
}

}  // namespace turboquant::tool

#include "engine_options.hpp"

#include <CLI/CLI.hpp>

#include "machine.hpp"

namespace turboquant::tool {

void add_engine_options(CLI::App& sub, EngineOptions& options) {
    options.threads = default_threads();
    sub.add_option("-m,--model", options.model, "The model, a GGUF file")->required();
    sub.add_option("-t,--threads", options.threads, "Threads")->capture_default_str()->check(CLI::Range(1, GGML_MAX_N_THREADS));
    sub.add_option("--layers", options.layers, "Layers treated otherwise by our caches, e.g. 0=k8v4,5-7=f16");
    sub.add_flag("-v,--verbose", options.verbose, "Show llama.cpp's log");
}

void add_quality_batch(CLI::App& sub, int& batch) {
    sub.add_option("-b,--batch-size", batch, "Tokens computed at once; with more, more of them are exact while they attend")
        ->capture_default_str()
        ->check(CLI::PositiveNumber);
}

void add_plot(CLI::App& sub, std::string& file) {
    sub.add_option("--plot", file, "Draw the result into this SVG file (PNG: scripts/plot_eval.py, from what --json prints)");
}

}  // namespace turboquant::tool

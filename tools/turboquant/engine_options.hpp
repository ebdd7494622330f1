// The options of every subcommand that runs a model.
#pragma once

#include <CLI/App.hpp>

#include "engine.hpp"

namespace turboquant::tool {

// -m, -t, --layers and -v. options must live as long as the action that the subcommand chooses.
void add_engine_options(CLI::App& sub, EngineOptions& options);

// -b of the subcommands that measure quality.
void add_quality_batch(CLI::App& sub, int& batch);

// --plot of the subcommands that can draw what they measured.
void add_plot(CLI::App& sub, std::string& file);

}  // namespace turboquant::tool

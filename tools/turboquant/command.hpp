// What every subcommand has in common: how it is added, and what its exit codes mean.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <CLI/App.hpp>

namespace turboquant::tool {

inline constexpr int kOk = 0;
inline constexpr int kFailure = 1;     // something went wrong while running
inline constexpr int kUsage = 2;       // the command line cannot be used
inline constexpr int kNotFound = 127;  // exec: no such program, as a shell says it
inline constexpr int kSignal = 128;    // plus the signal's number: ended early by it, as a shell says it

// Each function adds one subcommand; parsing it stores in `chosen` what to run. The action returns the exit code.
using Action = std::function<int()>;
void add_run(CLI::App& app, Action& chosen);
void add_bench(CLI::App& app, Action& chosen);
void add_auto(CLI::App& app, Action& chosen);
void add_eval(CLI::App& app, Action& chosen);
void add_needle(CLI::App& app, Action& chosen);
void add_info(CLI::App& app, Action& chosen);
void add_validate(CLI::App& app, Action& chosen);
void add_audit(CLI::App& app, Action& chosen);

// exec's program and its arguments are what follows "--"; main() has cut them off before parsing.
void add_exec(CLI::App& app, Action& chosen, const std::vector<std::string>& program);

}  // namespace turboquant::tool

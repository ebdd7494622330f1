// turboquant: generate, measure, start llama.cpp programs, and explain itself. One file per subcommand (cmd_*.cpp).
#include <algorithm>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "command.hpp"
#include "terminal.hpp"

using namespace turboquant::tool;

namespace {

#if TQ_HAVE_ENGINE
#define TQ_WITH_ENGINE(function) function
#else
#define TQ_WITH_ENGINE(function) nullptr
#endif

struct Subcommand {
    const char* name;
    void (*add)(CLI::App&, Action&);  // nullptr: not in this build
};

// The subcommands that run a model, as --help lists them.
constexpr Subcommand kModelCommands[] = {
    {"run", TQ_WITH_ENGINE(add_run)},
    {"bench", TQ_WITH_ENGINE(add_bench)},
    {"auto", TQ_WITH_ENGINE(add_auto)},
    {"eval", TQ_WITH_ENGINE(add_eval)},
    {"needle", TQ_WITH_ENGINE(add_needle)},
};

void add_unavailable(CLI::App& app, Action& chosen, const std::string& name) {
    CLI::App* sub = app.add_subcommand(name, "(not in this build: it was made without llama.cpp)");
    sub->allow_extras();
    sub->callback([&chosen, name] {
        chosen = [name] {
            return fail(kFailure, fmt::format("'{}' needs llama.cpp and this build has none; run scripts/engine and configure with "
                                              "-DTQ_ENGINE_DIR=<the directory it prints>",
                                              name));
        };
    });
}

std::string names_of(const std::vector<CLI::App*>& subcommands) {
    std::string names;
    for (std::size_t i = 0; i < subcommands.size(); ++i)
        names += (i == 0 ? "" : i + 1 < subcommands.size() ? ", " : " and ") + subcommands[i]->get_name();
    return names;
}

std::string usage_hint(const CLI::App& app) {
    const auto used = app.get_subcommands();
    return used.empty() ? "turboquant --help" : fmt::format("turboquant {} --help", used.front()->get_name());
}

int parse_and_run(std::vector<std::string> arguments) {
    // Only for exec is "--" the border between our options and somebody else's command line.
    std::vector<std::string> program;
    if (!arguments.empty() && arguments.front() == "exec") {
        for (std::size_t i = 0; i < arguments.size(); ++i) {
            if (arguments[i] != "--") continue;
            program.assign(arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1, arguments.end());
            arguments.resize(i);
            break;
        }
    }

    CLI::App app{"TurboQuant: the key/value cache of a language model in 2 to 4 bits per number", "turboquant"};
    app.require_subcommand(1);
    app.set_version_flag("--version", "turboquant " TQ_VERSION);
    Action chosen;
    for (const Subcommand& one : kModelCommands) {
        if (one.add)
            one.add(app, chosen);
        else
            add_unavailable(app, chosen, one.name);
    }
    add_exec(app, chosen, program);
    add_info(app, chosen);
    add_validate(app, chosen);
    add_audit(app, chosen);

    const auto all = app.get_subcommands([](const CLI::App*) { return true; });
    const auto named = [&](const CLI::App* sub) { return sub->get_name() == arguments.front(); };
    if (!arguments.empty() && !arguments.front().starts_with("-") && std::none_of(all.begin(), all.end(), named))
        return fail(kUsage, fmt::format("there is no subcommand '{}'; there are {}", arguments.front(), names_of(all)));
    std::replace(arguments.begin(), arguments.end(), std::string("-ub"),
                 std::string("--ubatch-size"));  // as llama.cpp spells it

    try {
        std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants them
        app.parse(reversed);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);  // --help, --version
        std::string what = error.what();
        while (!what.empty() && (what.back() == '\n' || what.back() == '.')) what.pop_back();
        return fail(kUsage, fmt::format("{}; see {}", what, usage_hint(app)));
    }
    return chosen ? chosen() : kUsage;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return parse_and_run({argv + 1, argv + argc});
    } catch (const std::exception& error) {  // out of memory, a failing disk: nothing of ours throws on purpose
        return fail(kFailure, error.what());
    }
}

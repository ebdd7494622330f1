// turboquant validate: the numbers of the paper, the exact ones and ours, with the interval in which ours must lie.
#include <cmath>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "command.hpp"
#include "environment_block.hpp"
#include "machine.hpp"
#include "table.hpp"
#include "terminal.hpp"
#include "validation/row.hpp"

namespace turboquant::tool {
namespace {

using validation::Row;

struct ValidateOptions {
    validation::Options run;
    bool json = false;
};

std::string number(const std::optional<double>& value) { return value ? fmt::format("{:.5g}", *value) : "-"; }

std::string interval(const Row& row) {
    if (!row.judged()) return "-";
    if (!row.low) return "<= " + number(row.high);
    if (!row.high) return ">= " + number(row.low);
    return fmt::format("{} .. {}", number(row.low), number(row.high));
}

Json json_of(const Row& row) {
    // Six digits: more than any row can tell apart, and the same everywhere.
    const auto value = [](const std::optional<double>& v) {
        return v && std::isfinite(*v) ? Json(std::stod(fmt::format("{:.6g}", *v))) : Json(nullptr);
    };
    return {{"group", row.group},
            {"name", row.name},
            {"paper", value(row.paper)},
            {"theory", value(row.theory)},
            {"measured", value(row.measured)},
            {"low", value(row.low)},
            {"high", value(row.high)},
            {"pass", row.judged() ? Json(row.passes()) : Json(nullptr)},
            {"how", row.how}};
}

int run_validate(const ValidateOptions& options) {
    validation::Rows rows;
    Progress progress(true);
    for (const validation::Group& group : validation::groups()) {
        progress.update(fmt::format("validating: {}", group.name));
        for (Row& row : group.run(options.run)) rows.push_back(std::move(row));
    }
    progress.clear();
    int failed = 0, judged = 0;
    for (const Row& row : rows) {
        judged += row.judged();
        failed += row.judged() && !row.passes();
    }
    if (options.json) {
        Json list = Json::array();
        for (const Row& row : rows) list.push_back(json_of(row));
        Json environment = environment_block(options.run.threads);
        environment["quick"] = options.run.quick;
        if (const int code = print_json(std::move(environment), std::move(list), "rows"); code != kOk) return code;
    } else {
        using Align = Table::Align;
        Table table({{"what", Align::left},
                     {"paper"},
                     {"theory"},
                     {"measured"},
                     {"interval", Align::left},
                     {"pass", Align::left},
                     {"why this interval", Align::left}});
        std::string group;
        for (const Row& row : rows) {
            if (row.group != group) table.add({bold(group = row.group, 1)});
            table.add({"  " + row.name, number(row.paper), number(row.theory), number(row.measured), interval(row),
                       !row.judged()  ? "-"
                       : row.passes() ? "yes"
                                      : "NO",
                       row.how});
        }
        fmt::print("{}\n{} of {} checks passed; {} rows are for information\n", table.text(colour_wanted(1)), judged - failed,
                   judged, rows.size() - static_cast<std::size_t>(judged));
    }
    return failed == 0 ? kOk : kFailure;
}

}  // namespace

void add_validate(CLI::App& app, Action& chosen) {
    CLI::App* sub =
        app.add_subcommand("validate", "Check the method against the paper's theorems and figures; exit code 1 if a row fails");
    auto options = std::make_shared<ValidateOptions>();
    options->run.threads = default_threads();
    sub->add_option("-t,--threads", options->run.threads, "Threads")->check(CLI::Range(1, 1024))->capture_default_str();
    sub->add_flag("--quick", options->run.quick, "Fewer samples, wider intervals: seconds");
    sub->add_flag("--json", options->json, "Print one JSON object");
    sub->callback([options, &chosen] { chosen = [options] { return run_validate(*options); }; });
}

}  // namespace turboquant::tool

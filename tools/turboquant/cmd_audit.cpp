// turboquant audit: claims of the paper and of the original project, and what a measurement says about each.
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "command.hpp"
#include "environment_block.hpp"
#include "machine.hpp"
#include "terminal.hpp"
#include "validation/audit.hpp"

namespace turboquant::tool {
namespace {

enum class Format { text, json, markdown };

int run_audit(int threads, Format format) {
    Progress progress(true);
    progress.update("measuring");
    const validation::Claims claims = validation::all_claims(threads);
    progress.clear();
    if (format == Format::markdown) {
        fmt::print("{}", validation::audit_page(claims));
        return kOk;
    }
    if (format == Format::json) {
        Json results = Json::array();
        for (const validation::Claim& c : claims)
            results.push_back({{"source", c.source},
                               {"id", c.id},
                               {"claim", c.claim},
                               {"measured", c.measured},
                               {"verdict", text_of(c.verdict)},
                               {"because", c.because}});
        return print_json(environment_block(threads), std::move(results));
    }
    std::string source;
    for (const validation::Claim& c : claims) {
        if (c.source != source) fmt::print("{}\n\n", bold(source = c.source, 1));
        fmt::print("  {}\n    found    {}\n    verdict  {}{}{}\n\n", c.claim, c.measured, bold(text_of(c.verdict), 1),
                   c.verdict == validation::Verdict::only_if ? " " : ": ", c.because);
    }
    return kOk;
}

}  // namespace

void add_audit(CLI::App& app, Action& chosen) {
    CLI::App* sub = app.add_subcommand(
        "audit", "Show the claims of the paper and of the original project, and what measurements say about them");
    struct Options {
        int threads = default_threads();
        bool json = false, markdown = false;
    };
    auto options = std::make_shared<Options>();
    sub->add_option("-t,--threads", options->threads, "Threads")->check(CLI::Range(1, 1024))->capture_default_str();
    CLI::Option* json = sub->add_flag("--json", options->json, "Print one JSON object");
    sub->add_flag("--markdown", options->markdown, "Print the page docs/audit.md")->excludes(json);
    sub->callback([options, &chosen] {
        chosen = [options] {
            return run_audit(options->threads, options->json ? Format::json : options->markdown ? Format::markdown : Format::text);
        };
    });
}

}  // namespace turboquant::tool

// From the chunks that eval has measured to its answer: figures, table, Markdown. No engine.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "eval_state.hpp"

namespace turboquant::tool {

// How long greedy texts stay the same as the base's.
struct Agreement {
    std::size_t prompts = 0, length = 0;  // length: tokens generated after each prompt
    double first_median = 0;              // number of equal tokens before the first different one; length when all are equal
    std::size_t first_min = 0;
    double fraction = 0;  // mean over prompts of that number / length
};

struct EvalRow {
    std::string cache;
    int context = 0, chunks = 0;
    double seconds = 0, bits = 0, full_bits = 0;
    std::int64_t bytes = 0;
    Summary summary;
    double base_nll = 0;
    std::string remark;
    std::optional<Agreement> agreement;

    bool finite() const { return summary.tokens > 0 && summary.not_finite == 0; }
    double perplexity() const;
    double perplexity_ratio() const;
};

// Rows by context, then in the order of `caches`, the base first. All records must be there; generate: 0 or the tokens.
std::vector<EvalRow> eval_rows(const EvalState& state, const std::string& base, const std::vector<std::string>& caches,
                               const std::vector<int>& contexts, int chunks, int generate);

Json eval_results(const std::vector<EvalRow>& rows);
std::string eval_table(const std::vector<EvalRow>& rows, bool bold_title);
std::string eval_markdown(const std::vector<EvalRow>& rows, const Json& environment);

}  // namespace turboquant::tool

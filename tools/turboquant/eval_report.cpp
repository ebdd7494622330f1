#include "eval_report.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "table.hpp"

namespace turboquant::tool {
namespace {

Agreement agreement_of(const EvalState& state, const std::string& base, const std::string& cache, int context, int chunks,
                       int length) {
    Agreement out;
    out.length = static_cast<std::size_t>(length);
    std::vector<float> firsts;
    for (int chunk = 0; chunk < chunks; ++chunk) {
        const auto& theirs = state.generation(base, context, chunk)->tokens;
        const auto& ours = state.generation(cache, context, chunk)->tokens;
        const auto differing = std::mismatch(theirs.begin(), theirs.end(), ours.begin(), ours.end()).first;
        firsts.push_back(static_cast<float>(differing - theirs.begin()));
        out.fraction += firsts.back() / static_cast<double>(length) / chunks;
    }
    std::sort(firsts.begin(), firsts.end());
    out.prompts = firsts.size();
    out.first_min = static_cast<std::size_t>(firsts.front());
    out.first_median = quantile(firsts, 0.5);
    return out;
}

void add_remark(std::string& to, const std::string& more) {
    if (more.empty() || to.find(more) != std::string::npos) return;
    to += (to.empty() ? "" : "; ") + more;
}

EvalRow row_of(const EvalState& state, const std::string& base, const std::string& cache, int context, int chunks, int generate) {
    EvalRow row;
    row.cache = cache;
    row.context = context;
    row.chunks = chunks;
    Scores all, base_all;
    for (int chunk = 0; chunk < chunks; ++chunk) {
        const ChunkRecord& record = *state.chunk(cache, context, chunk);
        all.append(record.scores);
        base_all.append(state.chunk(base, context, chunk)->scores);
        row.seconds += record.seconds;
        row.bits += record.bits / chunks;
        row.full_bits += record.full_bits / chunks;
        row.bytes = std::max(row.bytes, record.bytes);
        add_remark(row.remark, record.remark);
    }
    row.summary = summarise(all);
    row.base_nll = summarise(base_all).nll_mean;
    if (row.summary.not_finite > 0)
        add_remark(row.remark, fmt::format("{}: the logits are not finite at {} of {} tokens: this cache cannot be used here",
                                           cache, row.summary.not_finite, row.summary.tokens));
    if (generate > 0) row.agreement = agreement_of(state, base, cache, context, chunks, generate);
    return row;
}

std::string cell(double value, bool there, const char* form) { return there ? fmt::format(fmt::runtime(form), value) : "-"; }

// The figures of a row as text, under these titles; the same in the table and in Markdown.
struct Columns {
    bool windows = false, generated = false;

    explicit Columns(const std::vector<EvalRow>& rows) {
        for (const EvalRow& row : rows) {
            windows |= row.full_bits != row.bits;
            generated |= row.agreement.has_value();
        }
    }

    std::vector<std::string> titles() const {
        std::vector<std::string> out{"context", "cache",    "bits",       "mean KL",    "median", "99 %",   "99.9 %",
                                     "max",     "same top", "RMS change", "perplexity", "of f16", "seconds"};
        if (windows) out.insert(out.begin() + 3, "full layers");
        if (generated) out.insert(out.end(), {"first difference", "least"});
        return out;
    }

    std::vector<std::string> cells(const EvalRow& row) const {
        const Summary& s = row.summary;
        const bool there = row.finite();
        const std::string error = there && std::isfinite(s.kl_mean_error) ? fmt::format(" ± {:.5f}", s.kl_mean_error) : "";
        std::vector<std::string> out{std::to_string(row.context),
                                     row.cache,
                                     format_bits(row.bits),
                                     cell(s.kl_mean, there, "{:.5f}") + error,
                                     cell(s.kl_median, there, "{:.5f}"),
                                     cell(s.kl_99, there, "{:.4f}"),
                                     cell(s.kl_999, there, "{:.4f}"),
                                     cell(s.kl_max, there, "{:.4f}"),
                                     cell(100 * s.top1, there, "{:.1f} %"),
                                     cell(100 * s.rms_change, there, "{:.2f} %"),
                                     cell(row.perplexity(), there, "{:.3f}"),
                                     cell(row.perplexity_ratio(), there && std::isfinite(row.perplexity_ratio()), "{:.4f}"),
                                     fmt::format("{:.1f}", row.seconds)};
        if (windows) out.insert(out.begin() + 3, format_bits(row.full_bits));
        if (generated) {
            out.push_back(row.agreement ? fmt::format("{:.0f} of {}", row.agreement->first_median, row.agreement->length) : "-");
            out.push_back(row.agreement ? std::to_string(row.agreement->first_min) : "-");
        }
        return out;
    }
};

std::string joined(const std::vector<std::string>& cells) {
    std::string line = "|";
    for (const std::string& text : cells) line += " " + text + " |";
    return line + "\n";
}

}  // namespace

double EvalRow::perplexity() const { return std::exp(summary.nll_mean); }
double EvalRow::perplexity_ratio() const { return std::exp(summary.nll_mean - base_nll); }

std::vector<EvalRow> eval_rows(const EvalState& state, const std::string& base, const std::vector<std::string>& caches,
                               const std::vector<int>& contexts, int chunks, int generate) {
    std::vector<EvalRow> rows;
    for (int context : contexts) {
        rows.push_back(row_of(state, base, base, context, chunks, generate));
        for (const std::string& cache : caches) rows.push_back(row_of(state, base, cache, context, chunks, generate));
    }
    return rows;
}

Json eval_results(const std::vector<EvalRow>& rows) {
    Json results = Json::array();
    for (const EvalRow& row : rows) {
        const Summary& s = row.summary;
        const auto if_finite = [&](double value) { return row.finite() ? figure(value) : Json(nullptr); };
        Json one = {{"cache", row.cache},
                    {"context", row.context},
                    {"bits", figure(row.bits)},
                    {"bits_full_attention", figure(row.full_bits)},
                    {"kl_mean", if_finite(s.kl_mean)},
                    {"kl_mean_error", if_finite(s.kl_mean_error)},
                    {"kl_median", if_finite(s.kl_median)},
                    {"kl_99", if_finite(s.kl_99)},
                    {"kl_999", if_finite(s.kl_999)},
                    {"kl_max", if_finite(s.kl_max)},
                    {"top1", if_finite(s.top1)},
                    {"rms_change", if_finite(s.rms_change)},
                    {"ppl", if_finite(row.perplexity())},
                    {"ppl_ratio", if_finite(row.perplexity_ratio())},
                    {"seconds", figure(row.seconds)},
                    {"tokens", s.tokens},
                    {"tokens_not_finite", s.not_finite},
                    {"chunks", row.chunks},
                    {"cache_bytes", row.bytes},
                    {"remark", row.remark}};
        if (row.agreement)
            one["generation"] = {{"prompts", row.agreement->prompts},
                                 {"tokens", row.agreement->length},
                                 {"first_difference_median", figure(row.agreement->first_median)},
                                 {"first_difference_min", row.agreement->first_min},
                                 {"equal_fraction", figure(row.agreement->fraction)}};
        results.push_back(std::move(one));
    }
    return results;
}

std::string eval_table(const std::vector<EvalRow>& rows, bool bold_title) {
    const Columns columns(rows);
    std::vector<Table::Column> titles;
    for (const std::string& title : columns.titles())
        titles.push_back({title, title == "cache" ? Table::Align::left : Table::Align::right});
    Table table(titles);
    for (const EvalRow& row : rows) table.add(columns.cells(row));
    return table.text(bold_title);
}

std::string eval_markdown(const std::vector<EvalRow>& rows, const Json& environment) {
    const auto text = [&](const char* key) {
        const Json& value = environment.at(key);
        return value.is_string() ? value.get<std::string>() : value.dump();
    };
    const Columns columns(rows);
    std::string out = fmt::format(
        "KL divergence of the next token's distribution against the f16 cache, {} of {}, {} chunks, batches of {}; {}, {} threads, "
        "{}.\n"
        "Bits are all bytes in memory over the numbers they stand for, at this context. After ±: standard error from blocks of {} "
        "tokens.\n\n",
        text("model"), text("text"), text("chunks"), text("batch"), text("cpu"), text("threads"), text("date"), kBlock);
    const std::vector<std::string> titles = columns.titles();
    out += joined(titles);
    out += "|";
    for (const std::string& title : titles) out += title == "cache" ? "---|" : "---:|";
    out += "\n";
    for (const EvalRow& row : rows) out += joined(columns.cells(row));
    for (const EvalRow& row : rows)
        if (!row.remark.empty()) out += fmt::format("\n{} tokens: {}.\n", row.context, row.remark);
    return out;
}

}  // namespace turboquant::tool

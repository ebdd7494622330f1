#include "evaluate.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <thread>

#include <fmt/format.h>

#include "terminal.hpp"

namespace turboquant::tool {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string minutes(double seconds) {
    const auto whole = static_cast<long>(seconds + 0.5);
    return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

// run(i) for all i < count, on so many threads.
void in_parallel(std::size_t count, int threads, const std::function<void(std::size_t)>& run) {
    std::vector<std::thread> helpers;
    const auto stride = static_cast<std::size_t>(std::max(threads, 1));
    const auto share = [&](std::size_t first) {
        for (std::size_t i = first; i < count; i += stride) run(i);
    };
    for (std::size_t t = 1; t < std::min(stride, count); ++t) helpers.emplace_back(share, t);
    share(0);
    for (std::thread& helper : helpers) helper.join();
}

// A session and what it has spent on the chunk at hand.
struct Runner {
    std::unique_ptr<Session> session;
    double seconds = 0;
    Scores scores;

    const std::string& name() const { return session->cache().name; }

    Status decode(std::span<const llama_token> tokens, std::size_t first_output) {
        const auto start = Clock::now();
        const Status done = session->decode_scored(tokens, first_output);
        seconds += seconds_since(start);
        session->settle();
        return done;
    }
};

class Evaluation {
public:
    Evaluation(const EvalOptions& options, Engine& engine, const std::vector<llama_token>& tokens, EvalState& state)
        : options_(options), engine_(engine), tokens_(tokens), state_(state), progress_(true), start_(Clock::now()) {}

    Status run(const std::vector<CacheChoice>& caches) {
        plan(caches);
        for (int context : options_.contexts)
            for (std::size_t first = 0; first == 0 || first < caches.size(); first += static_cast<std::size_t>(options_.together)) {
                const std::size_t count = std::min(caches.size() - first, static_cast<std::size_t>(options_.together));
                if (const Status done = run_group(context, std::span(caches).subspan(first, count)); !done.ok()) return done;
            }
        progress_.clear();
        return {};
    }

private:
    bool has_all(const std::string& cache, int context) const {
        for (int chunk = 0; chunk < options_.chunks; ++chunk) {
            if (!state_.chunk(cache, context, chunk)) return false;
            if (options_.generate > 0 && !state_.generation(cache, context, chunk)) return false;
        }
        return true;
    }

    // How many tokens are to be decoded, for the time left. The base runs once for each group of caches.
    void plan(const std::vector<CacheChoice>& caches) {
        for (int context : options_.contexts)
            for (int chunk = 0; chunk < options_.chunks; ++chunk) {
                std::size_t missing = 0, generations = 0;
                for (const CacheChoice& cache : caches) {
                    missing += !state_.chunk(cache.name, context, chunk);
                    generations += options_.generate > 0 && !state_.generation(cache.name, context, chunk);
                }
                const auto together = static_cast<std::size_t>(options_.together);
                if (missing > 0 || !state_.chunk(kBase, context, chunk))
                    all_work_ += static_cast<double>(context) * static_cast<double>(missing + (missing + together - 1) / together);
                generations += options_.generate > 0 && !state_.generation(kBase, context, chunk);
                all_work_ += static_cast<double>(context) * static_cast<double>(generations);
            }
    }

    void show(const std::string& cache, int context, int chunk, std::int64_t at, const char* what) {
        const double spent = seconds_since(start_);
        const double left = work_ > 0 ? spent * (all_work_ - work_) / work_ : 0;
        progress_.update(fmt::format("context {}, chunk {} of {}: {} {} {}; {} so far{}", context, chunk + 1, options_.chunks,
                                     cache, what, at, minutes(spent),
                                     work_ > 0 ? fmt::format(", about {} left", minutes(left)) : ""));
    }

    Status run_group(int context, std::span<const CacheChoice> caches) {
        std::vector<CacheChoice> wanted{CacheChoice{kBase}};
        for (const CacheChoice& cache : caches)
            if (!has_all(cache.name, context)) wanted.push_back(cache);
        if (wanted.size() == 1 && has_all(kBase, context)) return {};

        SessionOptions session_options;
        session_options.context = static_cast<std::uint32_t>(context);
        session_options.batch = session_options.ubatch = session_options.outputs = static_cast<std::uint32_t>(options_.batch);
        std::vector<Runner> runners;
        for (const CacheChoice& cache : wanted) {
            auto session = Session::open(engine_, cache, session_options);
            if (!session.ok()) return session.status();
            runners.push_back({std::move(session.value()), 0, {}});
        }
        for (int chunk = 0; chunk < options_.chunks; ++chunk)
            if (const Status done = score_chunk(context, chunk, runners); !done.ok()) return done;
        for (int chunk = 0; options_.generate > 0 && chunk < options_.chunks; ++chunk)
            for (Runner& runner : runners)
                if (const Status done = generate(context, chunk, runner); !done.ok()) return done;
        return {};
    }

    // The chunk's tokens, beginning as the model's texts begin.
    std::vector<llama_token> chunk_tokens(int context, int chunk, const llama_vocab* vocab) const {
        const auto first = tokens_.begin() + static_cast<std::ptrdiff_t>(chunk) * context;
        std::vector<llama_token> out(first, first + context);
        if (llama_vocab_get_add_bos(vocab)) out.front() = llama_vocab_bos(vocab);
        return out;
    }

    // All caches go through the chunk together, a batch at a time, so that only one batch of logits is held for each.
    Status score_chunk(int context, int chunk, std::vector<Runner>& runners) {
        std::vector<Runner*> missing;  // without the base, which is run for the others' sake
        for (std::size_t i = 1; i < runners.size(); ++i)
            if (!state_.chunk(runners[i].name(), context, chunk)) missing.push_back(&runners[i]);
        Runner& base = runners.front();
        if (missing.empty() && state_.chunk(kBase, context, chunk)) return {};

        std::vector<Runner*> running{&base};
        running.insert(running.end(), missing.begin(), missing.end());
        for (Runner* runner : running) {
            runner->session->clear();
            runner->seconds = 0;
            runner->scores = {};
        }
        const std::vector<llama_token> tokens = chunk_tokens(context, chunk, base.session->vocab());
        const std::size_t first_scored = tokens.size() / 2;
        for (std::size_t at = 0; at < tokens.size();) {
            const auto part = std::span(tokens).subspan(at, std::min(tokens.size() - at, static_cast<std::size_t>(options_.batch)));
            const std::size_t first_output = first_scored > at ? std::min(first_scored - at, part.size()) : 0;
            // The last token of the chunk has no successor to compare with.
            const std::size_t end_output = at + part.size() == tokens.size() ? part.size() - 1 : part.size();
            std::vector<Distribution> base_rows(part.size());
            for (Runner* runner : running) {
                show(runner->name(), context, chunk, static_cast<std::int64_t>(at), "at token");
                if (const Status done = runner->decode(part, first_output); !done.ok()) return done;
                work_ += static_cast<double>(part.size());
                if (const Status done =
                        score_batch(base, *runner, base_rows, std::span(tokens).subspan(at), first_output, end_output);
                    !done.ok())
                    return done;
            }
            at += part.size();
        }
        for (Runner* runner : running) {
            if (state_.chunk(runner->name(), context, chunk)) continue;  // the base, run again for the others
            const CacheUse use = runner->session->cache_use();
            if (const Status kept = state_.add(ChunkRecord{
                    runner->name(), context, chunk, rounded(runner->seconds), rounded(use.bits_per_value()),
                    rounded(use.full_bits_per_value()), use.whole_bytes(), runner->session->remark(), std::move(runner->scores)});
                !kept.ok())
                return kept;
        }
        return {};
    }

    // base_rows: filled when the base itself is scored, which comes first.
    Status score_batch(Runner& base, Runner& runner, std::vector<Distribution>& base_rows, std::span<const llama_token> tokens,
                       std::size_t first, std::size_t end) {
        if (first >= end) return {};
        std::vector<std::span<const float>> base_logits(end), logits(end);
        for (std::size_t i = first; i < end; ++i) {  // the engine's look-up is not for several threads
            base_logits[i] = base.session->logits(static_cast<int>(i));
            logits[i] = runner.session->logits(static_cast<int>(i));
            if (base_logits[i].empty() || logits[i].empty())
                return unsupported(fmt::format("llama.cpp gave no logits with the {} cache; -v shows its log", runner.name()));
        }
        std::vector<TokenScore> scores(end);
        in_parallel(end - first, options_.engine.threads, [&](std::size_t n) {
            const std::size_t i = first + n;
            if (&runner == &base) base_rows[i] = Distribution(base_logits[i]);
            scores[i] = TokenScore::of(base_rows[i], base_logits[i], logits[i], static_cast<std::size_t>(tokens[i + 1]));
        });
        for (std::size_t i = first; i < end; ++i) runner.scores.add(scores[i]);
        return {};
    }

    // The prompt is as much of the chunk as leaves room for the answer. End-of-text tokens do not end it.
    Status generate(int context, int chunk, Runner& runner) {
        if (state_.generation(runner.name(), context, chunk)) return {};
        Session& session = *runner.session;
        session.clear();
        const std::vector<llama_token> tokens = chunk_tokens(context, chunk, session.vocab());
        const auto prompt = std::span(tokens).first(tokens.size() - static_cast<std::size_t>(options_.generate));
        for (std::size_t at = 0; at < prompt.size(); at += static_cast<std::size_t>(options_.batch)) {
            show(runner.name(), context, chunk, static_cast<std::int64_t>(at), "reads the prompt, token");
            const auto part = prompt.subspan(at, std::min(prompt.size() - at, static_cast<std::size_t>(options_.batch)));
            if (const Status done = session.decode(part); !done.ok()) return done;
            session.settle();
            work_ += static_cast<double>(part.size());
        }
        GenerationRecord record{runner.name(), context, chunk, {}};
        while (true) {
            const std::int64_t best = most_likely(session.logits(-1));
            if (best < 0) break;  // not finite: the text ends here
            record.tokens.push_back(static_cast<std::int32_t>(best));
            work_ += 1;
            if (static_cast<int>(record.tokens.size()) == options_.generate) break;
            show(runner.name(), context, chunk, static_cast<std::int64_t>(record.tokens.size()), "generates token");
            const llama_token token = record.tokens.back();
            if (const Status done = session.decode({&token, 1}); !done.ok()) return done;
        }
        session.settle();
        return state_.add(std::move(record));
    }

    const EvalOptions& options_;
    Engine& engine_;
    const std::vector<llama_token>& tokens_;
    EvalState& state_;
    Progress progress_;
    Clock::time_point start_;
    double work_ = 0, all_work_ = 0;  // tokens decoded, and to be decoded
};

}  // namespace

Status evaluate(const EvalOptions& options, Engine& engine, const std::vector<CacheChoice>& caches,
                const std::vector<llama_token>& tokens, EvalState& state) {
    return Evaluation(options, engine, tokens, state).run(caches);
}

}  // namespace turboquant::tool

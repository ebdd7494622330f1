#include "measure.hpp"

#include <algorithm>
#include <chrono>
#include <random>
#include <span>

#include <fmt/format.h>

#include "interrupt.hpp"
#include "terminal.hpp"

namespace turboquant::tool {
namespace {

class Bench {
public:
    Bench(const BenchOptions& options, Sessions& sessions) : options_(options), sessions_(sessions), progress_(true) {
        std::mt19937 random(20250504);  // the same tokens for every cache and every run
        const llama_vocab* vocab = sessions_.front()->vocab();
        const auto count = static_cast<std::uint32_t>(llama_vocab_n_tokens(vocab));
        tokens_.resize(static_cast<std::size_t>(*std::max_element(options.depths.begin(), options.depths.end()) +
                                                std::max(options.prompt, options.generate)));
        for (llama_token& token : tokens_) token = static_cast<llama_token>(random() % count);
        if (llama_vocab_get_add_bos(vocab)) tokens_.front() = llama_vocab_bos(vocab);
    }

    Result<std::vector<Measurement>> run() {
        std::vector<Measurement> all;
        for (int depth : options_.depths) {
            for (auto& session : sessions_) {
                session->clear();
                if (const Status done = fill(*session, depth); !done.ok()) return done;
            }
            if (interrupted()) break;
            // Decode comes first: its few tokens stay in the newest tile, so that every repetition appends as a real one does.
            for (const bool decode : {true, false}) {
                if ((decode ? options_.generate : options_.prompt) == 0) continue;
                auto measured = measure(decode, depth);
                if (!measured.ok()) return measured.status();
                for (Measurement& one : measured.value())
                    if (!one.samples.empty()) all.push_back(std::move(one));
            }
        }
        return all;
    }

private:
    // A, B, C, A, B, C, ...: a machine that is busy for a while disturbs all caches alike.
    Result<std::vector<Measurement>> measure(bool decode, int depth) {
        std::vector<Measurement> out;
        for (const auto& session : sessions_)
            out.push_back({session->cache().name,
                           decode ? "decode" : "prefill",
                           depth,
                           decode ? options_.generate : options_.prompt,
                           {},
                           {}});
        for (int repetition = 0; repetition < options_.repetitions; ++repetition) {
            for (std::size_t i = 0; i < sessions_.size() && !interrupted(); ++i) {
                Session& session = *sessions_[i];
                progress_.update(fmt::format("{} at {}: {}, repetition {} of {}", out[i].test, depth, out[i].cache, repetition + 1,
                                             options_.repetitions));
                if (const Status done = restore(session, depth); !done.ok()) return done;
                const auto seconds = timed(session, decode, depth);
                if (!seconds.ok()) return seconds.status();
                if (interrupted()) break;  // it may have stopped in the middle
                session.settle();
                out[i].samples.push_back(out[i].tokens / seconds.value());
                if (repetition == 0) out[i].use = session.cache_use();
            }
        }
        return out;
    }

    Result<double> timed(Session& session, bool decode, int depth) {
        const auto start = std::chrono::steady_clock::now();
        const auto next = std::span(tokens_).subspan(static_cast<std::size_t>(depth));
        if (decode) {
            for (int i = 0; i < options_.generate && !interrupted(); ++i)
                if (const Status done = session.decode(next.subspan(static_cast<std::size_t>(i), 1)); !done.ok()) return done;
        } else if (const Status done = session.decode(next.first(static_cast<std::size_t>(options_.prompt))); !done.ok()) {
            return done;
        }
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

    Status restore(Session& session, int depth) {
        if (session.count() == depth) return {};
        if (depth > 0 && !options_.refill && session.rewind(depth)) return {};
        session.clear();  // at depth 0 this is the rewind, and leaves nothing behind
        return fill(session, depth);
    }

    Status fill(Session& session, int depth) {
        session.use_threads(std::max(options_.engine.threads, options_.engine.most_threads));
        const Status done = feed(session, depth);
        session.use_threads(options_.engine.threads);
        return done;
    }

    Status feed(Session& session, int depth) {
        while (session.count() < depth && !interrupted()) {
            progress_.update(fmt::format("filling the {} cache: {} of {} tokens", session.cache().name, session.count(), depth));
            const auto at = static_cast<std::size_t>(session.count());
            const std::size_t size = std::min<std::size_t>(options_.session.ubatch, static_cast<std::size_t>(depth) - at);
            if (const Status done = session.decode(std::span(tokens_).subspan(at, size)); !done.ok()) return done;
        }
        session.settle();
        return {};
    }

    const BenchOptions& options_;
    Sessions& sessions_;
    Progress progress_;
    std::vector<llama_token> tokens_;
};

}  // namespace

Result<std::vector<Measurement>> measure_all(const BenchOptions& options, Sessions& sessions) {
    return Bench(options, sessions).run();
}

}  // namespace turboquant::tool

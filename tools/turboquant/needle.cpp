#include "needle.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <span>

#include <fmt/format.h>

#include "divergence.hpp"
#include "files.hpp"
#include "generate.hpp"
#include "needle_text.hpp"
#include "terminal.hpp"

namespace turboquant::tool {
namespace {

constexpr std::size_t kFillerSentences = 2000;  // then it begins again
constexpr std::size_t kReserve = 8;             // tokens that joining the pieces of a prompt may add

struct Task {
    std::vector<llama_token> prompt, answer;
};

bool is_digit(const std::string& text, std::size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '9'; }

class Search {
public:
    Search(const NeedleOptions& options, Engine& engine) : options_(options), engine_(engine), progress_(true) {}

    Result<std::vector<NeedleCell>> run(const std::vector<CacheChoice>& caches) {
        if (const Status done = read_filler(); !done.ok()) return done;
        for (const CacheChoice& cache : caches)
            for (int context : options_.contexts)
                if (const Status done = run_context(cache, context); !done.ok()) return done;
        progress_.clear();
        return std::move(cells_);
    }

private:
    Status read_filler() {
        if (options_.text_file.empty()) {
            filler_ = generated_filler(options_.seed, kFillerSentences);
            return {};
        }
        const Result<std::string> text = read_text(options_.text_file);
        if (!text.ok()) return text.status();
        filler_ = sentences_of(text.value());
        if (filler_.empty())
            return invalid_argument(
                fmt::format("the text '{}' has no sentence without digits; give another one with -f", options_.text_file));
        return {};
    }

    Status run_context(const CacheChoice& cache, int context) {
        SessionOptions session_options;
        session_options.context = static_cast<std::uint32_t>(context);
        session_options.batch = session_options.ubatch = static_cast<std::uint32_t>(options_.batch);
        auto session = Session::open(engine_, cache, session_options);
        if (!session.ok()) return session.status();
        for (int depth : options_.depths) {
            NeedleCell cell{cache.name, context, depth, {}, 0, 0, 0, 0, ""};
            for (int trial = 0; trial < options_.trials; ++trial) {
                progress_.update(fmt::format("{} cache, context {}, depth {} %, trial {} of {}", cache.name, context, depth,
                                             trial + 1, options_.trials));
                const Result<Task> task = make_task(*session.value(), context, depth, trial);
                if (!task.ok()) return task.status();
                const auto start = std::chrono::steady_clock::now();
                const auto answer = ask(*session.value(), task.value());
                if (!answer.ok()) return answer.status();
                cell.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
                cell.prompt_tokens += static_cast<double>(task.value().prompt.size()) / options_.trials;
                cell.answers.push_back(answer.value());
            }
            session.value()->settle();
            const CacheUse use = session.value()->cache_use();
            cell.bits = use.bits_per_value();
            cell.full_bits = use.full_bits_per_value();
            cell.remark = session.value()->remark();
            cells_.push_back(std::move(cell));
        }
        return {};
    }

    // The question, framed as the model expects it, up to where the digits begin. Ending in the answer's first words makes
    // small models answer in this form, and models without a chat template answer at all.
    std::string framed(const llama_model* model, const std::string& text, const Needle& asked) const {
        const std::string user = fmt::format("{}\n\n{}", text, asked.question());
        const std::string chat = options_.no_template ? "" : apply_chat_template(model, "", user);
        return (chat.empty() ? fmt::format("{}\n\nQuestion: {}\nAnswer: ", text, asked.question()) : chat) + asked.opening();
    }

    Result<Task> make_task(Session& session, int context, int depth, int trial) const {
        const CountTokens count = [&](std::string_view text) { return tokenize(session.vocab(), std::string(text)).size(); };
        const std::size_t special = tokenize(session.vocab(), "").size();  // what the vocabulary adds to every text
        NeedleRequest request{0, depth, options_.keys, options_.seed + static_cast<std::uint64_t>(trial)};
        const CountTokens count_inside = [&](std::string_view text) { return count(text) - special; };
        const Needle longest{"Havana", std::string(kNeedleDigits, '0')};
        const std::size_t frame = count(framed(session.model(), "", longest) + " " + longest.digits) + kReserve;
        request.tokens = static_cast<std::size_t>(context) - std::min(frame, static_cast<std::size_t>(context));
        const Result<NeedleText> made = make_needle_text(request, filler_, count_inside);
        if (!made.ok()) return made.status();

        const NeedleText& needle = made.value();
        const std::string prompt = framed(session.model(), needle.text, needle.asked);
        const std::vector<llama_token> before = tokenize(session.vocab(), prompt);
        const std::vector<llama_token> whole = tokenize(session.vocab(), prompt + " " + needle.asked.digits);
        const auto border = std::mismatch(before.begin(), before.end(), whole.begin(), whole.end()).second;
        Task task{{whole.begin(), border}, {border, whole.end()}};
        if (task.answer.empty() || whole.size() + 1 > static_cast<std::size_t>(context))
            return unsupported(fmt::format(
                "the model's tokenizer makes {} tokens of a prompt meant for {}; try -f with another text", whole.size(), context));
        return task;
    }

    // The right digits are fed one token after another. Greedy decoding gives them exactly when each is the most likely one at
    // its place, so that one pass answers both questions.
    Result<NeedleAnswer> ask(Session& session, const Task& task) const {
        session.clear();
        for (std::size_t at = 0; at < task.prompt.size(); at += static_cast<std::size_t>(options_.batch)) {
            const auto part =
                std::span(task.prompt).subspan(at, std::min(task.prompt.size() - at, static_cast<std::size_t>(options_.batch)));
            if (const Status done = session.decode(part); !done.ok()) return done;
        }
        NeedleAnswer answer;
        answer.exact = true;
        double nll = 0;
        for (const llama_token right : task.answer) {
            const auto logits = session.logits(-1);
            const Distribution distribution(logits);
            answer.finite = answer.finite && distribution.ok();
            answer.exact = answer.exact && most_likely(logits) == right;
            nll -= distribution.log_probability(logits, static_cast<std::size_t>(right));
            if (const Status done = session.decode({&right, 1}); !done.ok()) return done;
        }
        const std::int64_t next = most_likely(session.logits(-1));
        answer.exact = answer.exact && next >= 0 && !is_digit(piece_of(session.vocab(), static_cast<llama_token>(next)), 0);
        answer.nll = nll / static_cast<double>(task.answer.size());
        answer.probability = std::exp(-nll);
        return answer;
    }

    const NeedleOptions& options_;
    Engine& engine_;
    Progress progress_;
    std::vector<std::string> filler_;
    std::vector<NeedleCell> cells_;
};

}  // namespace

int NeedleCell::exact() const {
    return static_cast<int>(std::count_if(answers.begin(), answers.end(), [](const NeedleAnswer& one) { return one.exact; }));
}

Result<std::vector<NeedleCell>> search_needles(const NeedleOptions& options, Engine& engine,
                                               const std::vector<CacheChoice>& caches) {
    return Search(options, engine).run(caches);
}

}  // namespace turboquant::tool

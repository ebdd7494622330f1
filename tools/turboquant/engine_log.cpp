#include "engine_log.hpp"

#include <cstdio>
#include <mutex>
#include <string_view>

#include "llama.h"
#include "terminal.hpp"

namespace turboquant::tool {
namespace {

struct Line {
    ggml_log_level level;
    std::string text;
};

struct Log {
    std::mutex mutex;  // the engine logs from several threads
    bool verbose = false;
    bool quiet = false;   // our own warnings are kept, not shown
    std::vector<Line> lines;
    bool open = false;  // the last line has not ended yet
};

Log& the_log() {
    static Log log;
    return log;
}

constexpr std::size_t kKeptLines = 10000;

void receive(ggml_log_level level, const char* text, void*) {
    Log& log = the_log();
    const std::scoped_lock lock(log.mutex);
    if (log.verbose) std::fputs(text, stderr);
    if (log.lines.size() >= kKeptLines) log.lines.erase(log.lines.begin(), log.lines.begin() + kKeptLines / 2);
    for (std::string piece = text; !piece.empty();) {
        const auto end = piece.find('\n');
        if (!log.open) log.lines.push_back({level, ""});
        Line& line = log.lines.back();
        line.text += piece.substr(0, end);
        log.open = end == std::string::npos;
        piece.erase(0, log.open ? piece.size() : end + 1);
        if (!log.open && !log.verbose && !log.quiet && line.level >= GGML_LOG_LEVEL_WARN && line.level != GGML_LOG_LEVEL_CONT &&
            line.text.starts_with("turboquant"))
            std::fprintf(stderr, "%s\n", line.text.c_str());
    }
}

}  // namespace

void capture_engine_log(bool verbose) {
    the_log().verbose = verbose;
    llama_log_set(receive, nullptr);
}

QuietEngine::QuietEngine() {
    const std::scoped_lock lock(the_log().mutex);
    the_log().quiet = true;
}

QuietEngine::~QuietEngine() {
    const std::scoped_lock lock(the_log().mutex);
    the_log().quiet = false;
}

std::vector<std::string> engine_log() {
    Log& log = the_log();
    const std::scoped_lock lock(log.mutex);
    std::vector<std::string> texts;
    for (const Line& line : log.lines) texts.push_back(line.text);
    return texts;
}

void forget_engine_log() {
    Log& log = the_log();
    const std::scoped_lock lock(log.mutex);
    log.lines.clear();
    log.open = false;
}

std::string engine_reason() {
    Log& log = the_log();
    const std::scoped_lock lock(log.mutex);
    for (const Line& line : log.lines) {  // the first error is the cause, later ones are its consequences
        if (line.level != GGML_LOG_LEVEL_ERROR) continue;
        // "llama_model_load: error loading model: tensor 'x' ..." -> "tensor 'x' ..."
        const auto colon = line.text.find(": ");
        std::string reason = colon == std::string::npos ? line.text : line.text.substr(colon + 2);
        constexpr std::string_view kObvious = "error loading model: ";
        if (reason.starts_with(kObvious)) reason.erase(0, kObvious.size());
        return reason;
    }
    return "";
}

}  // namespace turboquant::tool

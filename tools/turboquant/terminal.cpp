#include "terminal.hpp"

#include <unistd.h>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <fmt/format.h>

#include "command.hpp"

namespace turboquant::tool {

int fail(int exit_code, std::string_view message) {
    std::fflush(stdout);
    const std::string name = colour_wanted(2) ? "\033[1;31mturboquant:\033[0m" : "turboquant:";
    fmt::print(stderr, "{} {}\n", name, message);
    return exit_code;
}

int fail(const Status& status) { return fail(status.code() == StatusCode::invalid_argument ? kUsage : kFailure, status.message()); }

void note(std::string_view message) {
    std::fflush(stdout);
    fmt::print(stderr, "turboquant: {}\n", message);
}

double rounded(double value) { return std::round(value * 1e4) / 1e4; }

Json figure(double value) {
    return std::isfinite(value) ? Json(std::strtod(fmt::format("{:.6g}", value).c_str(), nullptr)) : Json(nullptr);
}

int print_json(Json environment, Json results, const char* list_name) {
    Json all;
    all["environment"] = std::move(environment);
    all[list_name] = std::move(results);
    // A model may stop in the middle of a UTF-8 character: replace it instead of failing.
    fmt::print("{}\n", all.dump(2, ' ', false, Json::error_handler_t::replace));
    return std::fflush(stdout) == 0 ? kOk : fail(kFailure, "cannot write to standard output; is the disk full?");
}

bool colour_wanted(int stream) {
    const char* no_colour = std::getenv("NO_COLOR");
    if (no_colour && *no_colour) return false;
    const char* terminal = std::getenv("TERM");
    return isatty(stream) && terminal && std::string_view(terminal) != "dumb";
}

std::string bold(std::string_view text, int stream) {
    return colour_wanted(stream) ? fmt::format("\033[1m{}\033[0m", text) : std::string(text);
}

// Nothing is shown in the first moments, so that quick runs stay silent.
constexpr auto kTerminalPause = std::chrono::milliseconds(100);
constexpr auto kFilePause = std::chrono::seconds(15);

Progress::Progress(bool enabled) : enabled_(enabled), terminal_(isatty(2)), last_(std::chrono::steady_clock::now()) {}

Progress::~Progress() { clear(); }

void Progress::update(std::string_view text) {
    const auto now = std::chrono::steady_clock::now();
    if (!enabled_ || now - last_ < (terminal_ ? kTerminalPause : kFilePause)) return;
    last_ = now;
    if (terminal_) {
        fmt::print(stderr, "\r\033[K{}", text);
        std::fflush(stderr);
        shown_ = true;
    } else {
        fmt::print(stderr, "{}\n", text);
    }
}

void Progress::clear() {
    if (!shown_) return;
    fmt::print(stderr, "\r\033[K");
    std::fflush(stderr);
    shown_ = false;
}

}  // namespace turboquant::tool

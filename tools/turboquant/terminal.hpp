// What goes to the user: errors and notes on stderr, progress where somebody watches, colours where they are wanted.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "turboquant/status.hpp"

namespace turboquant::tool {

using Json = nlohmann::ordered_json;

// Prints "turboquant: <message>" on stderr and returns the exit code.
int fail(int exit_code, std::string_view message);

// The same for a Status: the caller's mistakes are usage errors, everything else is a failure.
int fail(const Status& status);

// One line on stderr that is not an error.
void note(std::string_view message);

// Numbers in JSON: four decimals are more than any measurement here has.
double rounded(double value);

// Six significant digits, for numbers that may be small; null where there is none (NaN, infinity).
Json figure(double value);

// Every --json answer has this shape: one object, {"environment": {...}, "results": [...]}; what the list is called may differ.
// Returns the exit code.
int print_json(Json environment, Json results, const char* list_name = "results");

// Is this stream (1 or 2) a terminal that may be coloured? NO_COLOR and TERM=dumb say no.
bool colour_wanted(int stream);
std::string bold(std::string_view text, int stream);

// Progress on stderr: a line that rewrites itself on a terminal, a line now and then elsewhere.
class Progress {
public:
    explicit Progress(bool enabled);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    void update(std::string_view text);
    void clear();  // removes the line, before something else is printed

private:
    bool enabled_;
    bool terminal_;
    bool shown_ = false;
    std::chrono::steady_clock::time_point last_;
};

}  // namespace turboquant::tool

// The engine's log: kept, silent unless asked for, searched when something fails.
#pragma once

#include <string>
#include <vector>

namespace turboquant::tool {

// Takes over llama.cpp's log. verbose: every line goes to stderr at once.
// Otherwise only warnings that our own plug-in writes are shown: they tell what the cache really does.
void capture_engine_log(bool verbose);

// While one lives, our plug-in's warnings are kept but not shown: for a look at a model that the user did not ask for.
class QuietEngine {
public:
    QuietEngine();
    ~QuietEngine();
    QuietEngine(const QuietEngine&) = delete;
    QuietEngine& operator=(const QuietEngine&) = delete;
};

// Lines since the last call of forget_engine_log().
std::vector<std::string> engine_log();
void forget_engine_log();

// The reason that the engine gave for its last failure, as part of a sentence; empty when it gave none.
std::string engine_reason();

}  // namespace turboquant::tool

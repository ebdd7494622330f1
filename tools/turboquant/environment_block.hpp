// The "environment" of every --json answer: enough to know later what was measured, where and with what.
#pragma once

#include <string>

#include "terminal.hpp"

namespace turboquant::tool {

struct EngineVersion {
    bool built_in = false;  // false: a tool without the commands that run a model
    std::string llama, ggml, ggml_commit;
    int backend_api = 0;  // GGML_BACKEND_API_VERSION that the plug-in was compiled for
};
EngineVersion engine_version();

// model: the file's path, or empty where the command uses none.
Json environment_block(int threads, const std::string& model = "");

}  // namespace turboquant::tool

#include "environment_block.hpp"

#include <filesystem>

#include "machine.hpp"
#include "paths.hpp"
#include "turboquant/cpu.hpp"

#if TQ_HAVE_ENGINE
#include "ggml-backend-impl.h"  // GGML_BACKEND_API_VERSION only
#include "llama.h"
#endif

namespace turboquant::tool {

EngineVersion engine_version() {
#if TQ_HAVE_ENGINE
    return {true, llama_version(), ggml_version(), ggml_commit(), GGML_BACKEND_API_VERSION};
#else
    return {};
#endif
}

Json environment_block(int threads, const std::string& model) {
    Json block;
    block["turboquant"] = TQ_VERSION;
    const std::string commit = git_commit();
    block["commit"] = commit.empty() ? Json(nullptr) : Json(commit);
    block["date"] = now_iso8601();
    block["cpu"] = cpu_name();
    block["threads"] = threads;
    block["isa"] = isa_name();
    const EngineVersion engine = engine_version();
    if (engine.built_in)
        block["engine"] = {{"llama.cpp", engine.llama},
                           {"ggml", engine.ggml},
                           {"ggml_commit", engine.ggml_commit},
                           {"backend_api", engine.backend_api}};
    else
        block["engine"] = nullptr;
    if (!model.empty()) {
        std::error_code failed;
        const auto size = std::filesystem::file_size(model, failed);
        block["model"] = std::filesystem::path(model).filename().string();
        block["model_bytes"] = failed ? Json(nullptr) : Json(size);
    }
    return block;
}

}  // namespace turboquant::tool

// llama.cpp as this tool uses it: loaded once, one model object per kind of cache, a name for every cache.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "llama.h"
#include "turboquant/status.hpp"

namespace turboquant::tool {

// A cache that can be asked for: one of the engine's own types, or one of our presets.
struct CacheChoice {
    std::string name;
    bool ours = false;
    ggml_type type = GGML_TYPE_F16;  // of the engine's cache; for ours the nominal type, always f16
};

// The error lists both kinds of names.
Result<CacheChoice> find_cache(std::string_view name);

struct EngineOptions {
    std::string model;
    std::string layers;  // TQ_LAYERS text for our caches, or empty
    int threads = 1;
    bool verbose = false;
};

class Engine {
public:
    // Loads the engine's backends, registers our device and looks at the model file. No model is loaded yet.
    static Result<std::unique_ptr<Engine>> open(EngineOptions options);
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    // The model on our device, or on the processor alone. Loaded at the first call; weights are memory-mapped, so two cost
    // little.
    Result<llama_model*> model(bool ours);

    // Frees that model; sessions on it must be gone.
    void release_model(bool ours);

    const EngineOptions& options() const { return options_; }
    ggml_threadpool_t threads() const { return threads_; }

private:
    explicit Engine(EngineOptions options) : options_(std::move(options)) {}

    EngineOptions options_;
    llama_model* models_[2] = {nullptr, nullptr};  // [ours]
    ggml_threadpool_t threads_ = nullptr;          // shared by all sessions: two pools would spin against each other
};

}  // namespace turboquant::tool

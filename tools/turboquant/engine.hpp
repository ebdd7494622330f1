// llama.cpp as this tool uses it: loaded once, one model object per kind of cache, a name for every cache.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "llama.h"
#include "turboquant/status.hpp"

namespace turboquant::tool {

// The f16 cache without flash attention: the same numbers in the cache, rounded otherwise on the way through attention.
inline constexpr std::string_view kFloor = "floor";

// A cache that can be asked for: one of the engine's own types, one of our presets, or the floor.
struct CacheChoice {
    std::string name;
    bool ours = false;
    ggml_type type = GGML_TYPE_F16;  // of the engine's cache; for ours the nominal type, always f16
    bool flash_attention = true;
    double auto_bits = 0;  // of auto@BITS: a budget; the widths are chosen when the model is known
};

// The error lists both kinds of names.
Result<CacheChoice> find_cache(std::string_view name);

// What caches are compared with where quality is measured.
inline constexpr const char* kBase = "f16";

// The caches of these names, each once and without the base, which runs in any case.
Result<std::vector<CacheChoice>> other_caches(const std::vector<std::string>& names);

struct EngineOptions {
    std::string model;
    std::string layers;  // TQ_LAYERS text for our caches, or empty
    int threads = 1;
    int most_threads = 0;  // the most that Session::use_threads will be asked for, where that is more
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

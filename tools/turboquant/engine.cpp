#include "engine.hpp"

#include <dlfcn.h>
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "auto_name.hpp"
#include "engine_log.hpp"
#include "turboquant/spec.hpp"
#include "turboquant_ggml.h"

namespace fs = std::filesystem;

namespace turboquant::tool {
namespace {

constexpr std::array kEngineTypes = {GGML_TYPE_F16,  GGML_TYPE_F32,  GGML_TYPE_BF16, GGML_TYPE_Q8_0,  GGML_TYPE_Q5_1,
                                     GGML_TYPE_Q5_0, GGML_TYPE_Q4_1, GGML_TYPE_Q4_0, GGML_TYPE_IQ4_NL};

// Where libggml lies: its loadable backends are beside it.
std::string engine_directory() {
    Dl_info found{};
    void* symbol = dlsym(RTLD_DEFAULT, "ggml_backend_load_all_from_path");
    if (!symbol || dladdr(symbol, &found) == 0 || !found.dli_fname) return "";
    std::error_code failed;
    const fs::path file = fs::canonical(found.dli_fname, failed);
    return failed ? "" : file.parent_path().string();
}

template <class F>
F processor_function(const char* name) {
    ggml_backend_dev_t processor = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    return reinterpret_cast<F>(ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(processor), name));
}

// What can be said about the file before the engine reads it.
Status look_at_model(const std::string& path) {
    std::error_code failed;
    if (!fs::exists(path, failed))
        return unsupported(fmt::format("there is no model file '{}'; give -m the path of a GGUF file", path));
    if (!fs::is_regular_file(path, failed))
        return unsupported(fmt::format("'{}' is not a file; give -m the path of a GGUF file", path));
    std::ifstream file(path, std::ios::binary);
    char magic[4] = {};
    if (!file) return unsupported(fmt::format("cannot read '{}': {}", path, std::strerror(errno)));
    if (!file.read(magic, sizeof magic) || std::memcmp(magic, "GGUF", 4) != 0)
        return {StatusCode::corrupt,
                fmt::format("'{}' is not a GGUF file; download the model again, or convert it for llama.cpp", path)};
    return {};
}

}  // namespace

Result<CacheChoice> find_cache(std::string_view name) {
    std::string engine_names;
    for (ggml_type type : kEngineTypes) {
        if (name == ggml_type_name(type)) return CacheChoice{std::string(name), false, type};
        engine_names += std::string(engine_names.empty() ? "" : ", ") + ggml_type_name(type);
    }
    if (name == kFloor) return CacheChoice{std::string(name), false, GGML_TYPE_F16, false};
    const Result<double> budget = auto_bits(name);
    if (!budget.ok()) return budget.status();
    if (budget.value() > 0) return CacheChoice{.name = std::string(name), .ours = true, .auto_bits = budget.value()};
    const Result<Preset> preset = find_preset(name);
    if (!preset.ok())
        return invalid_argument(fmt::format("{}; auto@BITS chooses bits layer by layer; llama.cpp's own caches: {}, and {}, its f16 without flash attention",
                                            preset.status().message(), engine_names, kFloor));
    return CacheChoice{std::string(name), true, GGML_TYPE_F16};
}

Result<std::vector<CacheChoice>> other_caches(const std::vector<std::string>& names) {
    std::vector<CacheChoice> out;
    for (const std::string& name : names) {
        const Result<CacheChoice> cache = find_cache(name);
        if (!cache.ok()) return cache.status();
        const bool known = std::any_of(out.begin(), out.end(), [&](const CacheChoice& other) { return other.name == name; });
        if (name != kBase && !known) out.push_back(cache.value());
    }
    return out;
}

Result<std::unique_ptr<Engine>> Engine::open(EngineOptions options) {
    if (const Status seen = look_at_model(options.model); !seen.ok()) return seen;
    capture_engine_log(options.verbose);

    unsetenv("GGML_BACKEND_PATH");  // the plug-in is linked in; a second copy would only confuse
    ggml_backend_load_all_from_path(engine_directory().c_str());
    if (!ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU)) ggml_backend_load_all();  // installed elsewhere
    if (!ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU))
        return unsupported(
            fmt::format("llama.cpp's CPU backend (libggml-cpu*.so) is not in {}; run scripts/engine again", engine_directory()));
    ggml_backend_register(tq_ggml_reg());
    llama_backend_init();

    std::unique_ptr<Engine> engine(new Engine(std::move(options)));
    const auto make_pool = processor_function<decltype(&ggml_threadpool_new)>("ggml_threadpool_new");
    if (make_pool) {
        ggml_threadpool_params params = ggml_threadpool_params_default(std::max(engine->options_.threads, engine->options_.most_threads));
        engine->threads_ = make_pool(&params);
    }
    return engine;
}

Engine::~Engine() {
    release_model(false);
    release_model(true);
    if (!threads_) return;
    if (const auto free_pool = processor_function<decltype(&ggml_threadpool_free)>("ggml_threadpool_free")) free_pool(threads_);
}

void Engine::release_model(bool ours) {
    if (models_[ours]) llama_model_free(models_[ours]);
    models_[ours] = nullptr;
}

Result<llama_model*> Engine::model(bool ours) {
    if (models_[ours]) return models_[ours];
    ggml_backend_dev_t devices[2] = {ours ? ggml_backend_reg_dev_get(tq_ggml_reg(), 0) : nullptr, nullptr};
    llama_model_params params = llama_model_default_params();
    params.devices = devices;
    params.n_gpu_layers = ours ? 999 : 0;
    forget_engine_log();
    llama_model* loaded = llama_model_load_from_file(options_.model.c_str(), params);
    if (!loaded) {
        const std::string reason = engine_reason();
        return Status(
            StatusCode::corrupt,
            fmt::format("cannot load '{}': {}; download the file again if it is incomplete, or see llama.cpp's log with -v",
                        options_.model, reason.empty() ? "llama.cpp gave no reason" : reason));
    }
    if (!llama_model_has_decoder(loaded)) {
        llama_model_free(loaded);
        return unsupported(fmt::format("'{}' generates no text (encoder only); choose a decoder model", options_.model));
    }
    return models_[ours] = loaded;
}

}  // namespace turboquant::tool

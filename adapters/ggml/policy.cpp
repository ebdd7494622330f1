#include "policy.hpp"

#include <charconv>
#include <cstdlib>
#include <mutex>
#include <optional>

#include "turboquant_ggml.h"

namespace turboquant::ggml {
namespace {

std::mutex mutex;
std::optional<std::string> preset_set, layers_set;  // by tq_ggml_set_policy

Status bad_layers(std::string_view entry, const std::string& why) {
    return invalid_argument("TQ_LAYERS entry '" + std::string(entry) + "' " + why + "; write LAYER=PRESET or FIRST-LAST=PRESET, separated by commas, with f16 for no compression (such as 0=k8v4,5-7=f16)");
}

bool parse_number(std::string_view text, int& number) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc() && end == text.data() + text.size() && number >= 0;
}

Result<Policy> make_policy(const std::string& preset, const std::string& layers) {
    auto found = find_preset(preset);
    if (!found.ok()) return found.status();
    auto choices = parse_layers(layers);
    if (!choices.ok()) return choices.status();
    return Policy{found.value(), choices.value()};
}

std::string environment(const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return value && *value ? value : otherwise;
}

}  // namespace

const Spec* Policy::spec_for(int layer) const {
    const Spec* spec = &preset.spec;
    for (const LayerChoice& choice : layers) {
        if (layer >= choice.first && layer <= choice.last) spec = choice.plain ? nullptr : &choice.preset.spec;
    }
    return spec;
}

Result<std::vector<LayerChoice>> parse_layers(std::string_view text) {
    std::vector<LayerChoice> choices;
    while (!text.empty()) {
        const std::string_view entry = text.substr(0, text.find(','));
        text.remove_prefix(std::min(text.size(), entry.size() + 1));
        const std::size_t equals = entry.find('=');
        if (equals == std::string_view::npos) return bad_layers(entry, "has no '='");
        const std::string_view range = entry.substr(0, equals), name = entry.substr(equals + 1);
        const std::size_t dash = range.find('-');
        LayerChoice choice{};
        if (!parse_number(range.substr(0, dash), choice.first)) return bad_layers(entry, "does not begin with a layer number");
        choice.last = choice.first;
        if (dash != std::string_view::npos && (!parse_number(range.substr(dash + 1), choice.last) || choice.last < choice.first)) {
            return bad_layers(entry, "has no valid last layer");
        }
        if (name == "f16") {
            choice.plain = true;
        } else {
            auto preset = find_preset(name);
            if (!preset.ok()) return bad_layers(entry, "names no preset (" + preset.status().message() + ")");
            choice.preset = preset.value();
        }
        choices.push_back(choice);
    }
    return choices;
}

Result<Policy> current_policy() {
    const std::lock_guard lock(mutex);
    return make_policy(preset_set ? *preset_set : environment("TQ_PRESET", std::string(presets()[0].name).c_str()),
                       layers_set ? *layers_set : environment("TQ_LAYERS", ""));
}

bool verbose() { return environment("TQ_VERBOSE", "0") != "0"; }

}  // namespace turboquant::ggml

extern "C" int tq_ggml_set_policy(const char* preset, const char* layers, const char** message) {
    using namespace turboquant::ggml;
    static thread_local std::string reason;
    const auto checked = make_policy(preset ? preset : environment("TQ_PRESET", std::string(turboquant::presets()[0].name).c_str()),
                                     layers ? layers : environment("TQ_LAYERS", ""));
    if (!checked.ok()) {
        reason = checked.status().message();
        if (message) *message = reason.c_str();
        return -1;
    }
    const std::lock_guard lock(mutex);
    preset_set = preset ? std::optional<std::string>(preset) : std::nullopt;
    layers_set = layers ? std::optional<std::string>(layers) : std::nullopt;
    return 0;
}

// What the user wants stored: a preset, and exceptions by layer. From TQ_PRESET and TQ_LAYERS, or set by the program.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "turboquant/spec.hpp"

namespace turboquant::ggml {

struct LayerChoice {
    int first, last;     // layers, both included
    bool plain;          // keep in f16
    Preset preset;       // otherwise
};

struct Policy {
    Preset preset;
    std::vector<LayerChoice> layers;  // later entries win

    // The Spec of a layer (its head_dim is not set), or null for plain f16.
    const Spec* spec_for(int layer) const;
};

// "0=k8v4,5-7=f16" -> choices.
Result<std::vector<LayerChoice>> parse_layers(std::string_view text);

// The policy for caches created from now on. A text in the environment that cannot be used is an error that says so.
Result<Policy> current_policy();

bool verbose();  // TQ_VERBOSE=1

}  // namespace turboquant::ggml

// The preset auto@BITS: the model's own first tiles say where bits matter, turboquant/bit_plan.hpp spends them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine.hpp"
#include "turboquant/bit_plan.hpp"

namespace turboquant::tool {

// What a model's layers need, seen on its first tiles.
struct LayerProbe {
    std::vector<LayerDemand> demands;  // at the default preset's key bits
    std::size_t tokens = 0;            // that the model read
    std::uint32_t context = 0;         // in tokens, that the cells are counted for
};

// Runs the model over a few hundred tokens of the text (empty: plain sentences that the tool makes) on the default preset, in a context
// of `context` cells (0: as many as the model was trained for). Errors: the engine's, a model whose cache is not kept in codes, a text too short to fill a tile beyond the tail.
Result<LayerProbe> probe_layers(Engine& engine, std::uint32_t context, const std::string& text = "");

// A plan for these layers: at most so many bits per value with a full context, everything in memory counted. Errors: plan_bits()'s.
Result<BitPlan> plan_for(const LayerProbe& probe, double bits_per_value);

// Both, as what the plug-in is told. The user's exceptions by layer come last, and win.
Result<PlanNames> auto_policy(Engine& engine, double bits_per_value, std::uint32_t context, const std::string& exceptions);

}  // namespace turboquant::tool

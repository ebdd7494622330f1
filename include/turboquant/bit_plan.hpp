// Which layers get how many bits, under a budget of bytes: precision goes where it does most for the output.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "turboquant/spec.hpp"
#include "turboquant/status.hpp"

namespace turboquant {

// What has to be known of a layer. The noise comes from the model's own first tiles (TileStore::logit_noise).
struct LayerDemand {
    int layer = 0;
    int num_kv_heads = 1;
    int head_dim = 128;        // of keys and values
    std::int64_t cells = 0;    // in use when the context is full; a layer with fewer than others has a sliding window
    double key_noise = 0;      // standard deviation of a logit's error when keys have Spec::key_bits of the planned Spec
    double numbers() const { return 2.0 * static_cast<double>(cells) * head_dim * num_kv_heads; }  // of keys and values
};

struct LayerBits {
    int layer = 0;
    int key_bits = 0, value_bits = 0;
    double harm = 0;           // predicted part in the divergence of the output (docs/decisions/0012-bits-by-layer.md)
};

struct BitPlan {
    std::vector<LayerBits> layers;  // in the order of the demands
    double bytes = 0;               // of all layers with a full context, at most: the exact tail and kept keys counted at their largest
    double numbers = 0;             // K and V numbers that they stand for
    double bits_per_value() const { return numbers > 0 ? 8 * bytes / numbers : 0; }
};

// The widths (of supported_bits(), 2 to 8, keys and values of each layer apart) with the least predicted harm that take no more
// than bits_per_value on average. `planned` gives everything else; its key_bits are those that key_noise was measured at. Keys never
// get so few bits that their noise would make them wide by themselves. Errors: no layers, a layer without cells or with a
// head_dim that is not supported, a negative or infinite noise; a budget below the smallest plan (the message names that one).
Result<BitPlan> plan_bits(std::span<const LayerDemand> demands, const Spec& planned, double bits_per_value);

// The same as texts for TQ_PRESET and TQ_LAYERS: the most frequent pair of widths, and the layers that differ from it.
struct PlanNames {
    std::string preset, layers;
};
PlanNames name_plan(const BitPlan& plan);

}  // namespace turboquant

#include "turboquant/bit_plan.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <utility>

#include "core/noise.hpp"
#include "core/scheme.hpp"

namespace turboquant {
namespace {

// Parts of the harm, fitted to the divergence that presets measured on three models (docs/decisions/0012-bits-by-layer.md): of keys
// per squared logit noise, of values per relative squared error. Only their ratio decides anything.
constexpr double kKeyHarm = 0.05;
constexpr double kValueHarm = 0.055;

// What a layer with a sliding window adds, beside one as noisy that attends to everything. Measured on Gemma 3, where the fifteen
// windows of 512 tokens together do as much harm as the three others: much of what such a layer looks at is still exact.
constexpr double kWindowHarm = 1.0 / 6;

// Keys whose noise comes near the limit for wide keys would be widened on another text, and break the budget.
constexpr double kNoiseMargin = 0.8;

struct Step {
    int bits;
    double bytes, harm;
};

// One side of one layer: what each width costs, ascending in bytes, and which one is taken.
struct Choice {
    std::vector<Step> steps;
    std::size_t taken = 0;
    const Step& now() const { return steps[taken]; }
};

// What a store holds beside rows and codes: bookkeeping per tile and per kept key, and per store its tables and two pages that are
// half full on average. (What TileStore::usage counts; the budget is for that.)
constexpr double kTileOverhead = 24, kKeptOverhead = 32, kStoreOverhead = 6144;

// With the tail full, and as many keys kept as a store allows (one per tile and KV head).
double side_bytes(const LayerDemand& demand, const Spec& spec, Side side) {
    const double row = 2.0 * demand.head_dim * demand.num_kv_heads;
    const std::int64_t tiles = (demand.cells + kTileTokens - 1) / kTileTokens, open = std::min<std::int64_t>(tiles, spec.tail_tiles);
    double sealed = static_cast<double>(sealed_tile_bytes(spec, side)) * demand.num_kv_heads;
    if (side == Side::key && spec.kept_keys > 0) sealed += row + kKeptOverhead * demand.num_kv_heads;
    return static_cast<double>(open * kTileTokens + spec.sink_tokens) * row + static_cast<double>(tiles - open) * sealed +
           static_cast<double>(tiles) * kTileOverhead + kStoreOverhead;
}

Choice side_of(const LayerDemand& demand, const Spec& planned, Side side, double weight) {
    Choice out;
    for (const int bits : supported_bits()) {
        Spec spec = planned;
        spec.head_dim = demand.head_dim;
        (side == Side::key ? spec.key_bits : spec.value_bits) = bits;
        const double distortion = shipped_distortion(bits, spec.trellis_codes);
        double harm = kValueHarm * distortion;
        if (side == Side::key) {
            const double noise2 = demand.key_noise * demand.key_noise / relative_distortion(planned.key_bits);
            if (bits < 8 && spec.wide_keys && std::sqrt(noise2 * relative_distortion(bits)) > kNoiseMargin * kWideKeyNoise) continue;
            harm = kKeyHarm * noise2 * distortion;
        }
        out.steps.push_back({bits, side_bytes(demand, spec, side), weight * harm});
    }
    return out;
}

Status check(std::span<const LayerDemand> demands, double bits_per_value) {
    if (demands.empty()) return invalid_argument("there are no layers to plan for");
    if (!(bits_per_value > 0) || bits_per_value > 16) return invalid_argument("bits_per_value is " + std::to_string(bits_per_value) + "; supported: above 0, to 16");
    for (const LayerDemand& demand : demands) {
        const std::string layer = "layer " + std::to_string(demand.layer);
        const auto dims = supported_head_dims();
        if (std::find(dims.begin(), dims.end(), demand.head_dim) == dims.end()) return invalid_argument(layer + " has a head_dim of " + std::to_string(demand.head_dim) + ", which is not supported");
        if (demand.cells <= 0 || demand.num_kv_heads <= 0) return invalid_argument(layer + " has no cells or no KV heads");
        if (!(demand.key_noise >= 0) || std::isinf(demand.key_noise)) return invalid_argument(layer + " has a key_noise of " + std::to_string(demand.key_noise) + "; it must be finite and not negative");
    }
    return {};
}

}  // namespace

// Widths are raised one after another, each time the one that takes away most harm per byte; a step that does not fit is passed
// over, for a smaller one may. The curves are convex but for the last steps of keys, so that this is optimal up to one step.
Result<BitPlan> plan_bits(std::span<const LayerDemand> demands, const Spec& planned, double bits_per_value) {
    if (Status status = check(demands, bits_per_value); !status.ok()) return status;
    if (uses_records(planned, Side::key) || uses_records(planned, Side::value)) return invalid_argument("plans are made for codes in tiles, not for the paper's schemes");
    BitPlan plan;
    std::vector<Choice> sides;
    std::int64_t most_cells = 0;
    for (const LayerDemand& demand : demands) most_cells = std::max(most_cells, demand.cells);
    for (const LayerDemand& demand : demands) {
        const double weight = demand.cells < most_cells ? kWindowHarm : 1;
        sides.push_back(side_of(demand, planned, Side::key, weight));
        sides.push_back(side_of(demand, planned, Side::value, weight));
        plan.numbers += demand.numbers();
    }
    for (const Choice& side : sides) plan.bytes += side.now().bytes;
    const double budget = bits_per_value * plan.numbers / 8;
    if (plan.bytes > budget) {
        char text[160];
        std::snprintf(text, sizeof text, "%.2f bits per value are too few at this context: the smallest plan takes %.2f, the exact newest tokens counted", bits_per_value,
                      plan.bits_per_value());
        return invalid_argument(text);
    }
    for (;;) {
        Choice* best = nullptr;
        double most = 0;
        for (Choice& side : sides) {
            if (side.taken + 1 >= side.steps.size()) continue;
            const Step &now = side.now(), &next = side.steps[side.taken + 1];
            const double gain = (now.harm - next.harm) / std::max(next.bytes - now.bytes, 1e-9);
            if (plan.bytes + next.bytes - now.bytes > budget || gain <= most) continue;
            most = gain;
            best = &side;
        }
        if (!best) break;
        plan.bytes += best->steps[best->taken + 1].bytes - best->now().bytes;
        ++best->taken;
    }
    for (std::size_t i = 0; i < demands.size(); ++i) {
        const Step &key = sides[2 * i].now(), &value = sides[2 * i + 1].now();
        plan.layers.push_back({demands[i].layer, key.bits, value.bits, key.harm + value.harm});
    }
    return plan;
}

PlanNames name_plan(const BitPlan& plan) {
    const auto name = [](const LayerBits& bits) { return "k" + std::to_string(bits.key_bits) + "v" + std::to_string(bits.value_bits); };
    std::map<std::string, int> count;
    for (const LayerBits& bits : plan.layers) ++count[name(bits)];
    PlanNames out;
    int most = 0;
    for (const auto& [text, times] : count) {
        if (times > most) out.preset = text;
        most = std::max(most, times);
    }
    for (std::size_t i = 0; i < plan.layers.size();) {
        std::size_t end = i + 1;
        const std::string here = name(plan.layers[i]);
        while (end < plan.layers.size() && name(plan.layers[end]) == here && plan.layers[end].layer == plan.layers[end - 1].layer + 1) ++end;
        if (here != out.preset) {
            out.layers += (out.layers.empty() ? "" : ",") + std::to_string(plan.layers[i].layer);
            if (end - i > 1) out.layers += "-" + std::to_string(plan.layers[end - 1].layer);
            out.layers += "=" + here;
        }
        i = end;
    }
    return out;
}

}  // namespace turboquant

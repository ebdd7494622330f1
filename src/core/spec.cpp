#include "turboquant/spec.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "core/scheme.hpp"

namespace turboquant {
namespace {

constexpr std::array kHeadDims = {64, 80, 96, 112, 128, 192, 256, 576};
constexpr std::array kBits = {2, 3, 4, 5, 6, 8};

constexpr Spec preset_spec(int key_bits, int value_bits, bool plain = false) {
    Spec spec;
    spec.key_bits = key_bits;
    spec.value_bits = value_bits;
    if (plain) {
        spec.trellis_codes = false;
        spec.centred_keys = false;
        spec.balanced_keys = false;
        spec.sink_tokens = 0;
        spec.kept_keys = 0;
        spec.tail_tiles = 0;
        spec.wide_keys = false;
    }
    return spec;
}

// The original project's: 2-bit codes and a sign of a sketch for keys, 2-bit groups for values, the newest tokens exact.
constexpr Spec original_spec() {
    Spec spec = preset_spec(3, 2, true);
    spec.key_estimator = Estimator::prod;
    spec.value_scheme = ValueScheme::group;
    spec.tail_tiles = 2;
    return spec;
}

// The paper's: outlier channels apart, codes with the paper's scale.
constexpr Spec paper_spec(int bits) {
    Spec spec = preset_spec(bits, bits, true);
    spec.outlier_split = true;
    spec.gain_search = false;
    spec.tail_tiles = 2;
    return spec;
}

constexpr Preset kPresets[] = {
    {"k4v4", "the default: close to an 8-bit cache at half its bytes", preset_spec(4, 4)},
    {"k4v3", "a little smaller", preset_spec(4, 3)},
    {"k3v3", "between q5_0 and q4_0 in quality, smaller than both", preset_spec(3, 3)},
    {"k4v2", "4-bit keys where values matter little", preset_spec(4, 2)},
    {"k3v2", "the smallest that holds up on every model we tried", preset_spec(3, 2)},
    {"k2v2", "the smallest; check the quality on your model first", preset_spec(2, 2)},
    {"k5v4", "more precise keys", preset_spec(5, 4)},
    {"k6v4", "more precise keys still", preset_spec(6, 4)},
    {"k8v4", "8-bit keys, for models with very large keys", preset_spec(8, 4)},
    {"k8v8", "nearly exact; for finding out whether the cache is to blame", preset_spec(8, 8)},
    {"k4v4-plain", "k4v4 without reference, balance, sinks and tail, for comparison", preset_spec(4, 4, true)},
    {"k3v2-plain", "k3v2 without reference, balance, sinks and tail", preset_spec(3, 2, true)},
    {"paper-k3v2", "the original's: 2 bits and a sketch's sign, 2-bit groups; to compare", original_spec()},
    {"paper-2.5", "the paper's 2.5 bits: outlier channels apart, 3 and 2 bits", paper_spec(2)},
    {"paper-3.5", "the paper's 3.5 bits: outlier channels apart, 4 and 3 bits", paper_spec(3)},
};

template <class Range>
std::string join(const Range& range, const char* separator = ", ") {
    std::string text;
    for (const auto& item : range) {
        if (!text.empty()) text += separator;
        if constexpr (std::is_arithmetic_v<std::decay_t<decltype(item)>>) {
            text += std::to_string(item);
        } else {
            text += item;
        }
    }
    return text;
}

template <class Range>
bool contains(const Range& range, int value) {
    return std::find(range.begin(), range.end(), value) != range.end();
}

Status not_in(const char* field, int given, const std::string& choices) {
    return invalid_argument(std::string(field) + " is " + std::to_string(given) + "; supported: " + choices);
}

// Levenshtein distance, for "did you mean".
std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t up = row[j];
            row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
            diagonal = up;
        }
    }
    return row[b.size()];
}

// What the paper and the original project do otherwise, and what of ours it excludes.
Status validate_schemes(const Spec& spec) {
    const auto bits_for = [](const char* field, int given, const char* scheme, const char* choices) {
        return invalid_argument(std::string(field) + " is " + std::to_string(given) + "; with " + scheme + " it can be " + choices);
    };
    const bool prod = spec.key_estimator == Estimator::prod;
    if (prod && (spec.key_bits < 2 || spec.key_bits > 4)) return bits_for("key_bits", spec.key_bits, "key_estimator prod", "2, 3 or 4, the sign counted");
    if (spec.value_scheme == ValueScheme::group && spec.value_bits != 2 && spec.value_bits != 4) {
        return bits_for("value_bits", spec.value_bits, "value_scheme group", "2 or 4");
    }
    if (spec.outlier_split) {
        if (prod) return invalid_argument("outlier_split and key_estimator prod exclude each other: the split is one of mse codes");
        if (spec.value_scheme == ValueScheme::group) {
            return invalid_argument("outlier_split and value_scheme group exclude each other: groups have no channels to code apart");
        }
        if (spec.key_bits > 5) return bits_for("key_bits", spec.key_bits, "outlier_split", "2 to 5: outliers have one bit more");
        if (spec.value_bits > 5) return bits_for("value_bits", spec.value_bits, "outlier_split", "2 to 5: outliers have one bit more");
        if (spec.gain_search) return invalid_argument("outlier_split needs gain_search off: its codes have the paper's scale");
        if (spec.tail_tiles == 0) {
            return invalid_argument("outlier_split needs tail_tiles of at least 1: which channels are the outliers is known only when there are rows to look at");
        }
    }
    if (!prod && !spec.outlier_split) return {};
    const char* scheme = prod ? "key_estimator prod" : "outlier_split";
    const auto needs_off = [&](const char* field, const char* why) { return invalid_argument(std::string(scheme) + " needs " + field + ": " + why); };
    if (spec.centred_keys) return needs_off("centred_keys off", "its keys are coded one by one, without a reference");
    if (spec.balanced_keys) return needs_off("balanced_keys off", "its keys are coded as they are");
    if (spec.kept_keys > 0) return needs_off("kept_keys of 0", "which keys are worth keeping is judged by their distance from a reference");
    if (spec.wide_keys) return needs_off("wide_keys off", "it has no 8-bit codes to fall back to");
    return {};
}

}  // namespace

std::span<const int> supported_head_dims() { return kHeadDims; }
std::span<const int> supported_bits() { return kBits; }
std::span<const Preset> presets() { return kPresets; }

Status validate(const Spec& spec) {
    if (!contains(kHeadDims, spec.head_dim)) return not_in("head_dim", spec.head_dim, join(kHeadDims));
    if (!contains(kBits, spec.key_bits)) return not_in("key_bits", spec.key_bits, join(kBits));
    if (!contains(kBits, spec.value_bits)) return not_in("value_bits", spec.value_bits, join(kBits));
    if (spec.sink_tokens < 0 || spec.sink_tokens > 16) return not_in("sink_tokens", spec.sink_tokens, "0 to 16");
    if (spec.tail_tiles < 0 || spec.tail_tiles > 64) return not_in("tail_tiles", spec.tail_tiles, "0 to 64");
    if (spec.kept_keys < 0 || spec.kept_keys > 16) return not_in("kept_keys", spec.kept_keys, "0 to 16");
    if (spec.centred_keys && spec.tail_tiles == 0) {
        return invalid_argument("centred_keys needs tail_tiles of at least 1: a tile's mean is known only when the tile is full");
    }
    if (spec.balanced_keys && spec.tail_tiles == 0) {
        return invalid_argument("balanced_keys needs tail_tiles of at least 1: the balance is known only when there are queries to compare with");
    }
    if (spec.sink_tokens > 0 && spec.tail_tiles == 0) {
        return invalid_argument("sink_tokens needs tail_tiles of at least 1: without a tail every row is coded as it is written");
    }
    if (spec.kept_keys > 0 && spec.tail_tiles == 0) {
        return invalid_argument("kept_keys needs tail_tiles of at least 1: which keys matter is known only when there are queries that look at them");
    }
    return validate_schemes(spec);
}

Result<Preset> find_preset(std::string_view name) {
    std::vector<std::string> names;
    std::string_view nearest;
    std::size_t nearest_distance = 4;
    for (const Preset& preset : kPresets) {
        if (preset.name == name) return preset;
        names.emplace_back(preset.name);
        if (const std::size_t distance = edit_distance(name, preset.name); distance < nearest_distance) {
            nearest_distance = distance;
            nearest = preset.name;
        }
    }
    std::string message = "no preset is called '" + std::string(name) + "'";
    message += nearest.empty() ? "." : "; did you mean '" + std::string(nearest) + "'?";
    return invalid_argument(message + " There are: " + join(names));
}

CodeBits code_bits(const Spec& spec) {
    const auto bits = [&](Side side) { return 8.0 * static_cast<double>(sealed_tile_bytes(spec, side)) / (kTileTokens * spec.head_dim); };
    const double keys = bits(Side::key), values = bits(Side::value);
    return {keys, values, (keys + values) / 2};
}

}  // namespace turboquant

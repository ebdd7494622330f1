#include "turboquant/spec.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "core/scheme.hpp"

namespace turboquant {
namespace {

constexpr std::array kHeadDims = {64, 80, 96, 112, 128, 192, 256, 576};
constexpr std::array kBits = {2, 3, 4, 5, 6, 8};

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

CodeBits code_bits(const Spec& spec) {
    const auto bits = [&](Side side) { return 8.0 * static_cast<double>(sealed_tile_bytes(spec, side)) / (kTileTokens * spec.head_dim); };
    const double keys = bits(Side::key), values = bits(Side::value);
    return {keys, values, (keys + values) / 2};
}

}  // namespace turboquant

// Presets and how their names are read.
#include <algorithm>
#include <charconv>
#include <string>
#include <vector>

#include "turboquant/spec.hpp"

namespace turboquant {
namespace {

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

// "0", "1", "-7": all of text.
template <class Number>
bool read_number(std::string_view text, Number& number) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

// One field of Spec that a name can set. set() says whether it understood the value.
struct Field {
    std::string_view name, values;
    bool (*set)(Spec&, std::string_view);
};

template <int Spec::*kMember>
bool set_number(Spec& spec, std::string_view text) {
    return read_number(text, spec.*kMember);
}
template <bool Spec::*kMember>
bool set_switch(Spec& spec, std::string_view text) {
    spec.*kMember = text == "1";
    return text == "0" || text == "1";
}
template <auto kMember, auto kFirst, auto kSecond>
bool set_choice(Spec& spec, std::string_view text, std::string_view first, std::string_view second) {
    spec.*kMember = text == first ? kFirst : kSecond;
    return text == first || text == second;
}

constexpr std::string_view kWhole = "a whole number", kSwitch = "0 or 1";
constexpr Field kFields[] = {
    {"key_bits", kWhole, set_number<&Spec::key_bits>},
    {"value_bits", kWhole, set_number<&Spec::value_bits>},
    {"sink_tokens", kWhole, set_number<&Spec::sink_tokens>},
    {"kept_keys", kWhole, set_number<&Spec::kept_keys>},
    {"tail_tiles", kWhole, set_number<&Spec::tail_tiles>},
    {"seed", kWhole, [](Spec& spec, std::string_view text) { return read_number(text, spec.seed); }},
    {"centred_keys", kSwitch, set_switch<&Spec::centred_keys>},
    {"balanced_keys", kSwitch, set_switch<&Spec::balanced_keys>},
    {"trellis_codes", kSwitch, set_switch<&Spec::trellis_codes>},
    {"gain_search", kSwitch, set_switch<&Spec::gain_search>},
    {"wide_keys", kSwitch, set_switch<&Spec::wide_keys>},
    {"outlier_split", kSwitch, set_switch<&Spec::outlier_split>},
    {"rotation", "hadamard or haar",
     [](Spec& spec, std::string_view text) { return set_choice<&Spec::rotation, Rotation::hadamard, Rotation::haar>(spec, text, "hadamard", "haar"); }},
    {"key_estimator", "mse or prod",
     [](Spec& spec, std::string_view text) { return set_choice<&Spec::key_estimator, Estimator::mse, Estimator::prod>(spec, text, "mse", "prod"); }},
    {"sketch", "gaussian or orthogonal",
     [](Spec& spec, std::string_view text) { return set_choice<&Spec::sketch, Sketch::gaussian, Sketch::orthogonal>(spec, text, "gaussian", "orthogonal"); }},
    {"value_scheme", "rotated or group",
     [](Spec& spec, std::string_view text) { return set_choice<&Spec::value_scheme, ValueScheme::rotated, ValueScheme::group>(spec, text, "rotated", "group"); }},
};

Status change(Spec& spec, std::string_view setting) {
    const auto refused = [&](const std::string& why) { return invalid_argument("the setting '" + std::string(setting) + "' " + why); };
    const std::size_t equals = setting.find('=');
    const std::string_view name = setting.substr(0, equals);
    for (const Field& field : kFields) {
        if (field.name != name) continue;
        if (equals == std::string_view::npos) return refused("has no value; write " + std::string(name) + "=" + " and " + std::string(field.values));
        if (!field.set(spec, setting.substr(equals + 1))) return refused("is not " + std::string(field.values));
        return {};
    }
    std::string names;
    for (const Field& field : kFields) names += (names.empty() ? "" : ", ") + std::string(field.name);
    return refused("names no field; there are: " + names);
}

// "k5v3": any two widths, whether or not they have a line in presets().
bool read_widths(std::string_view name, Spec& spec) {
    if (name.size() != 4 || name[0] != 'k' || name[2] != 'v') return false;
    spec = preset_spec(name[1] - '0', name[3] - '0');
    return validate(spec).ok();
}

Result<Preset> find_base(std::string_view name) {
    if (name.substr(0, 4) == "auto") {
        return invalid_argument("'" + std::string(name) + "' is chosen by the tool, which looks at the model first: turboquant exec --preset auto@4.25 -- PROGRAM, or turboquant auto for what to set");
    }
    Spec spec;
    std::string names;
    std::string_view nearest;
    std::size_t nearest_distance = 4;
    for (const Preset& preset : presets()) {
        if (preset.name == name) return preset;
        names += (names.empty() ? "" : ", ") + preset.name;
        if (const std::size_t distance = edit_distance(name, preset.name); distance < nearest_distance) {
            nearest_distance = distance;
            nearest = preset.name;
        }
    }
    if (read_widths(name, spec)) return Preset{std::string(name), "any two widths", spec};
    std::string message = "no preset is called '" + std::string(name) + "'";
    message += nearest.empty() ? "." : "; did you mean '" + std::string(nearest) + "'?";
    return invalid_argument(message + " There are: " + names);
}

}  // namespace

std::span<const Preset> presets() {
    static const Preset kPresets[] = {
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
    return kPresets;
}

Result<Preset> find_preset(std::string_view name) {
    const std::size_t colon = name.find(':');
    Result<Preset> found = find_base(name.substr(0, colon));
    if (!found.ok() || colon == std::string_view::npos) return found;
    Preset preset = found.value();
    preset.name = name;
    for (std::string_view rest = name.substr(colon); !rest.empty();) {
        rest.remove_prefix(1);
        const std::string_view setting = rest.substr(0, rest.find(':'));
        if (Status status = change(preset.spec, setting); !status.ok()) return status;
        rest.remove_prefix(setting.size());
    }
    // Head sizes are the model's affair; everything else can be judged now.
    if (Status status = validate(preset.spec); !status.ok()) return status;
    return preset;
}

}  // namespace turboquant

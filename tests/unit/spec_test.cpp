// Which specs are valid, what the messages say, and what presets cost.
#include "turboquant/spec.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace turboquant {
namespace {

std::string message_of(const Spec& spec) {
    const Status status = validate(spec);
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    return status.message();
}

TEST(Spec, TheDefaultIsValidAndIsTheFirstPreset) {
    EXPECT_TRUE(validate(Spec{}).ok());
    EXPECT_EQ(presets()[0].name, "k4v4");
    EXPECT_EQ(presets()[0].spec, Spec{});
}

TEST(Spec, MessagesNameTheFieldTheValueAndTheChoices) {
    EXPECT_EQ(message_of({.head_dim = 72}), "head_dim is 72; supported: 64, 80, 96, 112, 128, 192, 256, 576");
    EXPECT_EQ(message_of({.key_bits = 7}), "key_bits is 7; supported: 2, 3, 4, 5, 6, 8");
    EXPECT_EQ(message_of({.value_bits = -1}), "value_bits is -1; supported: 2, 3, 4, 5, 6, 8");
    EXPECT_EQ(message_of({.sink_tokens = 17}), "sink_tokens is 17; supported: 0 to 16");
    EXPECT_EQ(message_of({.kept_keys = 17}), "kept_keys is 17; supported: 0 to 16");
    EXPECT_EQ(message_of({.tail_tiles = -1}), "tail_tiles is -1; supported: 0 to 64");
    for (const Spec& spec : {Spec{.centred_keys = true, .balanced_keys = false, .sink_tokens = 0, .kept_keys = 0, .tail_tiles = 0},
                             Spec{.centred_keys = false, .balanced_keys = true, .sink_tokens = 0, .kept_keys = 0, .tail_tiles = 0},
                             Spec{.centred_keys = false, .balanced_keys = false, .sink_tokens = 4, .kept_keys = 0, .tail_tiles = 0},
                             Spec{.centred_keys = false, .balanced_keys = false, .sink_tokens = 0, .kept_keys = 1, .tail_tiles = 0}}) {
        EXPECT_NE(message_of(spec).find("needs tail_tiles of at least 1"), std::string::npos);
    }
}

TEST(Spec, EveryPresetIsValidForEveryHeadDim) {
    for (const Preset& preset : presets()) {
        for (int head_dim : supported_head_dims()) {
            Spec spec = preset.spec;
            spec.head_dim = head_dim;
            EXPECT_TRUE(validate(spec).ok()) << preset.name << " " << validate(spec).message();
        }
    }
}

TEST(Spec, PresetNamesAreUniqueAndSayTheirBits) {
    std::set<std::string_view> names;
    for (const Preset& preset : presets()) {
        EXPECT_TRUE(names.insert(preset.name).second) << preset.name;
        EXPECT_FALSE(preset.summary.empty());
        const std::string expected = "k" + std::to_string(preset.spec.key_bits) + "v" + std::to_string(preset.spec.value_bits);
        EXPECT_EQ(preset.name.substr(0, 4), expected);
    }
}

TEST(Spec, PlainPresetsAreThePublishedMethod) {
    const Result<Preset> plain = find_preset("k4v4-plain");
    ASSERT_TRUE(plain.ok());
    EXPECT_FALSE(plain.value().spec.centred_keys);
    EXPECT_FALSE(plain.value().spec.balanced_keys);
    EXPECT_EQ(plain.value().spec.sink_tokens, 0);
    EXPECT_EQ(plain.value().spec.kept_keys, 0);
    EXPECT_EQ(plain.value().spec.tail_tiles, 0);
}

TEST(Spec, EveryPresetIsFoundByItsName) {
    for (const Preset& preset : presets()) {
        const Result<Preset> found = find_preset(preset.name);
        ASSERT_TRUE(found.ok());
        EXPECT_EQ(found.value().spec, preset.spec);
    }
}

TEST(Spec, AMisspelledPresetIsSuggested) {
    const auto message = [](std::string_view name) {
        const Result<Preset> found = find_preset(name);
        EXPECT_FALSE(found.ok());
        return found.status().message();
    };
    EXPECT_EQ(message("k4v44").rfind("no preset is called 'k4v44'; did you mean 'k4v4'? There are: k4v4, k4v3", 0), 0u);
    EXPECT_NE(message("K4V4").find("did you mean"), std::string::npos);
    EXPECT_NE(message("k3v2_plain").find("did you mean 'k3v2-plain'?"), std::string::npos);
    EXPECT_EQ(message("turboquant").rfind("no preset is called 'turboquant'. There are: k4v4, ", 0), 0u);
    EXPECT_EQ(message("").find("did you mean ''"), std::string::npos);
}

TEST(Spec, CodeBitsCountScalesAndReferences) {
    const auto bits = [](int head_dim, int key_bits, int value_bits) {
        return code_bits({.head_dim = head_dim, .key_bits = key_bits, .value_bits = value_bits});
    };
    // Keys: bits + 16 / head_dim for the scale + 16 / 64 for the reference; values: without the reference.
    EXPECT_DOUBLE_EQ(bits(128, 4, 4).keys, 4 + 0.125 + 0.25);
    EXPECT_DOUBLE_EQ(bits(128, 4, 4).values, 4 + 0.125);
    EXPECT_DOUBLE_EQ(bits(128, 4, 4).mean, 4.25);
    EXPECT_DOUBLE_EQ(bits(64, 4, 4).mean, 4.375);
    EXPECT_DOUBLE_EQ(bits(128, 3, 2).mean, 2.75);
    EXPECT_DOUBLE_EQ(bits(64, 3, 2).mean, 2.875);
    EXPECT_DOUBLE_EQ(bits(80, 8, 4).keys, 8 + 16.0 / 80 + 0.25);
}

}  // namespace
}  // namespace turboquant

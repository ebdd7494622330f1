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
        if (preset.name.rfind("paper-", 0) == 0) continue;
        const std::string expected = "k" + std::to_string(preset.spec.key_bits) + "v" + std::to_string(preset.spec.value_bits);
        EXPECT_EQ(preset.name.substr(0, 4), expected);
    }
}

TEST(Spec, AnyTwoWidthsAreANameAndAutoIsExplained) {
    const Result<Preset> found = find_preset("k5v3:tail_tiles=1");
    ASSERT_TRUE(found.ok()) << found.status().message();
    Spec expected;
    expected.key_bits = 5;
    expected.value_bits = 3;
    expected.tail_tiles = 1;
    EXPECT_EQ(found.value().spec, expected);
    for (const char* name : {"k7v4", "k4v9", "k4v1", "v4k4"}) EXPECT_FALSE(find_preset(name).ok()) << name;
    EXPECT_NE(find_preset("auto@4").status().message().find("turboquant exec --preset auto@4.25"), std::string::npos);
}

TEST(Spec, NamesCanCarrySettings) {
    const Result<Preset> found = find_preset("k4v4:tail_tiles=1:trellis_codes=0:rotation=haar:seed=7:key_bits=5");
    ASSERT_TRUE(found.ok()) << found.status().message();
    Spec expected = find_preset("k4v4").value().spec;
    expected.tail_tiles = 1;
    expected.trellis_codes = false;
    expected.rotation = Rotation::haar;
    expected.seed = 7;
    expected.key_bits = 5;
    EXPECT_EQ(found.value().spec, expected);
    EXPECT_EQ(found.value().name, "k4v4:tail_tiles=1:trellis_codes=0:rotation=haar:seed=7:key_bits=5");

    const auto refused = [](const char* name, const char* words) {
        const Result<Preset> wrong = find_preset(name);
        ASSERT_FALSE(wrong.ok()) << name;
        EXPECT_NE(wrong.status().message().find(words), std::string::npos) << wrong.status().message();
    };
    refused("k4v4:tail=1", "'tail=1' names no field; there are: key_bits, ");
    refused("k4v4:tail_tiles", "'tail_tiles' has no value");
    refused("k4v4:tail_tiles=x", "'tail_tiles=x' is not a whole number");
    refused("k4v4:tail_tiles=", "is not a whole number");
    refused("k4v4:gain_search=yes", "is not 0 or 1");
    refused("k4v4:sketch=big", "is not gaussian or orthogonal");
    refused("k4v4:tail_tiles=0", "centred_keys needs tail_tiles of at least 1");
    refused("k4v4:", "'' names no field");
    refused("k4:tail_tiles=1", "no preset is called 'k4'; did you mean");
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

// Every scheme on its own is fine; what it excludes is said by name.
TEST(Spec, SchemesSayWhatTheyExclude) {
    Spec paper = find_preset("k3v2-plain").value().spec;
    paper.tail_tiles = 2;
    const auto with = [&](auto change) {
        Spec spec = paper;
        change(spec);
        return spec;
    };
    const auto prod = [](Spec& s) { s.key_estimator = Estimator::prod; };
    const auto group = [](Spec& s) { s.value_scheme = ValueScheme::group; };
    const auto split = [](Spec& s) { s.outlier_split = true, s.gain_search = false; };
    for (const Spec& spec : {with(prod), with(group), with(split), with([&](Spec& s) { prod(s), group(s); })}) EXPECT_TRUE(validate(spec).ok());
    EXPECT_TRUE(validate(with([&](Spec& s) { prod(s), group(s), s.tail_tiles = 0; })).ok());
    EXPECT_TRUE(validate(with([&](Spec& s) { group(s), s.centred_keys = s.balanced_keys = true, s.kept_keys = 4; })).ok());

    const auto refused = [&](auto change, const char* words) {
        const std::string message = message_of(with(change));
        EXPECT_NE(message.find(words), std::string::npos) << message;
    };
    refused([&](Spec& s) { prod(s), s.key_bits = 5; }, "key_bits is 5; with key_estimator prod it can be 2, 3 or 4");
    refused([&](Spec& s) { group(s), s.value_bits = 3; }, "value_bits is 3; with value_scheme group it can be 2 or 4");
    refused([&](Spec& s) { split(s), s.key_bits = 6; }, "key_bits is 6; with outlier_split it can be 2 to 5");
    refused([&](Spec& s) { split(s), s.value_bits = 8; }, "value_bits is 8; with outlier_split it can be 2 to 5");
    refused([&](Spec& s) { split(s), prod(s); }, "outlier_split and key_estimator prod exclude each other");
    refused([&](Spec& s) { split(s), group(s); }, "outlier_split and value_scheme group exclude each other");
    refused([&](Spec& s) { split(s), s.gain_search = true; }, "outlier_split needs gain_search off");
    refused([&](Spec& s) { split(s), s.tail_tiles = 0; }, "outlier_split needs tail_tiles of at least 1");
    for (const bool sketch : {true, false}) {
        const auto scheme = [&](Spec& s) { sketch ? prod(s) : split(s); };
        const std::string name = sketch ? "key_estimator prod" : "outlier_split";
        refused([&](Spec& s) { scheme(s), s.centred_keys = true; }, (name + " needs centred_keys off").c_str());
        refused([&](Spec& s) { scheme(s), s.balanced_keys = true; }, (name + " needs balanced_keys off").c_str());
        refused([&](Spec& s) { scheme(s), s.kept_keys = 1; }, (name + " needs kept_keys of 0").c_str());
        refused([&](Spec& s) { scheme(s), s.wide_keys = true; }, (name + " needs wide_keys off").c_str());
    }
}

TEST(Spec, ThePapersPresetsAreWhatItsAuthorsDescribe) {
    const Spec original = find_preset("paper-k3v2").value().spec;
    EXPECT_EQ(original.key_estimator, Estimator::prod);
    EXPECT_EQ(original.sketch, Sketch::gaussian);
    EXPECT_EQ(original.value_scheme, ValueScheme::group);
    EXPECT_EQ(original.tail_tiles, 2);
    EXPECT_EQ(original.sink_tokens, 0);
    EXPECT_DOUBLE_EQ(code_bits(original).keys, 3 + 2 * 16 / 128.0);    // two norms
    EXPECT_DOUBLE_EQ(code_bits(original).values, 2 + 2 * 16 / 32.0);   // scale and zero of each group
    // 32 channels with one bit more and two norms: (32 * 3 + 96 * 2 + 2 * 16) / 128, and one bit more throughout.
    EXPECT_DOUBLE_EQ(code_bits(find_preset("paper-2.5").value().spec).mean, 2.5);
    EXPECT_DOUBLE_EQ(code_bits(find_preset("paper-3.5").value().spec).mean, 3.5);
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

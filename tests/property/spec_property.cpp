// Specs and names from outside: judged, never trusted.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "support/vectors.hpp"

namespace turboquant {
namespace {

RC_GTEST_PROP(Spec, AnyNameIsFoundOrExplained, (const std::string& name)) {
    const Result<Preset> found = find_preset(name);
    if (found.ok()) {
        RC_ASSERT(found.value().name == name);
    } else {
        RC_ASSERT(found.status().message().find("There are: k4v4") != std::string::npos);
    }
}

RC_GTEST_PROP(Spec, OneWrongLetterIsForgiven, ()) {
    const auto index = *rc::gen::inRange<std::size_t>(0, presets().size());
    std::string name(presets()[index].name);
    name[*rc::gen::inRange<std::size_t>(0, name.size())] = '?';
    const Result<Preset> found = find_preset(name);
    RC_ASSERT(!found.ok());
    RC_ASSERT(found.status().message().find("did you mean") != std::string::npos);
}

RC_GTEST_PROP(Spec, WhatValidatesCanBeUsed, ()) {
    Spec spec;
    const auto often = [](std::span<const int> good, int low, int high) {
        const std::vector<int> choices(good.begin(), good.end());
        return *rc::gen::weightedOneOf<int>({{9, rc::gen::elementOf(choices)}, {1, rc::gen::inRange(low, high)}});
    };
    spec.head_dim = often(supported_head_dims(), -8, 600);
    spec.key_bits = often(supported_bits(), -1, 10);
    spec.value_bits = often(supported_bits(), -1, 10);
    spec.sink_tokens = *rc::gen::inRange(-1, 18);
    spec.kept_keys = *rc::gen::inRange(-1, 18);
    spec.tail_tiles = *rc::gen::inRange(-1, 66);
    spec.centred_keys = *rc::gen::arbitrary<bool>();
    spec.balanced_keys = *rc::gen::arbitrary<bool>();
    spec.kept_keys *= *rc::gen::arbitrary<bool>();
    spec.wide_keys = *rc::gen::arbitrary<bool>();
    spec.gain_search = *rc::gen::arbitrary<bool>();
    spec.key_estimator = *rc::gen::element(Estimator::mse, Estimator::prod);
    spec.value_scheme = *rc::gen::element(ValueScheme::rotated, ValueScheme::group);
    spec.outlier_split = *rc::gen::weightedElement<bool>({{2, false}, {1, true}});
    if (const Status status = validate(spec); !status.ok()) {
        RC_ASSERT(!status.message().empty());
        return;
    }
    const CodeBits bits = code_bits(spec);
    // Scales, references and outliers' bits; groups of 32 carry two numbers of 16 bits each, and one of 16 may be left over.
    RC_ASSERT(bits.keys > spec.key_bits && bits.keys < spec.key_bits + 1);
    RC_ASSERT(bits.values > spec.value_bits && bits.values < spec.value_bits + (spec.value_scheme == ValueScheme::group ? 1.5 : 1.0));
    const testing::Encoded e = testing::encode(make_coder(spec, Side::key), testing::gaussian(spec.head_dim, 1).data());
    RC_ASSERT(e.scale > 0 && e.scale < 0x7c00);
}

}  // namespace
}  // namespace turboquant

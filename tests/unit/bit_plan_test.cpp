// Which layers a plan gives how many bits.
#include "turboquant/bit_plan.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "core/scheme.hpp"

namespace turboquant {
namespace {

std::vector<LayerDemand> layers(std::vector<double> noise, std::int64_t cells = 32768) {
    std::vector<LayerDemand> out;
    for (double one : noise) out.push_back({static_cast<int>(out.size()), 2, 64, cells, one});
    return out;
}

// What the plan claims, counted again.
double bytes_of(const std::vector<LayerDemand>& demands, const BitPlan& plan, const Spec& base) {
    double bytes = 0;
    for (std::size_t i = 0; i < demands.size(); ++i) {
        Spec spec = base;
        spec.head_dim = demands[i].head_dim;
        spec.key_bits = plan.layers[i].key_bits;
        spec.value_bits = plan.layers[i].value_bits;
        const double exact = 4 + 128, row = 2.0 * demands[i].head_dim, tiles = static_cast<double>(demands[i].cells) / 64 - 2;
        bytes += demands[i].num_kv_heads * (2 * exact * row + tiles * (static_cast<double>(sealed_tile_bytes(spec, Side::key) + sealed_tile_bytes(spec, Side::value)) + row + 32));
        bytes += 2 * (24 * (tiles + 2) + 6144);
    }
    return bytes;
}

TEST(BitPlan, KeepsTheBudgetAndUsesIt) {
    const auto demands = layers({0.2, 0.1, 0.4, 0.2, 0.15});
    for (double budget : {3.2, 3.6, 4.0, 4.5, 5.1, 6.0, 8.5}) {
        const auto plan = plan_bits(demands, Spec{}, budget);
        ASSERT_TRUE(plan.ok()) << plan.status().message();
        EXPECT_NEAR(plan.value().bytes, bytes_of(demands, plan.value(), Spec{}), 1) << budget;
        EXPECT_LE(plan.value().bits_per_value(), budget);
        EXPECT_GT(plan.value().bits_per_value(), budget - 0.25) << budget;  // a step of one side of one of five layers is .1, of two .2
    }
}

TEST(BitPlan, NoisyKeysAndShortWindowsGetMore) {
    auto demands = layers({0.2, 0.6, 0.2, 0.2});
    demands[3].cells = 512;
    const auto plan = plan_bits(demands, Spec{}, 4.5);
    ASSERT_TRUE(plan.ok());
    const auto& bits = plan.value().layers;
    EXPECT_GT(bits[1].key_bits, bits[0].key_bits);
    EXPECT_EQ(bits[0].key_bits, bits[2].key_bits);
    EXPECT_GE(bits[3].key_bits, bits[0].key_bits + 1);
    EXPECT_GE(bits[3].value_bits, bits[0].value_bits + 1);
}

// Half the bytes, a sixth of the harm: the bits go to the layers that attend to everything.
TEST(BitPlan, WideWindowsGetLess) {
    auto demands = layers({0.2, 0.2, 0.2, 0.2});
    demands[1].cells = demands[3].cells = 16384;
    const auto plan = plan_bits(demands, Spec{}, 3.5);
    ASSERT_TRUE(plan.ok());
    const auto& bits = plan.value().layers;
    EXPECT_LT(bits[1].key_bits + bits[1].value_bits, bits[0].key_bits + bits[0].value_bits);
    EXPECT_LT(bits[3].key_bits + bits[3].value_bits, bits[2].key_bits + bits[2].value_bits);
}

TEST(BitPlan, MoreBudgetNeverDoesMoreHarm) {
    const auto demands = layers({0.3, 0.1, 0.5});
    double before = INFINITY;
    for (double budget : {3.3, 3.7, 4.0, 4.5, 5.0, 6.0, 8.0, 12.0}) {
        double harm = 0;
        const BitPlan plan = plan_bits(demands, Spec{}, budget).value();
        for (const LayerBits& bits : plan.layers) harm += bits.harm;
        EXPECT_LE(harm, before) << budget;
        before = harm;
    }
}

TEST(BitPlan, KeysNeverGetSoFewBitsThatTheyWouldBeWidened) {
    const auto demands = layers({0.4, 0.1});
    const auto plan = plan_bits(demands, Spec{}, 3.45);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    EXPECT_GE(plan.value().layers[0].key_bits, 3);  // 2 bits would add 0.4 * sqrt(.1175 / .0095) = 1.4
}

TEST(BitPlan, SaysWhatIsWrong) {
    const auto message = [](std::vector<LayerDemand> demands, double bits) { return plan_bits(demands, Spec{}, bits).status().message(); };
    EXPECT_EQ(message({}, 4), "there are no layers to plan for");
    EXPECT_NE(message(layers({0.1}), NAN).find("bits_per_value is nan"), std::string::npos);
    EXPECT_NE(message(layers({0.1}), 17).find("supported: above 0, to 16"), std::string::npos);
    EXPECT_NE(message(layers({INFINITY}), 4).find("layer 0 has a key_noise of inf"), std::string::npos);
    EXPECT_NE(message(layers({0.1}, 0), 4).find("layer 0 has no cells"), std::string::npos);
    EXPECT_NE(message(layers({0.1}), 2).find("the smallest plan takes 2.62,"), std::string::npos) << message(layers({0.1}), 2);
    auto odd = layers({0.1});
    odd[0].head_dim = 72;
    EXPECT_NE(message(odd, 4).find("head_dim of 72"), std::string::npos);
    EXPECT_FALSE(plan_bits(layers({0.1}), find_preset("paper-k3v2").value().spec, 4).ok());
}

TEST(BitPlan, NamesArePresetsAndLayersThatThePluginReads) {
    BitPlan plan;
    for (const auto& [key, value] : std::vector<std::pair<int, int>>{{6, 4}, {4, 3}, {4, 3}, {5, 3}, {5, 3}, {4, 3}, {5, 4}}) {
        plan.layers.push_back({static_cast<int>(plan.layers.size()), key, value, 0});
    }
    const PlanNames names = name_plan(plan);
    EXPECT_EQ(names.preset, "k4v3");
    EXPECT_EQ(names.layers, "0=k6v4,3-4=k5v3,6=k5v4");
    EXPECT_TRUE(find_preset("k5v3").ok());
}

}  // namespace
}  // namespace turboquant

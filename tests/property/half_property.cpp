// binary16 conversion keeps order and sign, and is the nearest of all numbers.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <bit>
#include <cmath>

#include "core/half.hpp"

namespace turboquant {
namespace {

float any_float() { return std::bit_cast<float>(*rc::gen::arbitrary<std::uint32_t>()); }

RC_GTEST_PROP(Half, KeepsOrder, ()) {
    const float a = any_float(), b = any_float();
    RC_PRE(a <= b);
    RC_ASSERT(half_to_float(float_to_half(a)) <= half_to_float(float_to_half(b)));
}

RC_GTEST_PROP(Half, MirrorsWithTheSign, ()) {
    const float x = any_float();
    RC_ASSERT(float_to_half(-x) == (float_to_half(x) ^ 0x8000));
}

RC_GTEST_PROP(Half, NoOtherHalfIsNearer, ()) {
    const auto h = static_cast<std::uint16_t>(*rc::gen::inRange(1, 0x7bff));
    const float x = half_to_float(h) * (1 + static_cast<float>(*rc::gen::inRange(-1000, 1000)) * 1e-6f);
    const std::uint16_t nearest = float_to_half(x);
    RC_PRE(nearest > 0 && nearest < 0x7bff);
    const double distance = std::abs(static_cast<double>(half_to_float(nearest)) - x);
    for (int step : {-1, 1}) {
        RC_ASSERT(distance <= std::abs(static_cast<double>(half_to_float(static_cast<std::uint16_t>(nearest + step))) - x));
    }
}

}  // namespace
}  // namespace turboquant

// binary16 conversion against rounding in double precision and, where the processor has it, against F16C.
#include "core/half.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace turboquant {
namespace {

bool is_nan_half(std::uint16_t h) { return (h & 0x7fff) > 0x7c00; }

double exact_value(std::uint16_t h) {
    const int exponent = (h >> 10) & 31, mantissa = h & 1023;
    const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    return h & 0x8000 ? -magnitude : magnitude;
}

// The nearest binary16 number, ties to even, worked out in double precision, where every step is exact.
double rounded_value(float x) {
    if (x == 0) return x;
    int exponent;
    std::frexp(static_cast<double>(x), &exponent);  // |x| in [2^(exponent-1), 2^exponent)
    const double unit = std::ldexp(1.0, std::max(exponent - 11, -24));
    const double rounded = std::nearbyint(x / unit) * unit;
    return std::abs(rounded) > 65504 ? std::copysign(INFINITY, x) : rounded;
}

std::vector<float> awkward_floats() {
    std::vector<float> x;
    for (std::uint32_t h = 0; h < 0x7c00; ++h) {  // every binary16 number, the midpoint above it, and their neighbours
        const double low = exact_value(static_cast<std::uint16_t>(h)),
                     high = h == 0x7bff ? 65536 : exact_value(static_cast<std::uint16_t>(h + 1));
        for (const double centre : {low, (low + high) / 2}) {
            const float f = static_cast<float>(centre);
            for (const float v : {std::nextafterf(f, -INFINITY), f, std::nextafterf(f, INFINITY)}) {
                x.push_back(v);
                x.push_back(-v);
            }
        }
    }
    std::mt19937 engine(7);
    for (int i = 0; i < 1'000'000; ++i) x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(engine())));
    for (int i = 0; i < 500'000; ++i) {  // within the exponents of binary16
        x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>((engine() & 0x807fffffu) | (100 + engine() % 45) << 23)));
    }
    x.insert(x.end(), {0.0f, -0.0f, INFINITY, -INFINITY, 65504.0f, 65519.99f, 65520.0f, 1e30f, 1e-45f});
    return x;
}

TEST(Half, EveryHalfSurvivesTheRoundTrip) {
    for (std::uint32_t h = 0; h <= 0xffff; ++h) {
        const auto half = static_cast<std::uint16_t>(h);
        const std::uint16_t back = float_to_half(half_to_float(half));
        if (is_nan_half(half)) {
            ASSERT_EQ(back, half | 0x200) << h;  // quiet, sign and payload kept
        } else {
            ASSERT_EQ(back, half);
        }
    }
}

TEST(Half, EveryHalfHasItsValue) {
    for (std::uint32_t h = 0; h <= 0xffff; ++h) {
        if ((h & 0x7c00) == 0x7c00) continue;
        ASSERT_EQ(half_to_float(static_cast<std::uint16_t>(h)), exact_value(static_cast<std::uint16_t>(h))) << h;
    }
    EXPECT_EQ(half_to_float(0x7c00), INFINITY);
    EXPECT_EQ(half_to_float(0xfc00), -INFINITY);
    EXPECT_TRUE(std::signbit(half_to_float(0x8000)));
}

TEST(Half, RoundsToNearestEven) {
    for (const float x : awkward_floats()) {
        const std::uint16_t half = float_to_half(x);
        if (std::isnan(x)) {
            ASSERT_TRUE(is_nan_half(half));
            continue;
        }
        ASSERT_EQ(half >> 15, std::signbit(x) ? 1 : 0) << x;
        ASSERT_EQ(half_to_float(half), rounded_value(x)) << x;
    }
}

#if defined(__x86_64__)
__attribute__((target("f16c"))) std::uint16_t hardware_half(float x) {
    return static_cast<std::uint16_t>(_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(x), _MM_FROUND_TO_NEAREST_INT), 0));
}
__attribute__((target("f16c"))) float hardware_float(std::uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }

TEST(Half, EqualsTheProcessorsConversion) {
    if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "no AVX2, and so perhaps no F16C, which clang 14 cannot ask for";
    for (const float x : awkward_floats()) {
        ASSERT_EQ(float_to_half(x), hardware_half(x)) << std::hexfloat << x << " bits " << std::bit_cast<std::uint32_t>(x);
    }
    for (std::uint32_t h = 0; h <= 0xffff; ++h) {
        const auto half = static_cast<std::uint16_t>(h);
        ASSERT_EQ(std::bit_cast<std::uint32_t>(half_to_float(half)), std::bit_cast<std::uint32_t>(hardware_float(half))) << h;
    }
}
#endif

}  // namespace
}  // namespace turboquant

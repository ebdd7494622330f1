// binary16 <-> binary32 against core/half.hpp: every half, and every float at which rounding changes.
#include <cmath>

#include "cpu/kernels.hpp"
#include "parity/cases.hpp"
#include "parity/support.hpp"

namespace turboquant::parity {
namespace {

TEST(Halves, EveryOneBecomesTheSameFloat) {
    std::vector<std::uint16_t> halves(65536);
    std::vector<float> expected(halves.size()), found(halves.size());
    for (std::size_t i = 0; i < halves.size(); ++i) {
        halves[i] = static_cast<std::uint16_t>(i);
        expected[i] = half_to_float(halves[i]);
    }
    cpu::kernels().halves_to_floats(halves.data(), found.data(), halves.size());
    EXPECT_TRUE(same_bits(found, expected));
}

// Each half's value and the middle to the next one, with their neighbours; NaNs with payloads; subnormals; random bits.
std::vector<float> boundary_floats() {
    std::vector<float> floats;
    const auto around = [&](float value) {
        for (const float v : {value, std::nextafterf(value, INFINITY), std::nextafterf(value, -INFINITY)}) {
            floats.push_back(v);
            floats.push_back(-v);
        }
    };
    for (std::uint32_t h = 0; h < 0x7c00; ++h) {
        const float value = half_to_float(static_cast<std::uint16_t>(h));
        const float next = h == 0x7bff ? 65536.0f : half_to_float(static_cast<std::uint16_t>(h + 1));
        around(value);
        around((value + next) / 2);
    }
    for (const std::uint32_t bits : {0x7f800000u, 0xff800000u, 0x7f800001u, 0x7fc00000u, 0xffc00001u, 0x7fffffffu, 0xff802000u, 0x00000001u, 0x807fffffu, 0x7f7fffffu}) {
        floats.push_back(std::bit_cast<float>(bits));
    }
    std::mt19937 engine(5);
    for (int i = 0; i < 100000; ++i) floats.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(engine())));
    return floats;
}

TEST(Halves, FloatsRoundTheSameWay) {
    const std::vector<float> floats = boundary_floats();
    std::vector<std::uint16_t> expected(floats.size()), found(floats.size());
    for (std::size_t i = 0; i < floats.size(); ++i) expected[i] = float_to_half(floats[i]);
    cpu::kernels().floats_to_halves(floats.data(), found.data(), floats.size());
    EXPECT_TRUE(same_bits(found, expected));
}

TEST(Halves, NothingIsWrittenBeyondTheEnd) {
    const std::vector<float> floats = gaussian(80, 1);
    std::vector<std::uint16_t> halves(80);
    for (std::size_t i = 0; i < 80; ++i) halves[i] = float_to_half(floats[i]);
    for (int offset = 0; offset < 3; ++offset) {
        for (int num = 0; num <= 35; ++num) {
            std::vector<std::uint16_t> narrow(40, 0x1234);
            cpu::kernels().floats_to_halves(floats.data() + offset, narrow.data() + offset, num);
            std::vector<float> wide(40, 7.0f);
            cpu::kernels().halves_to_floats(halves.data() + offset, wide.data() + offset, num);
            for (int i = 0; i < 40; ++i) {
                const bool inside = i >= offset && i < offset + num;
                ASSERT_EQ(narrow[i], inside ? halves[i] : 0x1234) << num << " from " << offset << ", at " << i;
                ASSERT_EQ(wide[i], inside ? half_to_float(halves[i]) : 7.0f) << num << " from " << offset << ", at " << i;
            }
        }
    }
}

}  // namespace
}  // namespace turboquant::parity

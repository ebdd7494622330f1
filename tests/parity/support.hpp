// Threads and comparisons of the parity tests.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "turboquant/cache.hpp"

namespace turboquant::parity {

inline std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }
inline std::uint32_t bits_of(std::uint16_t value) { return value; }
inline std::uint32_t bits_of(std::uint8_t value) { return value; }

// Equal bit for bit; else the first difference: where, both values, both bit patterns, and how many there are.
template <class A, class B>
::testing::AssertionResult same_bits(const A& found, const B& expected) {
    if (std::size(found) != std::size(expected)) {
        return ::testing::AssertionFailure() << std::size(found) << " numbers instead of " << std::size(expected);
    }
    std::size_t first = std::size(found), differences = 0;
    for (std::size_t i = 0; i < std::size(found); ++i) {
        if (bits_of(found[i]) == bits_of(expected[i])) continue;
        if (differences++ == 0) first = i;
    }
    if (differences == 0) return ::testing::AssertionSuccess();
    char text[160];
    std::snprintf(text, sizeof text, "at %zu: %.9g (0x%x) instead of %.9g (0x%x); %zu of %zu differ", first, static_cast<double>(found[first]), bits_of(found[first]),
                  static_cast<double>(expected[first]), bits_of(expected[first]), differences, std::size(found));
    return ::testing::AssertionFailure() << text;
}

// The bits of a NaN depend on the order of operands; that it is one does not.
inline std::vector<float> with_plain_nans(std::vector<float> x) {
    for (float& v : x) {
        if (v != v) v = std::bit_cast<float>(0x7fc00000u);
    }
    return x;
}

// body(worker) on num_threads threads together.
template <class Body>
void on_team(int num_threads, const Body& body) {
    Team team;
    std::vector<std::thread> others;
    for (int i = 1; i < num_threads; ++i) {
        others.emplace_back([&, i] { body(Worker{&team, i, num_threads}); });
    }
    body(Worker{&team, 0, num_threads});
    for (std::thread& thread : others) thread.join();
}

}  // namespace turboquant::parity

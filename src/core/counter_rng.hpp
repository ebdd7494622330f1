// A counter-based generator: word i of stream s under seed k is a pure function of (k, s, i), so that CPU, GPU and
// Python draw the same signs without sharing state. The mixing function is SplitMix64's finaliser (Steele, Lea and
// Flood 2014), applied twice.
#pragma once

#include <cstdint>

namespace turboquant {

constexpr std::uint64_t mix64(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

constexpr std::uint64_t counter_word(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
    return mix64(mix64(seed + 0x9e3779b97f4a7c15ull * (stream + 1)) + 0x9e3779b97f4a7c15ull * (index + 1));
}

// Bit i of the sign stream: true means minus.
constexpr bool counter_sign(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
    return (counter_word(seed, stream, index / 64) >> (index % 64)) & 1u;
}

}  // namespace turboquant

// What kernels must know of the GPU that they run on. Host code, no CUDA: unit-tested.
#pragma once

#include <cstddef>
#include <optional>

namespace turboquant::cuda {

// Generations that differ in how pages get into shared memory and in how much of it a CTA has, named after the first compute capability.
// cmake/cuda_targets.cmake is the same table for architectures.
enum class Target : int {
    sm80 = 80,    // 8.0, 8.7
    sm86 = 86,    // 8.6, 8.9
    sm90 = 90,    // 9.0, 10.x, 11.x
    sm120 = 120,  // 12.x
};
inline constexpr Target kTargets[] = {Target::sm80, Target::sm86, Target::sm90, Target::sm120};

constexpr std::optional<Target> target_of(int major, int minor) {
    if (major < 8) return std::nullopt;
    if (major == 8) return minor == 0 || minor == 7 ? Target::sm80 : Target::sm86;
    return major < 12 ? Target::sm90 : Target::sm120;
}

// async: cp.async, 16 bytes per lane, waited for by the lanes themselves. bulk: one instruction per part, which completes on a barrier.
enum class Copies { async, bulk };
constexpr Copies copies_of(Target target) { return target < Target::sm90 ? Copies::async : Copies::bulk; }

// Bytes of shared memory that a CTA may have, its static arrays included.
constexpr std::size_t shared_limit(Target target) {
    return 1024 * (target == Target::sm80 ? 163 : target == Target::sm90 ? 227 : 99);
}

}  // namespace turboquant::cuda

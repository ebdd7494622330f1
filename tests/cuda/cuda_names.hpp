// The names of CUDA C++ that a kernel's planning uses, for a host compiler: one warp, whose lanes are fibers (fibers.hpp). Include it before
// the kernel's headers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/device/warp.cuh"

#define __device__
#define __host__

struct uint4 {
    std::uint32_t x, y, z, w;
};
inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) { return {x, y, z, w}; }

struct LaneNumber {
    operator int() const { return turboquant::device::lane_id(); }
};
inline struct {
    LaneNumber x;
} threadIdx;
inline struct {
    int x = 0;
} blockIdx, gridDim;

using std::max;
using std::min;

namespace turboquant::test {

// All that a warp's lanes give, combined.
template <class Combine>
std::uint32_t reduce_lanes(std::uint32_t value, Combine&& combine) {
    const device::Meeting all = device::meet(&value, 1);
    std::uint32_t result = all[0][0];
    for (int i = 1; i < 32; ++i) result = combine(result, all[i][0]);
    return result;
}

}  // namespace turboquant::test

template <class T>
T __shfl_sync(unsigned, T value, int lane) {
    const auto bits = static_cast<std::uint32_t>(value);
    return static_cast<T>(turboquant::device::meet(&bits, 1)[lane & 31][0]);
}
template <class T>
T __shfl_up_sync(unsigned, T value, int distance) {
    const auto bits = static_cast<std::uint32_t>(value);
    const int lane = turboquant::device::lane_id();
    return static_cast<T>(turboquant::device::meet(&bits, 1)[lane < distance ? lane : lane - distance][0]);
}
inline std::uint32_t __reduce_min_sync(unsigned, std::uint32_t value) {
    return turboquant::test::reduce_lanes(value, [](std::uint32_t a, std::uint32_t b) { return std::min(a, b); });
}
inline std::uint32_t __reduce_max_sync(unsigned, std::uint32_t value) {
    return turboquant::test::reduce_lanes(value, [](std::uint32_t a, std::uint32_t b) { return std::max(a, b); });
}
inline std::uint32_t __reduce_add_sync(unsigned, std::uint32_t value) {
    return turboquant::test::reduce_lanes(value, [](std::uint32_t a, std::uint32_t b) { return a + b; });
}
inline void __syncthreads() {
    const std::uint32_t nothing = 0;
    turboquant::device::meet(&nothing, 1);
}

// Numbers in memory, and handing a piece of work to another warp, for nvcc and (in tests, where warps run one after another) for a host compiler.
#pragma once

#include "cuda/device/warp.cuh"
#include "turboquant/cuda.hpp"

#ifdef __CUDACC__
#include "cuda/device/bulk_copy.cuh"
#endif

namespace turboquant::cuda {

TQ_DEV float load_number(const void* numbers, std::int64_t at, Number number) {
    if (number == Number::fp32) return static_cast<const float*>(numbers)[at];
    const std::uint16_t bits = static_cast<const std::uint16_t*>(numbers)[at];
    return number == Number::fp16 ? device::half_value(bits) : device::as_float(static_cast<std::uint32_t>(bits) << 16);
}

// bf16: to nearest, ties to even; a NaN stays one.
TQ_DEV std::uint16_t bf16_bits(float x) {
    const std::uint32_t bits = device::as_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
    return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
TQ_DEV void store_plain_number(void* numbers, std::int64_t at, Number number, float x) {
    if (number == Number::fp32) static_cast<float*>(numbers)[at] = x;
    else static_cast<std::uint16_t*>(numbers)[at] = number == Number::fp16 ? device::half_bits(x) : bf16_bits(x);
}

// Counts one up; what this warp wrote before is seen by who counts after it. Returns the count before, in every lane.
TQ_DEV unsigned arrive(unsigned* counter) {
    device::sync_lanes();
    std::uint32_t before = 0;
#ifdef __CUDACC__
    if (device::lane_id() == 0) before = device::add_acquire_release(counter);
#else
    if (device::lane_id() == 0) before = (*counter)++;
#endif
    before = device::from_lane(before, 0);
    device::sync_lanes();
    return before;
}

// What another warp of the launch wrote.
TQ_DEV float load_fresh(const float* at) {
#ifdef __CUDACC__
    return __ldcg(at);
#else
    return *at;
#endif
}

}  // namespace turboquant::cuda

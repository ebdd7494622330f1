// How the numbers of new rows are read: as binary16, keys turned by their position first where the caller leaves that to append.
// Compile with -fmad=false.
#pragma once

#include <type_traits>

#include "cuda/append/params.hpp"
#include "cuda/device/rope.cuh"

namespace turboquant::cuda {

// Calls work(std::integral_constant) with the rows' format: once around many loads, which then are under way together.
template <class Work>
__device__ __forceinline__ void with_number(Number number, Work&& work) {
    if (number == Number::bf16) work(std::integral_constant<Number, Number::bf16>());
    else if (number == Number::fp16) work(std::integral_constant<Number, Number::fp16>());
    else work(std::integral_constant<Number, Number::fp32>());
}

template <Number kNumber>
__device__ __forceinline__ float load_number(const AppendSide& side, std::int64_t token, int head, int dim) {
    const std::int64_t at = token * side.token_stride + head * side.head_stride + dim;
    if constexpr (kNumber == Number::fp32) return static_cast<const float*>(side.rows)[at];
    const std::uint16_t bits = static_cast<const std::uint16_t*>(side.rows)[at];
    return kNumber == Number::bf16 ? __uint_as_float(static_cast<std::uint32_t>(bits) << 16) : device::half_value(bits);
}

// The token's place in the tables of cosines and sines; negative: outside.
__device__ __forceinline__ std::int32_t rope_position(const RopeParams& rope, std::int64_t token) {
    const std::int64_t position = rope.wide ? static_cast<const std::int64_t*>(rope.positions)[token] : static_cast<const std::int32_t*>(rope.positions)[token];
    return position < 0 || position >= rope.max_position ? -1 : static_cast<std::int32_t>(position);
}

// Number of a key as binary16 bits. A token whose position has no entry has no key: NaN, so that nothing can be read from it unnoticed.
template <Number kNumber>
__device__ __forceinline__ std::uint16_t load_key(const AppendParams& p, std::int64_t token, int head, int dim) {
    const RopeParams& rope = p.rope;
    const float own = load_number<kNumber>(p.sides[0], token, head, dim);
    if (rope.half == 0 || dim >= 2 * rope.half) return device::half_bits(own);
    const device::RopePlace place = device::rope_place(rope.interleaved, rope.half, dim);
    const std::int32_t position = rope_position(rope, token);
    if (position < 0) return 0x7e00;
    const std::int64_t at = position * rope.stride + place.pair;
    const float turned = device::rope_number(own, load_number<kNumber>(p.sides[0], token, head, place.partner), rope.cosine[at], rope.sine[at], place.second);
    return device::half_bits(kNumber == Number::bf16 ? device::round_to_bf16(turned) : turned);
}

// The strided numbers of a row, as encode_vector() wants them; zeros where `wanted` is false.
template <int kHeadDim, int kLanes>
__device__ __forceinline__ void load_row(const AppendParams& p, bool value, bool wanted, std::int64_t token, int head, float* x) {
    const AppendSide& side = p.sides[value];
    const bool turn = !value && p.rope.half != 0;
    const int lane = threadIdx.x % kLanes;
    with_number(p.number, [&](auto number) {
#pragma unroll
        for (int k = 0; k < (kHeadDim + kLanes - 1) / kLanes; ++k) {
            const int dim = lane + kLanes * k;
            const bool there = wanted && (kLanes * (k + 1) <= kHeadDim || dim < kHeadDim);
            x[k] = !there || turn ? 0.0f : load_number<decltype(number)::value>(side, token, head, dim);
        }
        if (turn) {
#pragma unroll
            for (int k = 0; k < (kHeadDim + kLanes - 1) / kLanes; ++k) {
                const int dim = lane + kLanes * k;
                const bool there = wanted && (kLanes * (k + 1) <= kHeadDim || dim < kHeadDim);
                if (there) x[k] = device::half_value(load_key<decltype(number)::value>(p, token, head, dim));
            }
        } else if (decltype(number)::value != Number::fp16) {
#pragma unroll
            for (int k = 0; k < (kHeadDim + kLanes - 1) / kLanes; ++k) x[k] = device::half_value(device::half_bits(x[k]));
        }
    });
}

}  // namespace turboquant::cuda

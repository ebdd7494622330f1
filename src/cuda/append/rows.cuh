// How the numbers of new rows are read: as binary16, keys turned by their position first where the caller leaves that to append.
// Compile with -fmad=false.
#pragma once

#include <type_traits>

#include "cuda/append/params.hpp"
#include "cuda/device/encode.cuh"
#include "cuda/device/rope.cuh"

namespace turboquant::cuda {

// Calls work(std::integral_constant) with the rows' format: once around many loads, which then are under way together.
template <class Work>
__device__ __forceinline__ void with_number(Number number, Work&& work) {
    if (number == Number::bf16) work(std::integral_constant<Number, Number::bf16>());
    else if (number == Number::fp16) work(std::integral_constant<Number, Number::fp16>());
    else work(std::integral_constant<Number, Number::fp32>());
}

// The numbers of one row, as they lie in memory.
template <Number kNumber>
struct RawRow {
    const std::uint8_t* numbers;

    __device__ __forceinline__ RawRow(const AppendSide& side, std::int64_t token, int head)
        : numbers(static_cast<const std::uint8_t*>(side.rows) + (token * side.token_stride + head * side.head_stride) * (kNumber == Number::fp32 ? 4 : 2)) {}
    __device__ __forceinline__ float at(int dim) const {
        if constexpr (kNumber == Number::fp32) return reinterpret_cast<const float*>(numbers)[dim];
        const std::uint16_t bits = reinterpret_cast<const std::uint16_t*>(numbers)[dim];
        return kNumber == Number::bf16 ? device::as_float(static_cast<std::uint32_t>(bits) << 16) : device::half_value(bits);
    }
    __device__ __forceinline__ std::uint16_t half(int dim) const { return device::half_bits(at(dim)); }
};

// The numbers of a key, turned by its position. A token whose position has no entry in the tables has no key: NaN, so that nothing can be read
// from it unnoticed.
template <Number kNumber>
struct TurnedRow {
    RawRow<kNumber> raw;
    const float *cosine = nullptr, *sine = nullptr;  // the position's; null: outside
    int pairs;
    bool interleaved;

    // Params: AppendParams, or others that have its sides and rope.
    template <class Params>
    __device__ __forceinline__ TurnedRow(const Params& p, std::int64_t token, int head)
        : raw(p.sides[0], token, head), pairs(p.rope.half), interleaved(p.rope.interleaved) {
        const RopeParams& rope = p.rope;
        const std::int64_t position = rope.wide ? static_cast<const std::int64_t*>(rope.positions)[token] : static_cast<const std::int32_t*>(rope.positions)[token];
        if (position < 0 || position >= rope.max_position) return;
        cosine = rope.cosine + position * rope.stride;
        sine = rope.sine + position * rope.stride;
    }
    __device__ __forceinline__ std::uint16_t half(int dim) const {
        const float own = raw.at(dim);
        if (dim >= 2 * pairs) return device::half_bits(own);
        if (!cosine) return 0x7e00;
        const device::RopePlace place = device::rope_place(interleaved, pairs, dim);
        const float turned = device::rope_number(own, raw.at(place.partner), cosine[place.pair], sine[place.pair], place.second);
        return device::half_bits(kNumber == Number::bf16 ? device::round_to_bf16(turned) : turned);
    }
};

// Number of a key as binary16 bits, where speed does not matter.
template <Number kNumber, class Params>
__device__ __forceinline__ std::uint16_t load_key(const Params& p, std::int64_t token, int head, int dim) {
    return p.rope.half != 0 ? TurnedRow<kNumber>(p, token, head).half(dim) : RawRow<kNumber>(p.sides[0], token, head).half(dim);
}

// The strided numbers of a row, as many as encode_vector() wants; zeros where `wanted` is false.
template <int kHeadDim, int kLanes>
__device__ __forceinline__ void load_row(const AppendParams& p, bool value, bool wanted, std::int64_t token, int head, float* x) {
    constexpr int kNum = (kHeadDim + kLanes - 1) / kLanes;
    const int lane = threadIdx.x % kLanes;
#pragma unroll
    for (int k = 0; k < device::kEncodeNumbers<kHeadDim, kLanes>; ++k) x[k] = 0;
    if (!wanted) return;
    const auto gather = [&](const auto& row) {
        std::uint16_t half[kNum];  // all loads before the first use
#pragma unroll
        for (int k = 0; k < kNum; ++k) half[k] = kLanes * (k + 1) <= kHeadDim || lane + kLanes * k < kHeadDim ? row.half(lane + kLanes * k) : 0;
#pragma unroll
        for (int k = 0; k < kNum; ++k) x[k] = device::half_value(half[k]);
    };
    with_number(p.number, [&](auto number) {
        if (!value && p.rope.half != 0) gather(TurnedRow<decltype(number)::value>(p, token, head));
        else gather(RawRow<decltype(number)::value>(p.sides[value], token, head));
    });
}

}  // namespace turboquant::cuda

// One row of a piece of a unit, in the registers of a warp.
#pragma once

#include <cstdint>

#include "cuda/device/warp.cuh"

namespace turboquant::cuda {

template <int kNum>
struct Piece {
    float x[kNum], m, l;  // x[k]: number lane + 32 k

    __device__ __forceinline__ void clear() {
        m = device::kNothing;
        l = 0;
#pragma unroll
        for (int k = 0; k < kNum; ++k) x[k] = 0;
    }
    __device__ __forceinline__ void rescale(float top) {
        const float factor = device::exp2_fast(m - top);
        m = top;
        l *= factor;
#pragma unroll
        for (int k = 0; k < kNum; ++k) x[k] *= factor;
    }
    __device__ __forceinline__ void add(const Piece& other) {
        const float weight = device::exp2_fast(other.m - m);
        l = fmaf(weight, other.l, l);
#pragma unroll
        for (int k = 0; k < kNum; ++k) x[k] = fmaf(weight, other.x[k], x[k]);
    }
};

// The pieces first .. last of one row, in this order; load(c, piece) loads c's, kAtOnce of them under way together.
template <int kAtOnce, int kNum, class Load>
__device__ __forceinline__ void gather(std::uint32_t first, std::uint32_t last, Load&& load, Piece<kNum>& sum) {
    sum.clear();
#pragma unroll 1
    for (std::uint32_t c = first; c <= last; c += kAtOnce) {
        Piece<kNum> piece[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) load(min(c + i, last), piece[i]);  // those beyond the last repeat it and are dropped
        float top = sum.m;
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) top = fmaxf(top, piece[i].m);
        sum.rescale(top);
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            if (c + i <= last) sum.add(piece[i]);
        }
    }
}

}  // namespace turboquant::cuda

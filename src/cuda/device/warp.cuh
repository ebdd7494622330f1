// The few instructions that a warp's work is written in. Compiled by nvcc they are single instructions; compiled by a host compiler
// they are the functions of host_warp.hpp, where 32 fibers play the lanes, so that everything above can be tested without a GPU.
#pragma once

#include <cstdint>

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define TQ_DEV __device__ __forceinline__
#define TQ_UNROLL _Pragma("unroll")
#define TQ_PRAGMA(TEXT) _Pragma(#TEXT)
#define TQ_UNROLL_BY(NUM) TQ_PRAGMA(unroll NUM)

namespace turboquant::device {

TQ_DEV int lane_id() { return threadIdx.x & 31; }

// Byte permutation: selector nibble n < 8 takes byte n of b:a, n >= 8 the sign of byte n - 8 in all eight bits.
TQ_DEV std::uint32_t permute_bytes(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
    std::uint32_t d;
    asm("prmt.b32 %0,%1,%2,%3;" : "=r"(d) : "r"(a), "r"(b), "r"(selector));
    return d;
}

#define TQ_IMMA(NAME, TYPE_B)                                                                                                  \
    TQ_DEV void NAME(int* d, const std::uint32_t* a, std::uint32_t b0, std::uint32_t b1, const int* c) {                       \
        asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8." TYPE_B ".s32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%10,%11,%12,%13};" \
                     : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])                                                          \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3])); \
    }
TQ_IMMA(mma_signed, "s8")    // s8 x s8
TQ_IMMA(mma_unsigned, "u8")  // s8 x u8
#undef TQ_IMMA

// d += A B for binary16 A and B.
TQ_DEV void mma_half(float* d, const std::uint32_t* a, std::uint32_t b0, std::uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Transposes an 8 x 8 matrix of 16-bit numbers; lane 4 row + t holds columns 2t and 2t + 1.
TQ_DEV std::uint32_t transpose8(std::uint32_t a) {
    std::uint32_t d;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0,%1;" : "=r"(d) : "r"(a));
    return d;
}
TQ_DEV std::uint32_t exchange(std::uint32_t v, int mask) { return __shfl_xor_sync(~0u, v, mask); }
TQ_DEV float exchange(float v, int mask) { return __shfl_xor_sync(~0u, v, mask); }
TQ_DEV std::uint32_t from_lane(std::uint32_t v, int lane) { return __shfl_sync(~0u, v, lane); }
TQ_DEV float from_lane(float v, int lane) { return __shfl_sync(~0u, v, lane); }
TQ_DEV bool any_lane(bool p) { return __any_sync(~0u, p); }
TQ_DEV int sum_lanes(int v) { return __reduce_add_sync(~0u, v); }
TQ_DEV std::uint32_t ballot(bool p) { return __ballot_sync(~0u, p); }
TQ_DEV void sync_lanes() { __syncwarp(); }  // what lanes wrote is seen by the others

// Approximations: for attention, never for encoding.
TQ_DEV float exp2_fast(float x) { float y; asm("ex2.approx.ftz.f32 %0,%1;" : "=f"(y) : "f"(x)); return y; }
TQ_DEV float log2_fast(float x) { float y; asm("lg2.approx.ftz.f32 %0,%1;" : "=f"(y) : "f"(x)); return y; }
TQ_DEV float reciprocal_fast(float x) { float y; asm("rcp.approx.ftz.f32 %0,%1;" : "=f"(y) : "f"(x)); return y; }

TQ_DEV float as_float(std::uint32_t x) { return __uint_as_float(x); }
TQ_DEV std::uint32_t as_bits(float x) { return __float_as_uint(x); }
TQ_DEV float low_half(std::uint32_t x) { return __low2float(*reinterpret_cast<__half2*>(&x)); }
TQ_DEV float high_half(std::uint32_t x) { return __high2float(*reinterpret_cast<__half2*>(&x)); }
TQ_DEV float round_even(float x) { return rintf(x); }
TQ_DEV float half_value(std::uint16_t x) { return __half2float(__ushort_as_half(x)); }
TQ_DEV std::uint16_t half_bits(float x) { return __half_as_ushort(__float2half_rn(x)); }
TQ_DEV std::uint32_t pack_halves(float low, float high) {
    const __half2 h = __floats2half2_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&h);
}

// Two binary16 numbers at a time, each result rounded once.
TQ_DEV std::uint32_t add_halves(std::uint32_t a, std::uint32_t b) {
    std::uint32_t d;
    asm("add.rn.f16x2 %0,%1,%2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}
TQ_DEV std::uint32_t fma_halves(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
    std::uint32_t d;
    asm("fma.rn.f16x2 %0,%1,%2,%3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
TQ_DEV std::uint32_t multiply_halves(std::uint32_t a, std::uint32_t b) {
    std::uint32_t d;
    asm("mul.rn.f16x2 %0,%1,%2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}

}  // namespace turboquant::device

#else
#include "cuda/device/host_warp.hpp"
#endif

namespace turboquant::device {

// An int32 accumulator that starts at this number's bits is a float after one addition: 1.5 * 2^23, room for +-2^22.
inline constexpr float kMagic = 12582912.0f;
inline constexpr int kMagicBits = 0x4b400000;
inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr float kNothing = -1e30f;  // the reference (m) of a sum that has seen no token

}  // namespace turboquant::device

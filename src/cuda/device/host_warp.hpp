// warp.cuh for a host compiler: the same names. What lanes exchange goes through meet(), which whoever runs the 32 lanes provides
// (tests/cuda/fibers.hpp): it stores a lane's words, lets all other lanes do the same, and returns what all of them stored.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "core/half.hpp"

#define TQ_DEV inline
#define TQ_UNROLL
#define TQ_UNROLL_BY(NUM)

namespace turboquant::device {

inline constexpr int kMeetWords = 8;
using Meeting = const std::uint32_t (*)[kMeetWords];  // [32][kMeetWords]

int lane_id();
Meeting meet(const std::uint32_t* words, int num);

inline float as_float(std::uint32_t x) { return std::bit_cast<float>(x); }
inline std::uint32_t as_bits(float x) { return std::bit_cast<std::uint32_t>(x); }

inline std::uint32_t permute_bytes(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
    const std::uint64_t both = static_cast<std::uint64_t>(b) << 32 | a;
    std::uint32_t d = 0;
    for (int i = 0; i < 4; ++i) {
        const int n = selector >> (4 * i) & 15;
        std::uint32_t byte = both >> (8 * (n & 7)) & 255;
        if (n & 8) byte = byte & 128 ? 255 : 0;
        d |= byte << (8 * i);
    }
    return d;
}

template <bool kUnsigned>
void mma_bytes(int* d, const std::uint32_t* a, std::uint32_t b0, std::uint32_t b1, const int* c) {
    const std::uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    const Meeting all = meet(mine, 6);
    const int g = lane_id() >> 2, t = lane_id() & 3;
    for (int i = 0; i < 4; ++i) {
        const int row = g + 8 * (i >> 1), column = 2 * t + (i & 1);
        long sum = c[i];
        for (int k = 0; k < 32; ++k) {
            const int shift = 8 * (k & 3);
            const std::uint32_t left = all[4 * (row & 7) + ((k & 15) >> 2)][(row >> 3) + 2 * (k >> 4)] >> shift;
            const std::uint32_t right = all[4 * column + ((k & 15) >> 2)][4 + (k >> 4)] >> shift;
            sum += static_cast<std::int8_t>(left) * (kUnsigned ? static_cast<int>(static_cast<std::uint8_t>(right)) : static_cast<int>(static_cast<std::int8_t>(right)));
        }
        d[i] = static_cast<int>(sum);
    }
}
inline void mma_signed(int* d, const std::uint32_t* a, std::uint32_t b0, std::uint32_t b1, const int* c) { mma_bytes<false>(d, a, b0, b1, c); }
inline void mma_unsigned(int* d, const std::uint32_t* a, std::uint32_t b0, std::uint32_t b1, const int* c) { mma_bytes<true>(d, a, b0, b1, c); }

inline float low_half(std::uint32_t x) { return half_to_float(static_cast<std::uint16_t>(x)); }
inline float high_half(std::uint32_t x) { return half_to_float(static_cast<std::uint16_t>(x >> 16)); }
inline float half_value(std::uint16_t x) { return half_to_float(x); }
inline std::uint16_t half_bits(float x) { return float_to_half(x); }
inline std::uint32_t pack_halves(float low, float high) { return float_to_half(low) | static_cast<std::uint32_t>(float_to_half(high)) << 16; }

inline void mma_half(float* d, const std::uint32_t* a, std::uint32_t b0, std::uint32_t b1) {
    const std::uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    const Meeting all = meet(mine, 6);
    const int g = lane_id() >> 2, t = lane_id() & 3;
    for (int i = 0; i < 4; ++i) {
        const int column = 2 * t + (i & 1);
        for (int k = 0; k < 16; ++k) {
            const std::uint32_t left = all[4 * g + (k & 7) / 2][(i >> 1) + 2 * (k / 8)], right = all[4 * column + (k & 7) / 2][4 + k / 8];
            d[i] += k & 1 ? high_half(left) * high_half(right) : low_half(left) * low_half(right);
        }
    }
}
inline std::uint32_t transpose8(std::uint32_t a) {
    const Meeting all = meet(&a, 1);
    const int g = lane_id() >> 2, t = lane_id() & 3;
    std::uint32_t r = 0;
    for (int e = 0; e < 2; ++e) r |= (all[4 * (2 * t + e) + g / 2][0] >> (16 * (g & 1)) & 0xffffu) << (16 * e);
    return r;
}
inline std::uint32_t exchange(std::uint32_t v, int mask) { return meet(&v, 1)[lane_id() ^ mask][0]; }
inline float exchange(float v, int mask) { return as_float(exchange(as_bits(v), mask)); }
inline std::uint32_t from_lane(std::uint32_t v, int lane) { return meet(&v, 1)[lane & 31][0]; }
inline float from_lane(float v, int lane) { return as_float(from_lane(as_bits(v), lane)); }
inline bool any_lane(bool p) {
    const std::uint32_t mine = p;
    const Meeting all = meet(&mine, 1);
    for (int i = 0; i < 32; ++i) {
        if (all[i][0]) return true;
    }
    return false;
}
inline int sum_lanes(int v) {
    const std::uint32_t mine = static_cast<std::uint32_t>(v);
    const Meeting all = meet(&mine, 1);
    int sum = 0;
    for (int i = 0; i < 32; ++i) sum += static_cast<int>(all[i][0]);
    return sum;
}

inline std::uint32_t ballot(bool p) {
    const std::uint32_t mine = p;
    const Meeting all = meet(&mine, 1);
    std::uint32_t bits = 0;
    for (int i = 0; i < 32; ++i) bits |= all[i][0] << i;
    return bits;
}
inline void sync_lanes() { ballot(false); }

inline std::uint32_t fma_halves(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
    return pack_halves(std::fma(low_half(a), low_half(b), low_half(c)), std::fma(high_half(a), high_half(b), high_half(c)));
}
inline std::uint32_t add_halves(std::uint32_t a, std::uint32_t b) { return pack_halves(low_half(a) + low_half(b), high_half(a) + high_half(b)); }
inline std::uint32_t multiply_halves(std::uint32_t a, std::uint32_t b) { return pack_halves(low_half(a) * low_half(b), high_half(a) * high_half(b)); }


inline float exp2_fast(float x) { return std::exp2(x); }
inline float log2_fast(float x) { return std::log2(x); }
inline float reciprocal_fast(float x) { return 1.0f / x; }

inline float round_even(float x) { return std::nearbyint(x); }
inline float sqrtf(float x) { return std::sqrt(x); }
inline float fabsf(float x) { return std::fabs(x); }
inline float fmaf(float a, float b, float c) { return std::fma(a, b, c); }
inline float fmaxf(float a, float b) { return std::fmax(a, b); }
inline float fminf(float a, float b) { return std::fmin(a, b); }

}  // namespace turboquant::device

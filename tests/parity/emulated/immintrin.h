// The AVX-512 intrinsics that src/cpu/isa/avx512vnni.hpp and avx512vbmi.hpp use, in plain C++ after Intel's pseudocode, so that this vocabulary is
// tested on machines without AVX-512. Found before the compiler's own header; nothing else includes it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/half.hpp"

namespace {

struct __m512 { float v[16]; };
struct __m512i { std::uint8_t v[64]; };
using __v16si = __m512i;
struct __m256i { std::uint8_t v[32]; };
struct __m128i { std::uint8_t v[16]; };
using __mmask16 = std::uint16_t;
using __mmask64 = std::uint64_t;

enum { _MM_FROUND_TO_NEAREST_INT = 0, _MM_FROUND_NO_EXC = 8, _CMP_GE_OQ = 0x1d, _CMP_GT_OQ = 0x1e };

template <class To, class From>
To same_bytes(const From& from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
template <class T>
T load_from(const void* p) {
    T value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

// Lanes of an integer register.
template <class T>
struct Lanes {
    T v[64 / sizeof(T)];
    explicit Lanes(const __m512i& a) { std::memcpy(v, &a, 64); }
    Lanes() = default;
    operator __m512i() const { return same_bytes<__m512i>(v); }
};
using U32 = Lanes<std::uint32_t>;
using S32 = Lanes<std::int32_t>;
using U16 = Lanes<std::uint16_t>;

template <class Op>
__m512 each(const __m512& a, const __m512& b, Op op) {
    __m512 r;
    for (int i = 0; i < 16; ++i) r.v[i] = op(a.v[i], b.v[i]);
    return r;
}
template <class Op>
__m512i each32(const __m512i& a, const __m512i& b, Op op) {
    const U32 x(a), y(b);
    U32 r;
    for (int i = 0; i < 16; ++i) r.v[i] = op(x.v[i], y.v[i]);
    return r;
}
template <class Op>
__m512i each8(__m512i a, const __m512i& b, Op op) {
    for (int i = 0; i < 64; ++i) a.v[i] = static_cast<std::uint8_t>(op(a.v[i], b.v[i]));
    return a;
}

// --- floats ---
__m512 _mm512_loadu_ps(const void* p) { return load_from<__m512>(p); }
void _mm512_storeu_ps(void* p, __m512 a) { std::memcpy(p, &a, 64); }
__m512 _mm512_set1_ps(float v) {
    __m512 r;
    for (float& x : r.v) x = v;
    return r;
}
__m512 _mm512_setzero_ps() { return _mm512_set1_ps(0); }
__m512 _mm512_add_ps(__m512 a, __m512 b) { return each(a, b, [](float x, float y) { return x + y; }); }
__m512 _mm512_sub_ps(__m512 a, __m512 b) { return each(a, b, [](float x, float y) { return x - y; }); }
__m512 _mm512_mul_ps(__m512 a, __m512 b) { return each(a, b, [](float x, float y) { return x * y; }); }
__m512 _mm512_div_ps(__m512 a, __m512 b) { return each(a, b, [](float x, float y) { return x / y; }); }
__m512 _mm512_min_ps(__m512 a, __m512 b) { return each(a, b, [](float x, float y) { return x < y ? x : y; }); }
__m512 _mm512_max_ps(__m512 a, __m512 b) { return each(a, b, [](float x, float y) { return x > y ? x : y; }); }
__m512 _mm512_sqrt_ps(__m512 a) { return each(a, a, [](float x, float) { return std::sqrt(x); }); }
__m512 _mm512_roundscale_ps(__m512 a, int) { return each(a, a, [](float x, float) { return std::nearbyint(x); }); }
__m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) {
    for (int i = 0; i < 16; ++i) a.v[i] = std::fma(a.v[i], b.v[i], c.v[i]);
    return a;
}
__m512 _mm512_castsi512_ps(__m512i a) { return same_bytes<__m512>(a); }
__m512 _mm512_scalef_ps(__m512 a, __m512 b) { return each(a, b, [](float x, float y) { return std::ldexp(x, static_cast<int>(y)); }); }
__m512i _mm512_castps_si512(__m512 a) { return same_bytes<__m512i>(a); }
__m512 _mm512_permutexvar_ps(__m512i index, __m512 table) {
    const U32 x(index);
    __m512 r;
    for (int i = 0; i < 16; ++i) r.v[i] = table.v[x.v[i] % 16];
    return r;
}
__m512 _mm512_andnot_ps(__m512 a, __m512 b) {
    return _mm512_castsi512_ps(each32(_mm512_castps_si512(a), _mm512_castps_si512(b), [](std::uint32_t x, std::uint32_t y) { return ~x & y; }));
}
float _mm512_reduce_max_ps(__m512 a) {
    for (int h = 8; h >= 1; h /= 2) {
        for (int i = 0; i < h; ++i) a.v[i] = a.v[i] > a.v[i + h] ? a.v[i] : a.v[i + h];
    }
    return a.v[0];
}
float _mm512_reduce_add_ps(__m512 a) {
    for (int h = 8; h >= 1; h /= 2) {
        for (int i = 0; i < h; ++i) a.v[i] += a.v[i + h];
    }
    return a.v[0];
}
__m512 _mm512_cvtph_ps(__m256i a) {
    __m512 r;
    for (int i = 0; i < 16; ++i) r.v[i] = turboquant::half_to_float(load_from<std::uint16_t>(a.v + 2 * i));
    return r;
}
__m256i _mm512_cvtps_ph(__m512 a, int) {
    std::uint16_t halves[16];
    for (int i = 0; i < 16; ++i) halves[i] = turboquant::float_to_half(a.v[i]);
    return same_bytes<__m256i>(halves);
}

// --- shuffles of floats, within quarters of four lanes and of quarters ---
template <class Pick>
__m512 pick_in_quarters(Pick pick) {
    __m512 r;
    for (int q = 0; q < 16; q += 4) {
        for (int i = 0; i < 4; ++i) r.v[q + i] = pick(q, i);
    }
    return r;
}
__m512 _mm512_unpacklo_ps(__m512 a, __m512 b) {
    return pick_in_quarters([&](int q, int i) { return (i % 2 ? b : a).v[q + i / 2]; });
}
__m512 _mm512_unpackhi_ps(__m512 a, __m512 b) {
    return pick_in_quarters([&](int q, int i) { return (i % 2 ? b : a).v[q + 2 + i / 2]; });
}
__m512 _mm512_shuffle_ps(__m512 a, __m512 b, int which) {
    return pick_in_quarters([&](int q, int i) { return (i < 2 ? a : b).v[q + (which >> 2 * i & 3)]; });
}
__m512 _mm512_shuffle_f32x4(__m512 a, __m512 b, int which) {
    return pick_in_quarters([&](int q, int i) { return (q < 8 ? a : b).v[4 * (which >> q / 2 & 3) + i]; });
}

// --- masks ---
template <class Is>
std::uint64_t mask_of(int lanes, Is is) {
    std::uint64_t mask = 0;
    for (int i = 0; i < lanes; ++i) mask |= static_cast<std::uint64_t>(is(i)) << i;
    return mask;
}
__mmask16 _mm512_cmp_ps_mask(__m512 a, __m512 b, int how) {
    return static_cast<__mmask16>(mask_of(16, [&](int i) { return how == _CMP_GE_OQ ? a.v[i] >= b.v[i] : a.v[i] > b.v[i]; }));
}
__mmask16 _mm512_movepi32_mask(__m512i a) {
    return static_cast<__mmask16>(mask_of(16, [x = U32(a)](int i) { return x.v[i] >> 31; }));
}
__mmask64 _mm512_test_epi8_mask(__m512i a, __m512i b) {
    return mask_of(64, [&](int i) { return (a.v[i] & b.v[i]) != 0; });
}
__m512 _mm512_mask_blend_ps(__mmask16 m, __m512 a, __m512 b) {
    for (int i = 0; i < 16; ++i) a.v[i] = m >> i & 1 ? b.v[i] : a.v[i];
    return a;
}
__m512 _mm512_maskz_mov_ps(__mmask16 m, __m512 a) { return _mm512_mask_blend_ps(m, _mm512_setzero_ps(), a); }
__m512i _mm512_mask_blend_epi8(__mmask64 m, __m512i a, __m512i b) {
    for (int i = 0; i < 64; ++i) a.v[i] = m >> i & 1 ? b.v[i] : a.v[i];
    return a;
}

// --- integers ---
__m512i _mm512_loadu_si512(const void* p) { return load_from<__m512i>(p); }
void _mm512_storeu_si512(void* p, __m512i a) { std::memcpy(p, &a, 64); }
__m256i _mm256_loadu_si256(const __m256i* p) { return load_from<__m256i>(p); }
void _mm256_storeu_si256(__m256i* p, __m256i a) { std::memcpy(static_cast<void*>(p), &a, 32); }
__m128i _mm_loadu_si128(const __m128i* p) { return load_from<__m128i>(p); }
void _mm_storeu_si128(__m128i* p, __m128i a) { std::memcpy(static_cast<void*>(p), &a, 16); }
__m512i _mm512_setzero_si512() { return {}; }
__m512i _mm512_set1_epi8(char v) { return each8({}, {}, [v](int, int) { return v; }); }
__m512i _mm512_set1_epi32(int v) { return each32({}, {}, [v](std::uint32_t, std::uint32_t) { return static_cast<std::uint32_t>(v); }); }
__m512i _mm512_and_si512(__m512i a, __m512i b) { return each8(a, b, [](int x, int y) { return x & y; }); }
__m512i _mm512_xor_si512(__m512i a, __m512i b) { return each8(a, b, [](int x, int y) { return x ^ y; }); }
__m512i _mm512_ternarylogic_epi32(__m512i a, __m512i b, __m512i c, int table) {
    for (int i = 0; i < 64; ++i) {
        int byte = 0;
        for (int bit = 0; bit < 8; ++bit) byte |= (table >> ((a.v[i] >> bit & 1) * 4 + (b.v[i] >> bit & 1) * 2 + (c.v[i] >> bit & 1)) & 1) << bit;
        a.v[i] = static_cast<std::uint8_t>(byte);
    }
    return a;
}
__m512i _mm512_permutexvar_epi8(__m512i index, __m512i table) { return each8(index, index, [&](int i, int) { return table.v[i % 64]; }); }
__m512i _mm512_or_si512(__m512i a, __m512i b) { return each8(a, b, [](int x, int y) { return x | y; }); }
__m512i _mm512_alignr_epi32(__m512i high, __m512i low, int n) {  // the pair, shifted right by n words
    const U32 h(high), l(low);
    U32 r;
    for (int i = 0; i < 16; ++i) r.v[i] = i + n < 16 ? l.v[i + n] : h.v[i + n - 16];
    return r;
}
__m512i _mm512_add_epi32(__m512i a, __m512i b) { return each32(a, b, [](std::uint32_t x, std::uint32_t y) { return x + y; }); }
__m512i _mm512_sub_epi32(__m512i a, __m512i b) { return each32(a, b, [](std::uint32_t x, std::uint32_t y) { return x - y; }); }
__m512i _mm512_slli_epi32(__m512i a, unsigned n) { return each32(a, a, [n](std::uint32_t x, std::uint32_t) { return x << n; }); }
__m512i _mm512_srai_epi32(__m512i a, unsigned n) {
    return each32(a, a, [n](std::uint32_t x, std::uint32_t) { return static_cast<std::uint32_t>(static_cast<std::int32_t>(x) >> n); });
}
__m512i _mm512_slli_epi16(__m512i a, unsigned n) {
    U16 x(a);
    for (std::uint16_t& lane : x.v) lane = static_cast<std::uint16_t>(lane << n);
    return x;
}
__m512i _mm512_srli_epi16(__m512i a, unsigned n) {
    U16 x(a);
    for (std::uint16_t& lane : x.v) lane = static_cast<std::uint16_t>(lane >> n);
    return x;
}
__m512i _mm512_broadcast_i32x4(__m128i a) {
    __m512i r;
    for (int i = 0; i < 64; ++i) r.v[i] = a.v[i % 16];
    return r;
}
__m512i _mm512_shuffle_epi8(__m512i table, __m512i index) {
    __m512i r;
    for (int i = 0; i < 64; ++i) r.v[i] = index.v[i] & 0x80 ? std::uint8_t{0} : table.v[i / 16 * 16 + (index.v[i] & 15)];
    return r;
}
__m512i _mm512_maskz_loadu_epi32(__mmask16 m, const void* p) {
    U32 r;
    for (int i = 0; i < 16; ++i) r.v[i] = m >> i & 1 ? load_from<std::uint32_t>(static_cast<const char*>(p) + 4 * i) : 0;
    return r;
}
// sum[i] += four products of an unsigned byte of a and a signed byte of b; wraps around.
__m512i _mm512_dpbusd_epi32(__m512i sum, __m512i a, __m512i b) {
    U32 r(sum);
    for (int i = 0; i < 64; ++i) r.v[i / 4] += static_cast<std::uint32_t>(a.v[i] * static_cast<std::int8_t>(b.v[i]));
    return r;
}
int _mm512_reduce_add_epi32(__m512i a) {
    std::uint32_t sum = 0;
    for (const std::uint32_t x : U32(a).v) sum += x;
    return static_cast<int>(sum);
}
// Rounds to nearest even; what does not fit becomes the smallest integer.
__m512i _mm512_cvtps_epi32(__m512 a) {
    S32 r;
    for (int i = 0; i < 16; ++i) {
        const float x = std::nearbyint(a.v[i]);
        r.v[i] = x >= -2147483648.0f && x < 2147483648.0f ? static_cast<std::int32_t>(x) : INT32_MIN;
    }
    return r;
}
__m512 _mm512_cvtepi32_ps(__m512i a) {
    const S32 x(a);
    __m512 r;
    for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(x.v[i]);
    return r;
}
__m128i _mm512_cvtepi32_epi8(__m512i a) {
    __m128i r;
    for (int i = 0; i < 16; ++i) r.v[i] = a.v[4 * i];
    return r;
}

}  // namespace

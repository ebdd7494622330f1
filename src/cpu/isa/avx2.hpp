// Vector vocabulary for AVX2 + FMA + F16C. Knows nothing of what it is used for.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace {

struct Isa {
    static constexpr int kLanes = 8;
    using F = __m256;
    using Mask = __m256;

    static F load(const float* p) { return _mm256_loadu_ps(p); }
    static void store(float* p, F v) { _mm256_storeu_ps(p, v); }
    static F set(float v) { return _mm256_set1_ps(v); }
    static F zero() { return _mm256_setzero_ps(); }
    static F add(F a, F b) { return _mm256_add_ps(a, b); }
    static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
    static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
    static F div(F a, F b) { return _mm256_div_ps(a, b); }
    static F sqrt(F a) { return _mm256_sqrt_ps(a); }
    static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
    static F min(F a, F b) { return _mm256_min_ps(a, b); }
    static F max(F a, F b) { return _mm256_max_ps(a, b); }
    static F abs(F a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
    static F round(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static Mask ge(F a, F b) { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
    static Mask gt(F a, F b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
    static Mask negative(F a) { return a; }  // by sign bit: what blendv looks at
    static F select(Mask m, F yes, F no) { return _mm256_blendv_ps(no, yes, m); }
    static F keep(Mask m, F a) { return _mm256_and_ps(m, a); }
    static constexpr bool kLookup8 = true;
    // table[the lowest three bits of index]
    static F lookup8(const float* table, F index) { return _mm256_permutevar8x32_ps(load(table), _mm256_castps_si256(index)); }
    static F load_half(const std::uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
    static void store_half(std::uint16_t* p, F v) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    // y * 2^n for integral n in [-126, 127]
    static F scale_exp2(F y, F n) {
        return mul(y, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23)));
    }
    static bool any(Mask m) { return _mm256_movemask_ps(m) != 0; }
    static float reduce_max(F v) {
        __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        m = _mm_max_ps(m, _mm_movehl_ps(m, m));
        return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
    }
    static float reduce_add(F v) {
        __m128 m = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        m = _mm_add_ps(m, _mm_movehl_ps(m, m));
        return _mm_cvtss_f32(_mm_add_ss(m, _mm_movehdup_ps(m)));
    }
    // out[c * out_stride + r] = in[r * in_stride + c] for r, c below kLanes.
    static void transpose(const float* in, std::size_t in_stride, float* out, std::size_t out_stride) {
        F r[8], t[8];
        for (int i = 0; i < 8; ++i) r[i] = load(in + i * in_stride);
        for (int i = 0; i < 8; i += 2) {
            t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
            t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
        }
        for (int i = 0; i < 8; i += 4) {
            r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
            r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
            r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
            r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
        }
        for (int i = 0; i < 4; ++i) {
            store(out + i * out_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
            store(out + (i + 4) * out_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
        }
    }

    // --- 64 byte lanes ---
    static constexpr bool kDotsInRegisters = false;
    static constexpr bool kWideLookup = false;  // look-ups of 16 entries
    struct Bytes {
        __m256i v[2];
    };
    static Bytes load_bytes(const std::uint8_t* p) {
        return {{_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32))}};
    }
    // (b >> shift) & mask in every byte
    template <int kShift>
    static Bytes shift_mask(Bytes b, int mask) {
        const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
        for (auto& v : b.v) v = _mm256_and_si256(_mm256_srli_epi16(v, kShift), m);
        return b;
    }
    // Signed bytes, or bytes that are 128 too large, as an operand of the dot products (B, below).
    static Bytes operand(Bytes b) { return b; }
    static Bytes operand_from_unsigned(Bytes b) {
        for (auto& v : b.v) v = _mm256_xor_si256(v, _mm256_set1_epi8(static_cast<char>(0x80)));
        return b;
    }
    // a ^ (b & mask)
    static Bytes xor_masked(Bytes a, Bytes b, int mask) {
        const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
        for (int i = 0; i < 2; ++i) a.v[i] = _mm256_xor_si256(a.v[i], _mm256_and_si256(b.v[i], m));
        return a;
    }
    // low | high << kShift, for bytes whose bits stay inside
    template <int kShift>
    static Bytes merge_bits(Bytes low, Bytes high) {
        for (int i = 0; i < 2; ++i) low.v[i] = _mm256_or_si256(low.v[i], _mm256_slli_epi16(high.v[i], kShift));
        return low;
    }
    // Every byte takes its lower neighbour's place within a group of four; the lowest becomes 0.
    static Bytes bytes_up(Bytes b) {
        for (auto& v : b.v) v = _mm256_slli_epi32(v, 8);
        return b;
    }
    // Every group of four takes the next one's place; the first becomes 0.
    static Bytes words_up(Bytes b) {
        const __m256i next = _mm256_setr_epi32(7, 0, 1, 2, 3, 4, 5, 6);
        const __m256i low = _mm256_permutevar8x32_epi32(b.v[0], next), high = _mm256_permutevar8x32_epi32(b.v[1], next);
        return {{_mm256_blend_epi32(low, _mm256_setzero_si256(), 1), _mm256_blend_epi32(high, low, 1)}};
    }
    // table[index] for index < 16
    static Bytes lookup(const std::int8_t* table, Bytes index) {
        const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
        for (auto& v : index.v) v = _mm256_shuffle_epi8(t, v);
        return index;
    }
    // bit kBit of which: yes, else no
    template <int kBit>
    static Bytes select_bytes(Bytes which, Bytes yes, Bytes no) {
        for (int i = 0; i < 2; ++i) no.v[i] = _mm256_blendv_epi8(no.v[i], yes.v[i], _mm256_slli_epi16(which.v[i], 7 - kBit));
        return no;
    }

    // --- integer dot products: C[r][n] = sum over k of A[r][k] * B[k][n] ---
    // B holds groups of kGroup consecutive-k numbers per n; here int16 pairs (k0,k2) and (k1,k3) of each four k.
    // A holds the same pairs as 32-bit words; one plane.
    static constexpr int kGroup = 2;
    static constexpr int kPlanes = 1;
    static constexpr int kBytesPerNumber = 2;   // of B
    static constexpr float kPackedMax = 32767;
    using Dot = __v8si;  // kLanes columns; with the addition's own type g++ 12 spares register copies

    // An operand of 16 columns x 4 k -> B; group4 counts fours of k, columns is B's row length.
    static void store_group4(std::uint8_t* b, int columns, int group4, int column, Bytes operand) {
        for (int i = 0; i < 2; ++i) {
            std::uint8_t* even = b + 4 * (static_cast<std::size_t>(2 * group4) * columns + column + 8 * i);
            std::uint8_t* odd = even + 4 * static_cast<std::size_t>(columns);
            const __m256i v = operand.v[i];
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(even), _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(odd), _mm256_srai_epi16(v, 8));
        }
    }
    static int number_at(const std::uint8_t* b, int columns, int k, int column) {
        const std::size_t pair = static_cast<std::size_t>(k / 4 * 2 + k % 2) * columns + column;
        return reinterpret_cast<const std::int16_t*>(b)[2 * pair + k % 4 / 2];
    }
    // round(x[k] * units) -> A
    static void pack(const float* x, float units, int dim, std::int32_t* a, std::size_t /*plane_words*/) {
        const __m256 u = _mm256_set1_ps(units);
        for (int k = 0; k < dim; k += 8) {
            const __m256i v = _mm256_cvtps_epi32(_mm256_mul_ps(load(x + k), u));
            const __m256i upper = _mm256_slli_epi32(_mm256_shuffle_epi32(v, 0x0e), 16);
            const __m256i words = _mm256_or_si256(_mm256_and_si256(v, _mm256_set1_epi32(0xffff)), upper);
            _mm_storel_epi64(reinterpret_cast<__m128i*>(a + k / 2), _mm256_castsi256_si128(words));
            _mm_storel_epi64(reinterpret_cast<__m128i*>(a + k / 2 + 2), _mm256_extracti128_si256(words, 1));
        }
    }
    // What a row's columns have too much because B is stored with an offset (none here).
    static std::int32_t offset_of(const std::int32_t*, std::size_t, int) { return 0; }
    struct B {
        __m256i v;
    };
    static B load_b(const std::uint8_t* b) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(b))}; }
    static Dot dot_zero() { return (__v8si)_mm256_setzero_si256(); }
    static Dot dot_step(Dot acc, B b, const std::int32_t* a, std::size_t /*plane_words*/) {
        return (__v8si)_mm256_add_epi32((__m256i)acc, _mm256_madd_epi16(b.v, _mm256_set1_epi32(*a)));
    }
    static F dot_value(Dot acc, std::int32_t) { return _mm256_cvtepi32_ps((__m256i)acc); }
};

}  // namespace

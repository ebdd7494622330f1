// Vector vocabulary for AVX-512 (F, BW, DQ, VL) with VNNI. Knows nothing of what it is used for.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace {

struct Isa {
    static constexpr int kLanes = 16;
    using F = __m512;
    using Mask = __mmask16;

    static F load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, F v) { _mm512_storeu_ps(p, v); }
    static F set(float v) { return _mm512_set1_ps(v); }
    static F zero() { return _mm512_setzero_ps(); }
    static F add(F a, F b) { return _mm512_add_ps(a, b); }
    static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
    static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
    static F div(F a, F b) { return _mm512_div_ps(a, b); }
    static F sqrt(F a) { return _mm512_sqrt_ps(a); }
    static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
    static F min(F a, F b) { return _mm512_min_ps(a, b); }
    static F max(F a, F b) { return _mm512_max_ps(a, b); }
    static F abs(F a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }
    static F round(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static Mask ge(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
    static Mask gt(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
    static Mask negative(F a) { return _mm512_movepi32_mask(_mm512_castps_si512(a)); }  // by sign bit
    static F select(Mask m, F yes, F no) { return _mm512_mask_blend_ps(m, no, yes); }
    static F keep(Mask m, F a) { return _mm512_maskz_mov_ps(m, a); }
    static constexpr bool kLookup8 = true;
    // table[the lowest three bits of index]; table has its eight numbers twice, since the instruction looks at four bits.
    static F lookup8(const float* table, F index) { return _mm512_permutexvar_ps(_mm512_castps_si512(index), load(table)); }
    static F load_half(const std::uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
    static void store_half(std::uint16_t* p, F v) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    // y * 2^n for integral n in [-126, 127]
    static F scale_exp2(F y, F n) { return _mm512_scalef_ps(y, n); }
    static bool any(Mask m) { return m != 0; }
    static float reduce_max(F v) { return _mm512_reduce_max_ps(v); }
    static float reduce_add(F v) { return _mm512_reduce_add_ps(v); }
    // out[c * out_stride + r] = in[r * in_stride + c] for r, c below kLanes.
    static void transpose(const float* in, std::size_t in_stride, float* out, std::size_t out_stride) {
        F r[16], t[16];
        for (int i = 0; i < 16; ++i) r[i] = load(in + i * in_stride);
        for (int i = 0; i < 16; i += 2) {
            t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
            t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
        }
        for (int i = 0; i < 16; i += 4) {
            r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
            r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
            r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
            r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
        }
        // Quarter l of r[4g + c] is column 4l + c of rows 4g..4g+3: what is left is a transpose of 4 x 4 quarters for each c.
        for (int c = 0; c < 4; ++c) {
            const F a01 = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x44), a23 = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xee);
            const F b01 = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x44), b23 = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xee);
            store(out + c * out_stride, _mm512_shuffle_f32x4(a01, b01, 0x88));
            store(out + (4 + c) * out_stride, _mm512_shuffle_f32x4(a01, b01, 0xdd));
            store(out + (8 + c) * out_stride, _mm512_shuffle_f32x4(a23, b23, 0x88));
            store(out + (12 + c) * out_stride, _mm512_shuffle_f32x4(a23, b23, 0xdd));
        }
    }

    // --- 64 byte lanes ---
    static constexpr bool kDotsInRegisters = true;
    static constexpr bool kWideLookup = false;  // look-ups of 16 entries
    struct Bytes {
        __m512i v;
    };
    static Bytes load_bytes(const std::uint8_t* p) { return {_mm512_loadu_si512(p)}; }
    // (b >> shift) & mask in every byte
    template <int kShift>
    static Bytes shift_mask(Bytes b, int mask) {
        return {_mm512_and_si512(_mm512_srli_epi16(b.v, kShift), _mm512_set1_epi8(static_cast<char>(mask)))};
    }
    // Signed bytes, or bytes that are 128 too large, as an operand of the dot products (B, below).
    static Bytes operand(Bytes b) { return {_mm512_xor_si512(b.v, _mm512_set1_epi8(static_cast<char>(0x80)))}; }
    static Bytes operand_from_unsigned(Bytes b) { return b; }
    // a ^ (b & mask)
    static Bytes xor_masked(Bytes a, Bytes b, int mask) { return {_mm512_ternarylogic_epi32(a.v, b.v, _mm512_set1_epi8(static_cast<char>(mask)), 0x78)}; }
    // low | high << kShift, for bytes whose bits stay inside
    template <int kShift>
    static Bytes merge_bits(Bytes low, Bytes high) {
        return {_mm512_or_si512(low.v, _mm512_slli_epi16(high.v, kShift))};
    }
    // Every byte takes its lower neighbour's place within a group of four; the lowest becomes 0.
    static Bytes bytes_up(Bytes b) { return {_mm512_slli_epi32(b.v, 8)}; }
    // Every group of four takes the next one's place; the first becomes 0.
    static Bytes words_up(Bytes b) { return {_mm512_alignr_epi32(b.v, _mm512_setzero_si512(), 15)}; }
    // table[index] for index < 16
    static Bytes lookup(const std::int8_t* table, Bytes index) {
        const __m512i t = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
        return {_mm512_shuffle_epi8(t, index.v)};
    }
    // bit kBit of which: yes, else no
    template <int kBit>
    static Bytes select_bytes(Bytes which, Bytes yes, Bytes no) {
        return {_mm512_mask_blend_epi8(_mm512_test_epi8_mask(which.v, _mm512_set1_epi8(static_cast<char>(1 << kBit))), no.v, yes.v)};
    }

    // --- integer dot products: C[r][n] = sum over k of A[r][k] * B[k][n] ---
    // vpdpbusd multiplies unsigned by signed bytes, four neighbouring k per 32-bit column. B holds bytes with an offset of
    // 128 to be unsigned. A's 16-bit numbers are two planes of signed bytes, 256 * high + low; all arithmetic is modulo
    // 2^32, which is exact as long as C itself fits.
    static constexpr int kGroup = 4;
    static constexpr int kPlanes = 2;
    static constexpr int kBytesPerNumber = 1;  // of B
    static constexpr float kPackedMax = 127 * 256 + 127;  // more would round up to a high byte of 128
    // Of the instruction's own vector type: g++ 12 surrounds it with register copies otherwise.
    struct Dot {
        __v16si high, low;  // kLanes columns
    };

    // An operand of 16 columns x 4 k -> B; group4 counts fours of k, columns is B's row length.
    static void store_group4(std::uint8_t* b, int columns, int group4, int column, Bytes operand) {
        _mm512_storeu_si512(b + 4 * (static_cast<std::size_t>(group4) * columns + column), operand.v);
    }
    static int number_at(const std::uint8_t* b, int columns, int k, int column) {
        return b[4 * (static_cast<std::size_t>(k / 4) * columns + column) + k % 4] - 128;
    }
    // round(x[k] * units) -> A
    static void pack(const float* x, float units, int dim, std::int32_t* a, std::size_t plane_words) {
        const __m512 u = _mm512_set1_ps(units);
        for (int k = 0; k < dim; k += 16) {
            const __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(load(x + k), u));
            const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(v, _mm512_set1_epi32(128)), 8);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(a + k / 4), _mm512_cvtepi32_epi8(high));
            // The low byte as it is, read as signed, is what high was rounded to leave.
            _mm_storeu_si128(reinterpret_cast<__m128i*>(a + plane_words + k / 4), _mm512_cvtepi32_epi8(v));
        }
    }
    // What a row's columns have too much because B is stored with an offset: 128 times the sum of the row.
    static std::int32_t offset_of(const std::int32_t* a, std::size_t plane_words, int groups) {
        const __m512i ones = _mm512_set1_epi8(1);
        __m512i high = _mm512_setzero_si512(), low = high;
        for (int g = 0; g < groups; g += 16) {
            const auto inside = static_cast<__mmask16>(groups - g >= 16 ? 0xffff : (1 << (groups - g)) - 1);
            high = _mm512_dpbusd_epi32(high, ones, _mm512_maskz_loadu_epi32(inside, a + g));
            low = _mm512_dpbusd_epi32(low, ones, _mm512_maskz_loadu_epi32(inside, a + plane_words + g));
        }
        const int sum = _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(high, 8), low));
        return static_cast<std::int32_t>(128u * static_cast<std::uint32_t>(sum));
    }
    struct B {
        __m512i v;
    };
    static B as_b(Bytes operand) { return {operand.v}; }
    static B load_b(const std::uint8_t* b) { return {_mm512_loadu_si512(b)}; }
    static Dot dot_zero() { return {(__v16si)_mm512_setzero_si512(), (__v16si)_mm512_setzero_si512()}; }
    static Dot dot_step(Dot acc, B b, const std::int32_t* a, std::size_t plane_words) {
        return {(__v16si)_mm512_dpbusd_epi32((__m512i)acc.high, b.v, _mm512_set1_epi32(a[0])),
                (__v16si)_mm512_dpbusd_epi32((__m512i)acc.low, b.v, _mm512_set1_epi32(a[plane_words]))};
    }
    static Dot dot_add(Dot a, Dot b) {
        return {(__v16si)_mm512_add_epi32((__m512i)a.high, (__m512i)b.high), (__v16si)_mm512_add_epi32((__m512i)a.low, (__m512i)b.low)};
    }
    static F dot_value(Dot acc, std::int32_t offset) {
        const __m512i sum = _mm512_add_epi32(_mm512_slli_epi32((__m512i)acc.high, 8), (__m512i)acc.low);
        return _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_set1_epi32(offset)));
    }
};

}  // namespace

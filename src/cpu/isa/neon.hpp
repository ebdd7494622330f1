// Vector vocabulary for AArch64 NEON with the dot product extension. Knows nothing of what it is used for.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace {

struct Isa {
    // One register. With two, the sums of an integer product (4 rows x 2 x kLanes columns x 2 planes) would take all 32 there are.
    static constexpr int kLanes = 4;
    using F = float32x4_t;
    using Mask = uint32x4_t;

    static F load(const float* p) { return vld1q_f32(p); }
    static void store(float* p, F v) { vst1q_f32(p, v); }
    static F set(float v) { return vdupq_n_f32(v); }
    static F zero() { return vdupq_n_f32(0); }
    static F add(F a, F b) { return vaddq_f32(a, b); }
    static F sub(F a, F b) { return vsubq_f32(a, b); }
    static F mul(F a, F b) { return vmulq_f32(a, b); }
    static F div(F a, F b) { return vdivq_f32(a, b); }
    static F sqrt(F a) { return vsqrtq_f32(a); }
    static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
    // The second operand if one is NaN, as on x86; Arm's own instructions have two other rules.
    static F min(F a, F b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
    static F max(F a, F b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
    static F abs(F a) { return vabsq_f32(a); }
    static F round(F a) { return vrndnq_f32(a); }
    static Mask ge(F a, F b) { return vcgeq_f32(a, b); }
    static Mask gt(F a, F b) { return vcgtq_f32(a, b); }
    static Mask negative(F a) { return vcltzq_s32(vreinterpretq_s32_f32(a)); }  // by sign bit
    static F select(Mask m, F yes, F no) { return vbslq_f32(m, yes, no); }
    static F keep(Mask m, F a) { return vreinterpretq_f32_u32(vandq_u32(m, vreinterpretq_u32_f32(a))); }
    static F load_half(const std::uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
    static void store_half(std::uint16_t* p, F v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
    // y * 2^n for integral n in [-126, 127]
    static F scale_exp2(F y, F n) { return mul(y, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23))); }
    static bool any(Mask m) { return vmaxvq_u32(m) != 0; }
    static float reduce_max(F v) { return vmaxnmvq_f32(v); }
    static float reduce_add(F v) { return vaddvq_f32(v); }
    // out[c * out_stride + r] = in[r * in_stride + c] for r, c below kLanes.
    static void transpose(const float* in, std::size_t in_stride, float* out, std::size_t out_stride) {
        const F r0 = load(in), r1 = load(in + in_stride), r2 = load(in + 2 * in_stride), r3 = load(in + 3 * in_stride);
        const float32x4x2_t t01 = vtrnq_f32(r0, r1), t23 = vtrnq_f32(r2, r3);  // columns 0 and 2, 1 and 3 of two rows
        store(out, vcombine_f32(vget_low_f32(t01.val[0]), vget_low_f32(t23.val[0])));
        store(out + out_stride, vcombine_f32(vget_low_f32(t01.val[1]), vget_low_f32(t23.val[1])));
        store(out + 2 * out_stride, vcombine_f32(vget_high_f32(t01.val[0]), vget_high_f32(t23.val[0])));
        store(out + 3 * out_stride, vcombine_f32(vget_high_f32(t01.val[1]), vget_high_f32(t23.val[1])));
    }

    // --- 64 byte lanes ---
    static constexpr bool kLookup8 = false;  // look-ups of 8 floats
    static constexpr bool kDotsInRegisters = false;
    static constexpr bool kWideLookup = false;  // look-ups of 16 entries
    struct Bytes {
        uint8x16_t v[4];
    };
    static Bytes load_bytes(const std::uint8_t* p) { return {{vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)}}; }
    // (b >> shift) & mask in every byte
    template <int kShift>
    static Bytes shift_mask(Bytes b, int mask) {
        const uint8x16_t m = vdupq_n_u8(static_cast<std::uint8_t>(mask));
        for (auto& v : b.v) {
            if constexpr (kShift > 0) v = vshrq_n_u8(v, kShift);
            v = vandq_u8(v, m);
        }
        return b;
    }
    // Signed bytes, or bytes that are 128 too large, as an operand of the dot products (B, below).
    static Bytes operand(Bytes b) { return b; }
    static Bytes operand_from_unsigned(Bytes b) {
        for (auto& v : b.v) v = veorq_u8(v, vdupq_n_u8(0x80));
        return b;
    }
    // a ^ (b & mask)
    static Bytes xor_masked(Bytes a, Bytes b, int mask) {
        for (int i = 0; i < 4; ++i) a.v[i] = veorq_u8(a.v[i], vandq_u8(b.v[i], vdupq_n_u8(static_cast<std::uint8_t>(mask))));
        return a;
    }
    // low | high << kShift, for bytes whose bits stay inside
    template <int kShift>
    static Bytes merge_bits(Bytes low, Bytes high) {
        for (int i = 0; i < 4; ++i) low.v[i] = vorrq_u8(low.v[i], vshlq_n_u8(high.v[i], kShift));
        return low;
    }
    // Every byte takes its lower neighbour's place within a group of four; the lowest becomes 0.
    static Bytes bytes_up(Bytes b) {
        for (auto& v : b.v) v = vreinterpretq_u8_u32(vshlq_n_u32(vreinterpretq_u32_u8(v), 8));
        return b;
    }
    // Every group of four takes the next one's place; the first becomes 0.
    static Bytes words_up(Bytes b) {
        return {{vextq_u8(vdupq_n_u8(0), b.v[0], 12), vextq_u8(b.v[0], b.v[1], 12), vextq_u8(b.v[1], b.v[2], 12),
                 vextq_u8(b.v[2], b.v[3], 12)}};
    }
    // table[index] for index < 16
    static Bytes lookup(const std::int8_t* table, Bytes index) {
        const uint8x16_t t = vreinterpretq_u8_s8(vld1q_s8(table));
        for (auto& v : index.v) v = vqtbl1q_u8(t, v);
        return index;
    }
    // bit kBit of which: yes, else no
    template <int kBit>
    static Bytes select_bytes(Bytes which, Bytes yes, Bytes no) {
        for (int i = 0; i < 4; ++i) no.v[i] = vbslq_u8(vtstq_u8(which.v[i], vdupq_n_u8(1 << kBit)), yes.v[i], no.v[i]);
        return no;
    }

    // --- integer dot products: C[r][n] = sum over k of A[r][k] * B[k][n] ---
    // SDOT multiplies signed bytes, four neighbouring k per 32-bit column. A's 16-bit numbers are two planes of signed
    // bytes, 256 * high + low; all arithmetic is modulo 2^32, which is exact as long as C itself fits.
    static constexpr int kGroup = 4;
    static constexpr int kPlanes = 2;
    static constexpr int kBytesPerNumber = 1;             // of B
    static constexpr float kPackedMax = 127 * 256 + 127;  // more would round up to a high byte of 128
    struct Dot {
        int32x4_t high, low;  // kLanes columns
    };

    // An operand of 16 columns x 4 k -> B; group4 counts fours of k, columns is B's row length.
    static void store_group4(std::uint8_t* b, int columns, int group4, int column, Bytes operand) {
        std::uint8_t* at = b + 4 * (static_cast<std::size_t>(group4) * columns + column);
        for (int i = 0; i < 4; ++i) vst1q_u8(at + 16 * i, operand.v[i]);
    }
    static int number_at(const std::uint8_t* b, int columns, int k, int column) {
        return static_cast<std::int8_t>(b[4 * (static_cast<std::size_t>(k / 4) * columns + column) + k % 4]);
    }
    // round(x[k] * units) -> A
    static void pack(const float* x, float units, int dim, std::int32_t* a, std::size_t plane_words) {
        const F u = set(units);
        for (int k = 0; k < dim; k += 16) {
            int32x4_t v[4], high[4];
            for (int i = 0; i < 4; ++i) {
                v[i] = vcvtnq_s32_f32(vmulq_f32(load(x + k + 4 * i), u));
                high[i] = vrshrq_n_s32(v[i], 8);
            }
            vst1q_s32(a + k / 4, lowest_bytes(high));
            // The low byte as it is, read as signed, is what high was rounded to leave.
            vst1q_s32(a + plane_words + k / 4, lowest_bytes(v));
        }
    }
    // What a row's columns have too much because B is stored with an offset (none here).
    static std::int32_t offset_of(const std::int32_t*, std::size_t, int) { return 0; }
    struct B {
        int8x16_t v;
    };
    static B load_b(const std::uint8_t* b) { return {vreinterpretq_s8_u8(vld1q_u8(b))}; }
    static Dot dot_zero() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
    static Dot dot_step(Dot acc, B b, const std::int32_t* a, std::size_t plane_words) {
        return {vdotq_s32(acc.high, b.v, vreinterpretq_s8_s32(vld1q_dup_s32(a))),
                vdotq_s32(acc.low, b.v, vreinterpretq_s8_s32(vld1q_dup_s32(a + plane_words)))};
    }
    static F dot_value(Dot acc, std::int32_t) { return vcvtq_f32_s32(vaddq_s32(vshlq_n_s32(acc.high, 8), acc.low)); }

private:
    // The lowest byte of each of 16 numbers.
    static int32x4_t lowest_bytes(const int32x4_t v[4]) {
        const int16x8_t first = vuzp1q_s16(vreinterpretq_s16_s32(v[0]), vreinterpretq_s16_s32(v[1]));
        const int16x8_t second = vuzp1q_s16(vreinterpretq_s16_s32(v[2]), vreinterpretq_s16_s32(v[3]));
        return vreinterpretq_s32_s8(vuzp1q_s8(vreinterpretq_s8_s16(first), vreinterpretq_s8_s16(second)));
    }
};

}  // namespace

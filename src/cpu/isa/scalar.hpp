// Vector vocabulary in plain C++: eight lanes as an array. Knows nothing of what it is used for.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

struct Isa {
    static constexpr int kLanes = 8;
    struct F {
        float v[8];
    };
    struct Mask {
        bool v[8];
    };

    template <class Op>
    static F map(F a, Op op) {
        for (float& x : a.v) x = op(x);
        return a;
    }
    template <class Op>
    static F map(F a, F b, Op op) {
        for (int i = 0; i < 8; ++i) a.v[i] = op(a.v[i], b.v[i]);
        return a;
    }
    template <class Op>
    static Mask compare(F a, F b, Op op) {
        Mask m;
        for (int i = 0; i < 8; ++i) m.v[i] = op(a.v[i], b.v[i]);
        return m;
    }

    static F load(const float* p) {
        F r;
        std::memcpy(r.v, p, sizeof r.v);
        return r;
    }
    static void store(float* p, F v) { std::memcpy(p, v.v, sizeof v.v); }
    static F set(float v) { return {{v, v, v, v, v, v, v, v}}; }
    static F zero() { return set(0); }
    static F add(F a, F b) { return map(a, b, [](float x, float y) { return x + y; }); }
    static F sub(F a, F b) { return map(a, b, [](float x, float y) { return x - y; }); }
    static F mul(F a, F b) { return map(a, b, [](float x, float y) { return x * y; }); }
    static F div(F a, F b) { return map(a, b, [](float x, float y) { return x / y; }); }
    static F sqrt(F a) { return map(a, [](float x) { return __builtin_sqrtf(x); }); }
    static F fma(F a, F b, F c) { return add(mul(a, b), c); }
    static F min(F a, F b) { return map(a, b, [](float x, float y) { return x < y ? x : y; }); }
    static F max(F a, F b) { return map(a, b, [](float x, float y) { return x > y ? x : y; }); }
    static F abs(F a) { return map(a, [](float x) { return __builtin_fabsf(x); }); }
    static F round(F a) { return map(a, [](float x) { return __builtin_nearbyintf(x); }); }
    static Mask ge(F a, F b) { return compare(a, b, [](float x, float y) { return x >= y; }); }
    static Mask gt(F a, F b) { return compare(a, b, [](float x, float y) { return x > y; }); }
    static Mask negative(F a) { return compare(a, a, [](float x, float) { return __builtin_signbit(x) != 0; }); }
    static F select(Mask m, F yes, F no) {
        for (int i = 0; i < 8; ++i) no.v[i] = m.v[i] ? yes.v[i] : no.v[i];
        return no;
    }
    static F keep(Mask m, F a) { return select(m, a, zero()); }
    static float half_value(std::uint16_t h) {
        const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
        std::uint32_t bits = sign | ((magnitude + (112u << 10)) << 13);
        if (magnitude >= 0x7c00u) bits = sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13) | (magnitude > 0x7c00u ? 0x400000u : 0u);
        float value;
        std::memcpy(&value, &bits, 4);
        if (magnitude < 0x400u) value = static_cast<float>(magnitude) * (sign ? -0x1p-24f : 0x1p-24f);
        return value;
    }
    static std::uint16_t to_half(float value) {
        std::uint32_t bits;
        std::memcpy(&bits, &value, 4);
        const std::uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
        if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x1ffu));
        if (magnitude >= 0x47800000u) return static_cast<std::uint16_t>(sign | 0x7c00u);
        if (magnitude < 0x38800000u) {
            float aligned;
            std::memcpy(&aligned, &magnitude, 4);
            aligned += 0.5f;
            std::memcpy(&bits, &aligned, 4);
            return static_cast<std::uint16_t>(sign | (bits - 0x3f000000u));
        }
        return static_cast<std::uint16_t>(sign | ((magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13));
    }
    static F load_half(const std::uint16_t* p) {
        F r;
        for (int i = 0; i < 8; ++i) r.v[i] = half_value(p[i]);
        return r;
    }
    static void store_half(std::uint16_t* p, F v) {
        for (int i = 0; i < 8; ++i) p[i] = to_half(v.v[i]);
    }
    // y * 2^n for integral n in [-126, 127]
    static F scale_exp2(F y, F n) {
        return map(y, n, [](float a, float x) {
            const std::uint32_t bits = static_cast<std::uint32_t>(static_cast<int>(x) + 127) << 23;
            float value;
            std::memcpy(&value, &bits, 4);
            return a * value;
        });
    }
    static bool any(Mask m) {
        bool found = false;
        for (bool x : m.v) found |= x;
        return found;
    }
    static float reduce_max(F v) {
        float m = v.v[0];
        for (float x : v.v) m = x > m ? x : m;
        return m;
    }
    static float reduce_add(F v) {
        float s = 0;
        for (float x : v.v) s += x;
        return s;
    }
    static void transpose(const float* in, std::size_t in_stride, float* out, std::size_t out_stride) {
        for (int r = 0; r < 8; ++r) {
            for (int c = 0; c < 8; ++c) out[c * out_stride + r] = in[r * in_stride + c];
        }
    }

    static constexpr bool kLookup8 = false;  // look-ups of 8 floats
    static constexpr bool kDotsInRegisters = false;
    static constexpr bool kWideLookup = false;  // look-ups of 16 entries
    struct Bytes {
        std::uint8_t v[64];
    };
    static Bytes load_bytes(const std::uint8_t* p) {
        Bytes b;
        std::memcpy(b.v, p, 64);
        return b;
    }
    template <int kShift>
    static Bytes shift_mask(Bytes b, int mask) {
        for (auto& x : b.v) x = static_cast<std::uint8_t>(x >> kShift & mask);
        return b;
    }
    // Signed bytes, or bytes that are 128 too large, as an operand of the dot products (B, below).
    static Bytes operand(Bytes b) { return b; }
    static Bytes operand_from_unsigned(Bytes b) {
        for (auto& x : b.v) x ^= 0x80;
        return b;
    }
    // a ^ (b & mask)
    static Bytes xor_masked(Bytes a, Bytes b, int mask) {
        for (int i = 0; i < 64; ++i) a.v[i] ^= static_cast<std::uint8_t>(b.v[i] & mask);
        return a;
    }
    // low | high << kShift, for bytes whose bits stay inside
    template <int kShift>
    static Bytes merge_bits(Bytes low, Bytes high) {
        for (int i = 0; i < 64; ++i) low.v[i] = static_cast<std::uint8_t>(low.v[i] | high.v[i] << kShift);
        return low;
    }
    // Every byte takes its lower neighbour's place within a group of four; the lowest becomes 0.
    static Bytes bytes_up(Bytes b) {
        for (int i = 63; i >= 0; --i) b.v[i] = i % 4 == 0 ? 0 : b.v[i - 1];
        return b;
    }
    // Every group of four takes the next one's place; the first becomes 0.
    static Bytes words_up(Bytes b) {
        for (int i = 63; i >= 0; --i) b.v[i] = i < 4 ? 0 : b.v[i - 4];
        return b;
    }
    static Bytes lookup(const std::int8_t* table, Bytes index) {
        for (auto& x : index.v) x = static_cast<std::uint8_t>(table[x]);
        return index;
    }
    template <int kBit>
    static Bytes select_bytes(Bytes which, Bytes yes, Bytes no) {
        for (int i = 0; i < 64; ++i) no.v[i] = which.v[i] >> kBit & 1 ? yes.v[i] : no.v[i];
        return no;
    }

    static constexpr int kGroup = 2;
    static constexpr int kPlanes = 1;
    static constexpr int kBytesPerNumber = 2;
    static constexpr float kPackedMax = 32767;
    struct Dot {
        std::int32_t v[8];
    };
    // Pairs (k0,k1) and (k2,k3) of each four k.
    static void store_group4(std::uint8_t* b, int columns, int group4, int column, Bytes operand) {
        for (int n = 0; n < 16; ++n) {
            for (int i = 0; i < 4; ++i) {
                const std::int16_t value = static_cast<std::int8_t>(operand.v[4 * n + i]);
                const std::size_t pair = static_cast<std::size_t>(2 * group4 + i / 2) * columns + column + n;
                std::memcpy(b + 4 * pair + 2 * (i % 2), &value, 2);
            }
        }
    }
    static int number_at(const std::uint8_t* b, int columns, int k, int column) {
        std::int16_t value;
        std::memcpy(&value, b + 4 * (static_cast<std::size_t>(k / 2) * columns + column) + 2 * (k % 2), 2);
        return value;
    }
    static void pack(const float* x, float units, int dim, std::int32_t* a, std::size_t) {
        for (int k = 0; k < dim; k += 2) {
            const auto low = static_cast<std::int32_t>(__builtin_nearbyintf(x[k] * units));
            const auto high = static_cast<std::int32_t>(__builtin_nearbyintf(x[k + 1] * units));
            a[k / 2] = static_cast<std::int32_t>((static_cast<std::uint32_t>(high) << 16) | (static_cast<std::uint32_t>(low) & 0xffffu));
        }
    }
    static std::int32_t offset_of(const std::int32_t*, std::size_t, int) { return 0; }
    struct B {
        std::int16_t v[16];
    };
    static B load_b(const std::uint8_t* b) {
        B r;
        std::memcpy(r.v, b, 32);
        return r;
    }
    static Dot dot_zero() { return {}; }
    static Dot dot_step(Dot acc, B b, const std::int32_t* a, std::size_t) {
        const std::int32_t low = static_cast<std::int16_t>(*a & 0xffff), high = *a >> 16;
        for (int n = 0; n < 8; ++n) acc.v[n] += low * b.v[2 * n] + high * b.v[2 * n + 1];
        return acc;
    }
    static F dot_value(Dot acc, std::int32_t) {
        F r;
        for (int n = 0; n < 8; ++n) r.v[n] = static_cast<float>(acc.v[n]);
        return r;
    }
};

}  // namespace

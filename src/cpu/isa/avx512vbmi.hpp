// Vector vocabulary for AVX-512 with VNNI and VBMI: that of AVX-512 with look-ups in 64 entries. Knows nothing of what it is used for.
#pragma once

#define Isa Avx512
#include "cpu/isa/avx512vnni.hpp"
#undef Isa

namespace {

struct Isa : Avx512 {
    static constexpr bool kWideLookup = true;
    // num (4 to 64, a power of two) signed bytes, repeated to 64, as operands of the dot products.
    static Bytes wide_table(const std::int8_t* table, int num) {
        alignas(64) std::uint8_t all[64];
        for (int i = 0; i < 64; ++i) all[i] = static_cast<std::uint8_t>(table[i % num]);
        return operand(load_bytes(all));
    }
    // table[index % 64]
    static Bytes wide_lookup(Bytes table, Bytes index) { return {_mm512_permutexvar_epi8(index.v, table.v)}; }
    // (yes & mask) | (no & ~mask)
    static Bytes bit_select(int mask, Bytes yes, Bytes no) {
        return {_mm512_ternarylogic_epi32(_mm512_set1_epi8(static_cast<char>(mask)), yes.v, no.v, 0xca)};
    }
    // Every byte's bits moved down (or up, below zero); what comes in is of the neighbouring byte or zero.
    template <int kShift>
    static Bytes shift_right(Bytes b) {
        if constexpr (kShift > 0) return {_mm512_srli_epi16(b.v, kShift)};
        if constexpr (kShift < 0) return {_mm512_slli_epi16(b.v, -kShift)};
        return b;
    }
};

}  // namespace

// Vector vocabulary for AVX-VNNI: that of AVX2 with its own step of the dot products. Knows nothing of what it is used for.
#pragma once

#define Isa Avx2
#include "cpu/isa/avx2.hpp"
#undef Isa

namespace {

struct Isa : Avx2 {
    // Two 16-bit products into each column in one instruction, where AVX2 takes two. The one for bytes (vpdpbusd) multiplies twice as
    // many numbers, but a 16-bit A is two planes of bytes: no fewer steps, and twice as many sums, which fill all sixteen registers.
    static Dot dot_step(Dot acc, B b, const std::int32_t* a, std::size_t /*plane_words*/) {
        return (__v8si)_mm256_dpwssd_avx_epi32((__m256i)acc, b.v, _mm256_set1_epi32(*a));
    }
};

}  // namespace

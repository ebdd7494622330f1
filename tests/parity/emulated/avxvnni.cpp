// The avxvnni row of kernels with its one instruction beyond AVX2 emulated, and a dispatch that offers nothing else (see
// avx512vnni.cpp here).
#include <immintrin.h>

#include <cstdint>
#include <string>

namespace {

// Intel's pseudocode: sum[i] += two products of signed 16-bit numbers; wraps around.
__m256i emulated_dpwssd(__m256i sum, __m256i a, __m256i b) {
    alignas(32) std::uint32_t s[8];
    alignas(32) std::int16_t x[16], y[16];
    _mm256_store_si256(reinterpret_cast<__m256i*>(s), sum);
    _mm256_store_si256(reinterpret_cast<__m256i*>(x), a);
    _mm256_store_si256(reinterpret_cast<__m256i*>(y), b);
    for (int i = 0; i < 16; ++i) s[i / 2] += static_cast<std::uint32_t>(x[i] * y[i]);
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(s));
}

}  // namespace

#define _mm256_dpwssd_avx_epi32 emulated_dpwssd
#include "cpu/avxvnni.cpp"

namespace turboquant {

namespace cpu {
const Kernels& kernels() { return kKernels_avxvnni; }
}  // namespace cpu

std::string isa_name();
std::string isa_name() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? "avxvnni" : "nothing: no AVX2"; }

}  // namespace turboquant

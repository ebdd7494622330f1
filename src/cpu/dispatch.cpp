// Which row of kernels serves this process: found once, can be forced, can say why.
#include <cstdlib>
#include <cstring>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "cpu/kernels.hpp"
#include "turboquant/cpu.hpp"

namespace turboquant {
namespace cpu {

// The rows that src/cpu/CMakeLists.txt compiles for this architecture; null stands for the others.
#define TQ_ROW(isa)                      \
    extern const Kernels kKernels_##isa; \
    constexpr const Kernels* kRow_##isa = &kKernels_##isa
#define TQ_NO_ROW(isa) constexpr const Kernels* kRow_##isa = nullptr
TQ_ROW(scalar);
#ifdef TQ_HAVE_avx2
TQ_ROW(avx2);
#else
TQ_NO_ROW(avx2);
#endif
#ifdef TQ_HAVE_avxvnni
TQ_ROW(avxvnni);
#else
TQ_NO_ROW(avxvnni);
#endif
#ifdef TQ_HAVE_avx512vnni
TQ_ROW(avx512vnni);
#else
TQ_NO_ROW(avx512vnni);
#endif
#ifdef TQ_HAVE_avx512vbmi
TQ_ROW(avx512vbmi);
#else
TQ_NO_ROW(avx512vbmi);
#endif
#ifdef TQ_HAVE_neon
TQ_ROW(neon);
#else
TQ_NO_ROW(neon);
#endif
#undef TQ_ROW
#undef TQ_NO_ROW

namespace {

struct Candidate {
    const char* name;
    const Kernels* row;  // null: not compiled for this architecture
    bool supported;
    const char* needs;
};

#if defined(__x86_64__)
// (F16C cannot be asked for with every compiler; there is no processor with AVX2 and without it.)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avxvnni() {  // (nor can AVX-VNNI)
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return has_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1) != 0;
}
bool has_avx512vnni() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
}
bool has_avx512vbmi() { return has_avx512vnni() && __builtin_cpu_supports("avx512vbmi"); }
#else
bool has_avx2() { return false; }
bool has_avxvnni() { return false; }
bool has_avx512vnni() { return false; }
bool has_avx512vbmi() { return false; }
#endif

#if defined(__aarch64__) && defined(__linux__)
bool has_neon() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
#else
bool has_neon() { return false; }
#endif

// Fastest first.
const Candidate* candidates() {
    static const Candidate list[] = {
        {"avx512vbmi", kRow_avx512vbmi, has_avx512vbmi(), "AVX-512 F, BW, DQ, VL, VNNI and VBMI"},
        {"avx512vnni", kRow_avx512vnni, has_avx512vnni(), "AVX-512 F, BW, DQ, VL and VNNI"},
        {"avxvnni", kRow_avxvnni, has_avxvnni(), "AVX-VNNI, AVX2, FMA and F16C"},
        {"avx2", kRow_avx2, has_avx2(), "AVX2, FMA and F16C"},
        {"neon", kRow_neon, has_neon(), "the dot product extension (asimddp)"},
        {"scalar", kRow_scalar, true, "nothing"},
        {nullptr, nullptr, false, nullptr},
    };
    return list;
}

const Candidate& choose() {
    static const Candidate& chosen = []() -> const Candidate& {
        const char* forced = std::getenv("TQ_FORCE_ISA");
        const Candidate* first = nullptr;
        for (const Candidate* c = candidates(); c->name; ++c) {
            if (!c->row || !c->supported) continue;
            if (forced && std::strcmp(forced, c->name) == 0) return *c;
            if (!first) first = c;
        }
        return *first;
    }();
    return chosen;
}

}  // namespace

const Kernels& kernels() { return *choose().row; }

}  // namespace cpu

std::vector<IsaCandidate> explain_isa() {
    std::vector<IsaCandidate> result;
    const char* forced = std::getenv("TQ_FORCE_ISA");
    for (const auto* c = cpu::candidates(); c->name; ++c) {
        IsaCandidate candidate{c->name, c->row != nullptr, c->supported, c == &cpu::choose(), {}};
        if (candidate.chosen) {
            candidate.reason = forced && candidate.name == forced ? "TQ_FORCE_ISA asks for it" : "the fastest that runs here";
            if (const std::string problem = forced_isa_problem(); !problem.empty()) candidate.reason += "; " + problem;
        } else if (!candidate.compiled) {
            candidate.reason = "not compiled into this build";
        } else if (!candidate.supported) {
            candidate.reason = std::string("this processor lacks some of ") + c->needs;
        } else {
            candidate.reason = forced ? "TQ_FORCE_ISA asks for another" : "a faster one runs here";
        }
        result.push_back(candidate);
    }
    return result;
}

std::string forced_isa_problem() {
    const char* forced = std::getenv("TQ_FORCE_ISA");
    if (!forced || isa_name() == forced) return {};
    return std::string("TQ_FORCE_ISA=") + forced + " cannot be served here";
}

std::string isa_name() { return cpu::choose().name; }

}  // namespace turboquant

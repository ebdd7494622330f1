// The avx512vbmi row of kernels over emulated intrinsics, as avx512vnni.cpp here.
#include "cpu/avx512vbmi.cpp"

#include <string>

namespace turboquant {

namespace cpu {
const Kernels& kernels() { return kKernels_avx512vbmi; }
}  // namespace cpu

std::string isa_name();
std::string isa_name() { return "avx512vbmi"; }

}  // namespace turboquant

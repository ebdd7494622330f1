// The avx512vnni row of kernels over emulated intrinsics, and a dispatch that offers nothing else: linked before the
// library, these definitions take the place of its own.
#include "cpu/avx512vnni.cpp"

#include <string>

namespace turboquant {

namespace cpu {
const Kernels& kernels() { return kKernels_avx512vnni; }
}  // namespace cpu

std::string isa_name();
std::string isa_name() { return "avx512vnni"; }

}  // namespace turboquant

#include "turboquant/environment.hpp"

namespace turboquant {
namespace {

constexpr EnvironmentVariable kVariables[] = {
    {"TQ_PRESET", "what the llama.cpp plug-in stores: a preset's name (default k4v4)"},
    {"TQ_LAYERS", "exceptions by layer, such as 0=k8v4,5-7=f16"},
    {"TQ_FORCE_ISA", "the CPU kernels to use: avx512vbmi, avx512vnni, avxvnni, avx2, neon or scalar (default: the fastest that runs here)"},
    {"TQ_VERBOSE", "1: the plug-in also logs each layer's decisions"},
};

}  // namespace

std::span<const EnvironmentVariable> environment_variables() {
    return kVariables;
}

}  // namespace turboquant

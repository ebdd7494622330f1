// What `turboquant info` shows: the GPUs of the machine and the kernels of the build.
#include <cuda_runtime_api.h>

#include "cuda/attend/instance.hpp"
#include "cuda/prefill/instance.hpp"
#include "cuda/target.hpp"

namespace turboquant::cuda {

#define TQ_FAMILY(T, D, K, V) const AttendInstance* attend_family_##T##_##D##_##K##_##V();
#include "cuda/attend/kernels.inc"
#undef TQ_FAMILY
#define TQ_WIDE(D, K, V, R) const AttendInstance* attend_wide_##D##_##K##_##V##_##R();
#include "cuda/attend/wide_kernels.inc"
#undef TQ_WIDE
#define TQ_HEAD_DIM(D) PrefillInstance prefill_instance_##D();
#include "cuda/prefill/kernels.inc"
#undef TQ_HEAD_DIM
#define TQ_WARPS(T, D) PrefillInstance warp_prefill_##T##_##D();
#include "cuda/prefill/warp_kernels.inc"
#undef TQ_WARPS

std::vector<Device> devices() {
    int num = 0;
    if (cudaGetDeviceCount(&num) != cudaSuccess) {
        cudaGetLastError();  // no driver or no device: nothing to list
        return {};
    }
    std::vector<Device> found;
    for (int i = 0; i < num; ++i) {
        cudaDeviceProp properties;
        if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) continue;
        found.push_back({properties.name, properties.major, properties.minor, properties.multiProcessorCount, properties.totalGlobalMem});
    }
    return found;
}

std::vector<BuiltKernel> built_kernels() {
    std::vector<BuiltKernel> kernels;
#define TQ_FAMILY(T, D, K, V)     \
    for (int i = 0; i < 3; ++i) { \
        const AttendInstance& instance = attend_family_##T##_##D##_##K##_##V()[i]; \
        kernels.push_back({"attend", D, K, V, instance.rows, instance.warps * 32, static_cast<int>(Target::T)}); \
    }
#include "cuda/attend/kernels.inc"
#undef TQ_FAMILY
#define TQ_WIDE(D, K, V, R) kernels.push_back({"attend", D, K, V, R, attend_wide_##D##_##K##_##V##_##R()->warps * 32, 90});
#include "cuda/attend/wide_kernels.inc"
#undef TQ_WIDE
#define TQ_HEAD_DIM(D) kernels.push_back({"prefill", D, 0, 0, prefill_instance_##D().rows, prefill_instance_##D().threads, 90});
#include "cuda/prefill/kernels.inc"
#undef TQ_HEAD_DIM
#define TQ_WARPS(T, D) kernels.push_back({"prefill", D, 0, 0, warp_prefill_##T##_##D().rows, warp_prefill_##T##_##D().threads, static_cast<int>(Target::T)});
#include "cuda/prefill/warp_kernels.inc"
#undef TQ_WARPS
    return kernels;
}

}  // namespace turboquant::cuda

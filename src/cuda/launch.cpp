#include "cuda/launch.hpp"

#include <cuda_runtime_api.h>

namespace turboquant::cuda {
namespace {

Status failed(const char* what, cudaError_t error) {
    cudaGetLastError();  // ours, and reported: not to be found by the caller's next check
    return unsupported(std::string(what) + ": " + cudaGetErrorString(error));
}

}  // namespace

Result<int> num_processors() {
    int device = 0, num = 0;
    if (const cudaError_t e = cudaGetDevice(&device); e != cudaSuccess) return failed("there is no CUDA device", e);
    if (const cudaError_t e = cudaDeviceGetAttribute(&num, cudaDevAttrMultiProcessorCount, device); e != cudaSuccess) return failed("the CUDA device does not answer", e);
    return num;
}

Result<Target> current_target() {
    int device = 0, major = 0, minor = 0;
    if (const cudaError_t e = cudaGetDevice(&device); e != cudaSuccess) return failed("there is no CUDA device", e);
    if (const cudaError_t e = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device); e != cudaSuccess) return failed("the CUDA device does not answer", e);
    if (const cudaError_t e = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device); e != cudaSuccess) return failed("the CUDA device does not answer", e);
    const auto target = target_of(major, minor);
    if (!target) return unsupported("the CUDA device has compute capability " + std::to_string(major) + "." + std::to_string(minor) + "; supported: 8.0 and newer");
    return *target;
}

Status launch(const void* kernel, int grid, int threads, std::size_t shared_bytes, bool overlapped, void** arguments, void* stream) {
    if (const cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)); e != cudaSuccess) {
        return failed("this build has no kernel for the CUDA device (TQ_CUDA_ARCHITECTURES), or the device too little shared memory", e);
    }
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(grid));
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.dynamicSmemBytes = shared_bytes;
    config.stream = static_cast<cudaStream_t>(stream);
    config.attrs = &attribute;
    if (overlapped) {
        const auto target = current_target();
        if (!target.ok()) return target.status();
        config.numAttrs = target.value() >= Target::sm90 ? 1 : 0;
    }
    if (const cudaError_t e = cudaLaunchKernelExC(&config, kernel, arguments); e != cudaSuccess) return failed("the kernel could not be launched", e);
    return {};
}

}  // namespace turboquant::cuda

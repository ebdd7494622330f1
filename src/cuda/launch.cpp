#include "cuda/launch.hpp"

#include <cuda_runtime_api.h>

namespace turboquant::cuda {
namespace {

Status failed(const char* what, cudaError_t error) {
    cudaGetLastError();  // ours, and reported: not to be found by the caller's next check
    return unsupported(std::string(what) + ": " + cudaGetErrorString(error));
}

struct Capability {
    int major, minor;
};
Result<Capability> capability() {
    int device = 0;
    Capability found{};
    if (const cudaError_t e = cudaGetDevice(&device); e != cudaSuccess) return failed("there is no CUDA device", e);
    if (const cudaError_t e = cudaDeviceGetAttribute(&found.major, cudaDevAttrComputeCapabilityMajor, device); e != cudaSuccess) return failed("the CUDA device does not answer", e);
    if (const cudaError_t e = cudaDeviceGetAttribute(&found.minor, cudaDevAttrComputeCapabilityMinor, device); e != cudaSuccess) return failed("the CUDA device does not answer", e);
    return found;
}

}  // namespace

Result<int> num_processors() {
    int device = 0, num = 0;
    if (const cudaError_t e = cudaGetDevice(&device); e != cudaSuccess) return failed("there is no CUDA device", e);
    if (const cudaError_t e = cudaDeviceGetAttribute(&num, cudaDevAttrMultiProcessorCount, device); e != cudaSuccess) return failed("the CUDA device does not answer", e);
    return num;
}

Result<Target> current_target() {
    const auto device = capability();
    if (!device.ok()) return device.status();
    const auto target = target_of(device.value().major, device.value().minor);
    if (!target) return unsupported("the CUDA device has compute capability " + current_capability() + "; supported: 8.0 and newer");
    return *target;
}

bool has_warpgroups(Target target) {
    const auto device = capability();
    return target == Target::sm90 && device.ok() && device.value().major == 9;
}

std::string current_capability() {
    const auto device = capability();
    return device.ok() ? std::to_string(device.value().major) + "." + std::to_string(device.value().minor) : "unknown";
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

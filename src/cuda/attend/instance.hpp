// The compiled attention kernels. CMake makes one source per target and (head_dim, key bits, value bits) of TQ_CUDA_KERNELS, each with a table of
// three.
#pragma once

#include <cstddef>

#include "cuda/attend/params.hpp"

namespace turboquant::cuda {

struct AttendInstance {
    int rows;                                     // query rows of a unit
    int warps;                                    // of a CTA
    std::size_t (*shared_bytes)(int batch);
    std::size_t (*workspace_bytes)(int grid);
    std::size_t partial;                          // floats; see AttendShape
    const void* kernel;                           // void(AttendParams)
    const void* capped = nullptr;                 // the same with a soft cap, where that is a kernel of its own
};

}  // namespace turboquant::cuda

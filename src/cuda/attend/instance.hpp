// The compiled attention kernels. CMake makes one source per (head_dim, key bits, value bits) of TQ_CUDA_KERNELS, each with a table of three.
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
};

struct AttendFamily {
    int head_dim, key_bits, value_bits;
    const AttendInstance* instances;              // [3]: for 4, 8 and 16 rows
};

}  // namespace turboquant::cuda

// What one launch of the prefill kernels is handed: plain data, trusted.
#pragma once

#include "core/page.hpp"
#include "cuda/attend/params.hpp"

namespace turboquant::cuda {

struct PrefillParams {
    AttendParams a;                 // of the workspace only `partials`: [2 grid][kPartial]
    PageLayout layout;
    std::uint32_t blob_bytes;       // that are copied, a multiple of 128
    std::int32_t slots;
};

}  // namespace turboquant::cuda

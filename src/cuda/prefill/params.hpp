// What one launch of the prefill kernels is handed: plain data, trusted.
#pragma once

#include "core/page.hpp"
#include "cuda/attend/params.hpp"

namespace turboquant::cuda {

struct PrefillParams {
    AttendParams a;                 // of the workspace only `partials`: [2 clusters][kPartial]
    PageLayout layout;
    std::uint32_t part_bytes[2];    // of keys and values, that are copied
    std::uint32_t slot_bytes[2];    // the same, rounded up to a multiple of 128
    std::int32_t slots;
};

}  // namespace turboquant::cuda

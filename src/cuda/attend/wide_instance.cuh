// What a generated source of wide instances consists of: one number of rows.
#pragma once

#include "cuda/attend/instance.hpp"
#include "cuda/attend/wide_kernel.cuh"

namespace turboquant::cuda {

template <int kKeyBits, int kValueBits, int kRows, int kHeadDim>
AttendInstance wide_instance() {
    using Shape = WideShape<kKeyBits, kValueBits, kRows, kHeadDim>;
    return {kRows, Shape::kMergeWarps, &Shape::shared_bytes, &Shape::workspace_bytes, Shape::kPartial,
            reinterpret_cast<const void*>(&wide_attend_kernel<kKeyBits, kValueBits, kRows, kHeadDim, false>),
            reinterpret_cast<const void*>(&wide_attend_kernel<kKeyBits, kValueBits, kRows, kHeadDim, true>)};
}

}  // namespace turboquant::cuda

#define TQ_ATTEND_WIDE(D, K, V, R)                                                              \
    namespace turboquant::cuda {                                                                \
    const AttendInstance* attend_wide_##D##_##K##_##V##_##R() {                                 \
        static const AttendInstance instance = wide_instance<K, V, R, D>();                     \
        return &instance;                                                                       \
    }                                                                                           \
    }

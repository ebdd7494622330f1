// What a generated source of instances consists of.
#pragma once

#include "cuda/attend/instance.hpp"
#include "cuda/attend/kernel.cuh"

namespace turboquant::cuda {

template <int kKeyBits, int kValueBits, int kRows, int kHeadDim>
AttendInstance attend_instance() {
    using Shape = AttendShape<kKeyBits, kValueBits, kRows, kHeadDim>;
    return {kRows, Shape::kWarps, &Shape::shared_bytes, &Shape::workspace_bytes, Shape::kPartial,
            reinterpret_cast<const void*>(&attend_kernel<kKeyBits, kValueBits, kRows, kHeadDim>)};
}

}  // namespace turboquant::cuda

#define TQ_ATTEND_FAMILY(D, K, V)                                                                                            \
    namespace turboquant::cuda {                                                                                             \
    const AttendInstance* attend_family_##D##_##K##_##V() {                                                                  \
        static const AttendInstance instances[3] = {attend_instance<K, V, 4, D>(), attend_instance<K, V, 8, D>(), attend_instance<K, V, 16, D>()}; \
        return instances;                                                                                                    \
    }                                                                                                                        \
    }

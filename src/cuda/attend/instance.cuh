// What a generated source of instances consists of.
#pragma once

#include "cuda/attend/instance.hpp"
#include "cuda/attend/kernel.cuh"

namespace turboquant::cuda {

template <int kKeyBits, int kValueBits, int kRows, int kHeadDim, Target kTarget>
AttendInstance attend_instance() {
    using Shape = AttendShape<kKeyBits, kValueBits, kRows, kHeadDim, kTarget>;
    return {kRows, Shape::kWarps, &Shape::shared_bytes, &Shape::workspace_bytes, Shape::kPartial,
            reinterpret_cast<const void*>(&attend_kernel<kKeyBits, kValueBits, kRows, kHeadDim, kTarget>)};
}

}  // namespace turboquant::cuda

#define TQ_ATTEND_FAMILY(T, D, K, V)                                                                      \
    namespace turboquant::cuda {                                                                          \
    const AttendInstance* attend_family_##T##_##D##_##K##_##V() {                                         \
        static const AttendInstance instances[3] = {attend_instance<K, V, 4, D, Target::T>(),             \
                                                    attend_instance<K, V, 8, D, Target::T>(),             \
                                                    attend_instance<K, V, 16, D, Target::T>()};           \
        return instances;                                                                                 \
    }                                                                                                     \
    }

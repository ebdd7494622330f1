// The scalar row of kernels: vocabulary x operations.
#include "cpu/kernels.hpp"

#include "cpu/isa/scalar.hpp"

namespace turboquant::cpu {

#include "cpu/ops/encode.inl"
#include "cpu/ops/unpack.inl"
#include "cpu/ops/products.inl"
#include "cpu/ops/attend.inl"

extern const Kernels kKernels_scalar;
const Kernels kKernels_scalar = {"scalar",           encode,       rotate,    unrotate,     decode_tile, halves_to_floats,
                          floats_to_halves, pack_rows,    packed_words, attend,       attend_scratch_bytes};

}  // namespace turboquant::cpu

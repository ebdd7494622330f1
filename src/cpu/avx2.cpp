// The avx2 row of kernels: vocabulary x operations.
#include "cpu/kernels.hpp"

#include "cpu/isa/avx2.hpp"

namespace turboquant::cpu {

#include "cpu/ops/encode.inl"
#include "cpu/ops/unpack.inl"
#include "cpu/ops/products.inl"
#include "cpu/ops/attend.inl"

extern const Kernels kKernels_avx2;
const Kernels kKernels_avx2 = {"avx2",           encode,       rotate,    unrotate,     decode_tile, halves_to_floats,
                          floats_to_halves, pack_rows,    packed_words, attend,       attend_scratch_bytes};

}  // namespace turboquant::cpu

// The avxvnni row of kernels: vocabulary x operations.
#include "cpu/kernels.hpp"

#include "cpu/isa/avxvnni.hpp"

namespace turboquant::cpu {

#include "cpu/ops/encode.inl"
#include "cpu/ops/unpack.inl"
#include "cpu/ops/products.inl"
#include "cpu/ops/attend.inl"

extern const Kernels kKernels_avxvnni;
const Kernels kKernels_avxvnni = {"avxvnni",           encode,       rotate,    unrotate,     decode_tile, halves_to_floats,
                          floats_to_halves, pack_rows,    packed_words, attend,       attend_scratch_bytes};

}  // namespace turboquant::cpu

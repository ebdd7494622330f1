// From core's Coder to the plain data that kernels read.
#pragma once

#include "core/reference.hpp"
#include "cpu/kernels.hpp"

namespace turboquant::cpu {

// Points into coder.rotation, which must outlive it.
CoderParams coder_params(const Coder& coder);

}  // namespace turboquant::cpu

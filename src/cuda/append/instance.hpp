// The encoding kernel of each head_dim, from sources of their own (src/cuda/CMakeLists.txt).
#pragma once

namespace turboquant::cuda {

template <int kHeadDim>
const void* append_instance();

}  // namespace turboquant::cuda

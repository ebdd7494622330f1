// The encoding kernel of each head_dim, from sources of their own (src/cuda/CMakeLists.txt).
#pragma once

namespace turboquant::cuda {

template <int kHeadDim>
const void* append_instance();
template <> const void* append_instance<64>();
template <> const void* append_instance<80>();
template <> const void* append_instance<96>();
template <> const void* append_instance<112>();
template <> const void* append_instance<128>();
template <> const void* append_instance<192>();
template <> const void* append_instance<256>();

}  // namespace turboquant::cuda

#include "micro/f16_attention.hpp"

#include "cpu/isa/avx2.hpp"

namespace turboquant::bench {

#include "micro/f16_attention.inl"

void f16_attention_avx2(const F16Attention& args) { all_heads(args); }

}  // namespace turboquant::bench

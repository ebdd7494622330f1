#include "micro/f16_attention.hpp"

#include "cpu/isa/scalar.hpp"

namespace turboquant::bench {

#include "micro/f16_attention.inl"

void f16_attention_scalar(const F16Attention& args) { all_heads(args); }

}  // namespace turboquant::bench

// What a host program finds when it loads libggml-turboquant.so.
#include "abi.hpp"

extern "C" __attribute__((visibility("default"))) ggml_backend_reg_t ggml_backend_init(void);

ggml_backend_reg_t ggml_backend_init(void) {
    return turboquant::ggml::host_is_compatible() ? tq_ggml_reg() : nullptr;
}

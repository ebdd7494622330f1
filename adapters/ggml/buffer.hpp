// Buffers of the device. Everything the engine allocates on it lies in reserved addresses; cache tensors are kept by
// CacheTensor instead, all others are ordinary host memory.
#pragma once

#include "ggml-backend-impl.h"

namespace turboquant::ggml {

ggml_backend_buffer_type_t buffer_type();
bool is_our_buffer(ggml_backend_buffer_t buffer);

const char* buffer_type_name(ggml_backend_buffer_type_t type);
ggml_backend_buffer_t buffer_type_alloc(ggml_backend_buffer_type_t type, size_t size);
size_t buffer_type_alignment(ggml_backend_buffer_type_t type);

void buffer_free(ggml_backend_buffer_t buffer);
void* buffer_base(ggml_backend_buffer_t buffer);
ggml_status buffer_init_tensor(ggml_backend_buffer_t buffer, ggml_tensor* tensor);
void buffer_memset_tensor(ggml_backend_buffer_t buffer, ggml_tensor* tensor, uint8_t value, size_t offset, size_t size);
void buffer_set_tensor(ggml_backend_buffer_t buffer, ggml_tensor* tensor, const void* data, size_t offset, size_t size);
void buffer_get_tensor(ggml_backend_buffer_t buffer, const ggml_tensor* tensor, void* data, size_t offset, size_t size);
bool buffer_copy_tensor(ggml_backend_buffer_t buffer, const ggml_tensor* source, ggml_tensor* target);
void buffer_clear(ggml_backend_buffer_t buffer, uint8_t value);

}  // namespace turboquant::ggml

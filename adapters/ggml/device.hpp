// The device TQ0: the CPU device with another home for the KV cache.
#pragma once

#include "ggml-backend-impl.h"

namespace turboquant::ggml {

ggml_backend_dev_t device();
ggml_backend_dev_t cpu_device();  // what it decorates

// One context's backend.
const char* backend_name(ggml_backend_t backend);
void backend_free(ggml_backend_t backend);
ggml_status backend_graph_compute(ggml_backend_t backend, ggml_cgraph* graph);

const char* device_name(ggml_backend_dev_t);
const char* device_description(ggml_backend_dev_t);
void device_memory(ggml_backend_dev_t, size_t* free, size_t* total);
enum ggml_backend_dev_type device_type(ggml_backend_dev_t);
void device_props(ggml_backend_dev_t, ggml_backend_dev_props* props);
ggml_backend_t device_init_backend(ggml_backend_dev_t, const char* parameters);
ggml_backend_buffer_type_t device_buffer_type(ggml_backend_dev_t);
bool device_supports_op(ggml_backend_dev_t, const ggml_tensor* op);
bool device_supports_buffer_type(ggml_backend_dev_t, ggml_backend_buffer_type_t type);

const char* reg_name(ggml_backend_reg_t);
size_t reg_device_count(ggml_backend_reg_t);
ggml_backend_dev_t reg_device(ggml_backend_reg_t, size_t index);
void* reg_proc_address(ggml_backend_reg_t, const char* name);

}  // namespace turboquant::ggml

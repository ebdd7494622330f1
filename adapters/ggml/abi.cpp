#include "abi.hpp"

#include <cstring>

#include "buffer.hpp"
#include "device.hpp"
#include "log.hpp"

#if GGML_BACKEND_API_VERSION != 2
#error "this ggml has another backend API version than 2: extend the tables in adapters/ggml/abi.cpp"
#endif

namespace turboquant::ggml {

bool host_is_compatible() {
    const struct {
        ggml_op op;
        const char* name;
    } used[] = {{GGML_OP_SET_ROWS, "SET_ROWS"}, {GGML_OP_FLASH_ATTN_EXT, "FLASH_ATTN_EXT"}, {GGML_OP_ROPE, "ROPE"}, {GGML_OP_VIEW, "VIEW"}};
    for (const auto& [op, name] : used) {
        if (std::strcmp(ggml_op_name(op), name) != 0) {
            log_line(GGML_LOG_LEVEL_ERROR,
                     "this plug-in was built for another ggml (the host's is %s: its operation %d is %s, not %s); build it against the host's headers",
                     ggml_version(), static_cast<int>(op), ggml_op_name(op), name);
            return false;
        }
    }
    // The overhead is a tensor and a small header.
    if (ggml_tensor_overhead() < sizeof(ggml_tensor) || ggml_tensor_overhead() > sizeof(ggml_tensor) + 64) {
        log_line(GGML_LOG_LEVEL_ERROR, "this plug-in was built for another ggml (the host's is %s, with other tensors); build it against the host's headers",
                 ggml_version());
        return false;
    }
    return true;
}

ggml_backend_buffer_type_i buffer_type_interface() {
    ggml_backend_buffer_type_i table{};
    table.get_name = buffer_type_name;
    table.alloc_buffer = buffer_type_alloc;
    table.get_alignment = buffer_type_alignment;
    return table;  // sizes are the logical ones: addresses are reserved, memory is not
}

ggml_backend_buffer_i buffer_interface() {
    ggml_backend_buffer_i table{};
    table.free_buffer = buffer_free;
    table.get_base = buffer_base;
    table.init_tensor = buffer_init_tensor;
    table.memset_tensor = buffer_memset_tensor;
    table.set_tensor = buffer_set_tensor;
    table.get_tensor = buffer_get_tensor;
    table.cpy_tensor = buffer_copy_tensor;
    table.clear = buffer_clear;
    return table;
}

ggml_backend_i backend_interface() {
    ggml_backend_i table{};
    table.get_name = backend_name;
    table.free = backend_free;
    table.graph_compute = backend_graph_compute;
    return table;
}

ggml_backend_device_i device_interface() {
    ggml_backend_device_i table{};
    table.get_name = device_name;
    table.get_description = device_description;
    table.get_memory = device_memory;
    table.get_type = device_type;
    table.get_props = device_props;
    table.init_backend = device_init_backend;
    table.get_buffer_type = device_buffer_type;
    table.supports_op = device_supports_op;
    table.supports_buft = device_supports_buffer_type;
    return table;
}

ggml_backend_reg_i reg_interface() {
    ggml_backend_reg_i table{};
    table.get_name = reg_name;
    table.get_device_count = reg_device_count;
    table.get_device = reg_device;
    table.get_proc_address = reg_proc_address;
    return table;
}

}  // namespace turboquant::ggml

// Everything that depends on the version of ggml's backend interface, in one place: the tables of functions that a host
// calls, and the check that the host is the one this file was compiled for.
#pragma once

#include "ggml-backend-impl.h"
#include "turboquant_ggml.h"

namespace turboquant::ggml {

// False, with one logged line, when the host's ggml numbers its operations otherwise or lays out tensors otherwise.
bool host_is_compatible();

// The functions behind each table are declared by the files that define them (buffer.hpp, device.hpp).
ggml_backend_buffer_type_i buffer_type_interface();
ggml_backend_buffer_i buffer_interface();
ggml_backend_i backend_interface();
ggml_backend_device_i device_interface();
ggml_backend_reg_i reg_interface();

}  // namespace turboquant::ggml

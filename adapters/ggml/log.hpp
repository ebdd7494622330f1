// One line through the host's own log.
#pragma once

#include "ggml.h"

namespace turboquant::ggml {

// printf-like; "turboquant: " goes before it and a line end after it.
[[gnu::format(printf, 2, 3)]] void log_line(ggml_log_level level, const char* format, ...);

}  // namespace turboquant::ggml

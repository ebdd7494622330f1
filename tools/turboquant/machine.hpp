// What the tool knows about the machine that it runs on.
#pragma once

#include <string>

namespace turboquant::tool {

// The processor's name as the system gives it; never empty.
std::string cpu_name();

// One thread per physical core that this process may use, within the container's limit.
int default_threads();

// Local date and time with the offset, ISO 8601.
std::string now_iso8601();

}  // namespace turboquant::tool

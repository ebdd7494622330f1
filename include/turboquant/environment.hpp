// Every environment variable that the project reads, in one list: `turboquant info` prints it.
#pragma once

#include <span>
#include <string_view>

namespace turboquant {

struct EnvironmentVariable {
    std::string_view name;
    std::string_view meaning;
};

std::span<const EnvironmentVariable> environment_variables();

}  // namespace turboquant

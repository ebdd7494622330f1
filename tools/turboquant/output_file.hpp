// Files that a subcommand writes beside what it prints.
#pragma once

#include <string>
#include <string_view>

#include "turboquant/status.hpp"

namespace turboquant::tool {

Status write_file(const std::string& path, const std::string& text);

// Whether --plot FILE of that subcommand can be written: asked before hours of measuring, not after. An empty path can.
Status check_plot(const std::string& path, std::string_view subcommand);

}  // namespace turboquant::tool

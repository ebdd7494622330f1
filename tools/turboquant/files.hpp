// Texts that a subcommand reads, and files that it writes beside what it prints.
#pragma once

#include <string>
#include <string_view>

#include "turboquant/status.hpp"

namespace turboquant::tool {

// A whole file, given to -f. The error says which file, and why not.
Result<std::string> read_text(const std::string& path);

Status write_file(const std::string& path, const std::string& text);

// Whether --plot FILE of that subcommand can be written: asked before hours of measuring, not after. An empty path can.
Status check_plot(const std::string& path, std::string_view subcommand);

}  // namespace turboquant::tool

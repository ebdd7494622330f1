// Where things lie, found from the tool's own place: nothing absolute is compiled in.
#pragma once

#include <optional>
#include <string>

#include "turboquant/status.hpp"

namespace turboquant::tool {

std::string executable_directory();

// The plug-in file: what was asked for, or the one beside this tool (build tree or installation). An absolute path.
Result<std::string> find_plugin(const std::string& asked_for);

// The program as execvp would find it, or nothing.
std::optional<std::string> find_program(const std::string& name);

// The commit of the work tree this tool was built in, or an empty text. Reads .git by itself; git is not needed.
std::string git_commit();

}  // namespace turboquant::tool

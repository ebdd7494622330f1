#include "paths.hpp"

#include <unistd.h>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

namespace fs = std::filesystem;

namespace turboquant::tool {
namespace {

constexpr const char* kPluginFile = "libggml-turboquant.so";

std::string first_line(const fs::path& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

bool can_run(const std::string& path) {
    std::error_code ignored;
    return fs::is_regular_file(path, ignored) && access(path.c_str(), X_OK) == 0;
}

// A reference ("refs/heads/main") as a commit, from its own file or from packed-refs.
std::string resolve_reference(const fs::path& git, const std::string& reference) {
    const std::string loose = first_line(git / reference);
    if (!loose.empty()) return loose;
    std::ifstream packed(git / "packed-refs");
    for (std::string line; std::getline(packed, line);)
        if (line.ends_with(" " + reference)) return line.substr(0, line.find(' '));
    return "";
}

}  // namespace

std::string executable_directory() {
    std::error_code failed;
    const fs::path self = fs::read_symlink("/proc/self/exe", failed);
    return failed ? "." : self.parent_path().string();
}

Result<std::string> find_plugin(const std::string& asked_for) {
    std::error_code failed;
    if (!asked_for.empty()) {
        if (!fs::is_regular_file(asked_for, failed))
            return unsupported(fmt::format("there is no plug-in file '{}'; give --plugin the path of {}", asked_for, kPluginFile));
        return fs::absolute(asked_for).lexically_normal().string();
    }
    const fs::path here = executable_directory();
    for (const char* place : {"../../adapters/ggml", "../../lib", "../lib", "../lib/turboquant", "."}) {
        const fs::path candidate = (here / place / kPluginFile).lexically_normal();
        if (fs::is_regular_file(candidate, failed)) return candidate.string();
    }
    return unsupported(
        fmt::format("{} is not beside this tool ({}); build it by configuring with TQ_ENGINE_DIR, or name it with --plugin",
                    kPluginFile, here.string()));
}

std::optional<std::string> find_program(const std::string& name) {
    if (name.find('/') != std::string::npos) return can_run(name) ? std::optional(name) : std::nullopt;
    const char* path = std::getenv("PATH");
    std::istringstream directories(path ? path : "/usr/local/bin:/usr/bin:/bin");
    for (std::string directory; std::getline(directories, directory, ':');) {
        const std::string candidate = (directory.empty() ? "." : directory) + "/" + name;
        if (can_run(candidate)) return candidate;
    }
    return std::nullopt;
}

std::string git_commit() {
    std::error_code failed;
    for (fs::path at = executable_directory(); !at.empty() && at != at.root_path(); at = at.parent_path()) {
        fs::path git = at / ".git";
        if (!fs::exists(git, failed)) continue;
        fs::path shared = git;
        if (fs::is_regular_file(git, failed)) {  // a linked work tree: "gitdir: <where HEAD lies>"
            const std::string line = first_line(git);
            if (!line.starts_with("gitdir: ")) return "";
            git = at / line.substr(8);
            const std::string common = first_line(git / "commondir");
            shared = common.empty() ? git : git / common;
        }
        const std::string head = first_line(git / "HEAD");
        return head.starts_with("ref: ") ? resolve_reference(shared, head.substr(5)) : head;
    }
    return "";
}

}  // namespace turboquant::tool

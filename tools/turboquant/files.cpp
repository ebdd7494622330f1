#include "files.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <fmt/format.h>

namespace turboquant::tool {

Result<std::string> read_text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file)
        return invalid_argument(
            fmt::format("cannot read the text '{}': {}; check the path given to -f", path, std::strerror(errno)));
    return std::string{std::istreambuf_iterator<char>(file), {}};
}

Status write_file(const std::string& path, const std::string& text) {
    std::ofstream file(path, std::ios::binary);
    file << text << std::flush;
    if (!file) return unsupported(fmt::format("cannot write '{}': {}", path, std::strerror(errno)));
    return {};
}

Status check_plot(const std::string& path, std::string_view subcommand) {
    if (path.empty()) return {};
    const std::filesystem::path file(path);
    const std::string suffix = file.extension().string();
    if (suffix == ".png") {
        const std::string stem = std::filesystem::path(file).replace_extension().string();
        return invalid_argument(fmt::format(
            "--plot {} asks for a PNG, and this tool draws SVG; write --plot {}.svg, or make both from the same figures: "
            "turboquant {} ... --json > {}.json && scripts/plot_eval.py {}.json --output {}",
            path, stem, subcommand, stem, stem, stem));
    }
    if (suffix != ".svg")
        return invalid_argument(fmt::format("--plot {} has no suffix that says what to draw; write --plot {}.svg", path, path));
    std::error_code error;
    if (file.has_parent_path() && !std::filesystem::is_directory(file.parent_path(), error))
        return invalid_argument(fmt::format("--plot {}: there is no folder '{}'", path, file.parent_path().string()));
    return {};
}

}  // namespace turboquant::tool

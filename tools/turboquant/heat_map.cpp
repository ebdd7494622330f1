#include "heat_map.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "table.hpp"

namespace turboquant::tool {
namespace {

// Of the 256-colour palette, dark enough for white letters.
constexpr std::array kColours = {124, 130, 136, 100, 64, 28};

std::string coloured(const std::string& text, double value) {
    if (!std::isfinite(value)) return text;
    const double place = std::clamp(value, 0.0, 1.0) * static_cast<double>(kColours.size() - 1);
    return fmt::format("\033[97;48;5;{}m{}\033[0m", kColours[static_cast<std::size_t>(std::lround(place))], text);
}

std::string right(const std::string& text, std::size_t width) {
    return std::string(width - std::min(width, display_width(text)), ' ') + text;
}

}  // namespace

std::string heat_map(const std::string& corner, const std::vector<std::string>& columns, const std::vector<std::string>& rows,
                     const std::vector<std::vector<HeatCell>>& cells, bool colour) {
    std::size_t first = display_width(corner), width = 0;
    for (const std::string& title : rows) first = std::max(first, display_width(title));
    for (const std::string& title : columns) width = std::max(width, display_width(title));
    for (const auto& row : cells)
        for (const HeatCell& cell : row) width = std::max(width, display_width(cell.text));

    std::string out = right(corner, first);
    for (const std::string& title : columns) out += "  " + right(title, width);
    out += "\n";
    for (std::size_t r = 0; r < rows.size(); ++r) {
        out += right(rows[r], first);
        for (const HeatCell& cell : cells[r]) {
            const std::string text = " " + right(cell.text, width) + (colour ? " " : "");
            out += colour ? coloured(text, cell.value) : " " + text;
        }
        out += "\n";
    }
    return out;
}

}  // namespace turboquant::tool

#include "heat_map.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "svg.hpp"
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

// The picture's: from red over yellow to green, light enough for dark letters.
std::string colour_of(double value) {
    if (!std::isfinite(value)) return "#eeeeee";
    constexpr double kStops[3][3] = {{224, 122, 110}, {247, 226, 138}, {124, 190, 120}};
    const double place = 2 * std::clamp(value, 0.0, 1.0);
    const std::size_t below = place < 1 ? 0 : 1;
    const auto channel = [&](std::size_t c) {
        return std::lround(kStops[below][c] + (place - static_cast<double>(below)) * (kStops[below + 1][c] - kStops[below][c]));
    };
    return fmt::format("#{:02x}{:02x}{:02x}", channel(0), channel(1), channel(2));
}

}  // namespace

std::string heat_map(const HeatMap& map, bool colour) {
    std::size_t first = display_width(map.corner), width = 0;
    for (const std::string& title : map.rows) first = std::max(first, display_width(title));
    for (const std::string& title : map.columns) width = std::max(width, display_width(title));
    for (const auto& row : map.cells)
        for (const HeatCell& cell : row) width = std::max(width, display_width(cell.text));

    std::string out = right(map.corner, first);
    for (const std::string& title : map.columns) out += "  " + right(title, width);
    out += "\n";
    for (std::size_t r = 0; r < map.rows.size(); ++r) {
        out += right(map.rows[r], first);
        for (const HeatCell& cell : map.cells[r]) {
            const std::string text = " " + right(cell.text, width) + (colour ? " " : "");
            out += colour ? coloured(text, cell.value) : " " + text;
        }
        out += "\n";
    }
    return out;
}

std::string heat_map_picture(const std::vector<HeatMap>& maps, const std::string& title, const std::string& below) {
    constexpr double kCellHeight = 34, kLeft = 64, kTop = 56, kBottom = 48, kGap = 16, kSize = 12;
    double cell_width = 60, width = kGap, height = 0;
    for (const HeatMap& map : maps) {
        for (const auto& row : map.cells)
            for (const HeatCell& cell : row) cell_width = std::max(cell_width, text_width(cell.text, kSize) + 12);
        height = std::max(height, kTop + kCellHeight * static_cast<double>(map.rows.size()) + kBottom);
    }
    const auto grid_width = [&](const HeatMap& map) {
        return std::max(cell_width * static_cast<double>(map.columns.size()), text_width(map.title, kSize));
    };
    for (const HeatMap& map : maps) width += kLeft + grid_width(map) + kGap;
    Svg svg(width, height, title);
    double left = kGap + kLeft;
    for (const HeatMap& map : maps) {
        const double bottom = kTop + kCellHeight * static_cast<double>(map.rows.size());
        svg.text(left, kTop - 32, map.title, kSize);
        svg.text(left - 8, kTop - 8, map.corner, kSize, "#777777", Anchor::end);
        for (std::size_t c = 0; c < map.columns.size(); ++c)
            svg.text(left + cell_width * (static_cast<double>(c) + 0.5), kTop - 8, map.columns[c], kSize, "#222222",
                     Anchor::middle);
        for (std::size_t r = 0; r < map.rows.size(); ++r) {
            const double top = kTop + kCellHeight * static_cast<double>(r);
            svg.text(left - 8, top + kCellHeight / 2 + 4, map.rows[r], kSize, "#222222", Anchor::end);
            for (std::size_t c = 0; c < map.cells[r].size(); ++c) {
                const double x = left + cell_width * static_cast<double>(c);
                svg.rect(x, top, cell_width - 1, kCellHeight - 1, colour_of(map.cells[r][c].value));
                svg.text(x + cell_width / 2, top + kCellHeight / 2 + 4, map.cells[r][c].text, kSize, "#222222", Anchor::middle);
            }
        }
        svg.text(left, bottom + 18, below, kSize, "#777777");
        left += grid_width(map) + kGap + kLeft;
    }
    return svg.str();
}

}  // namespace turboquant::tool

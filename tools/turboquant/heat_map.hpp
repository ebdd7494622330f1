// A grid of values in colours from red to green: as text for a terminal, and as a picture.
#pragma once

#include <string>
#include <vector>

namespace turboquant::tool {

struct HeatCell {
    double value = 0;  // 0: worst, 1: best; NaN: no colour
    std::string text;
};

struct HeatMap {
    std::string title;
    std::string corner;                        // what the row titles are
    std::vector<std::string> columns, rows;    // titles
    std::vector<std::vector<HeatCell>> cells;  // as many rows as row titles, each with as many cells as column titles
};

// Lines ending in '\n', without the map's title.
std::string heat_map(const HeatMap& map, bool colour);

// An SVG file of all maps, side by side. below: what the columns are.
std::string heat_map_picture(const std::vector<HeatMap>& maps, const std::string& title, const std::string& below);

}  // namespace turboquant::tool

// A grid of values as text, coloured from red to green where colours are wanted.
#pragma once

#include <string>
#include <vector>

namespace turboquant::tool {

struct HeatCell {
    double value = 0;  // 0: worst, 1: best; NaN: no colour
    std::string text;
};

// Lines ending in '\n'. cells: as many rows as row titles, each with as many cells as column titles.
std::string heat_map(const std::string& corner, const std::vector<std::string>& columns, const std::vector<std::string>& rows,
                     const std::vector<std::vector<HeatCell>>& cells, bool colour);

}  // namespace turboquant::tool

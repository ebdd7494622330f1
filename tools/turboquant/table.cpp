#include "table.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace turboquant::tool {

std::size_t display_width(const std::string& text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

void Table::add(std::vector<std::string> cells) {
    cells.resize(columns_.size());
    rows_.push_back(std::move(cells));
}

std::string Table::text(bool bold_title) const {
    std::vector<std::size_t> widths;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
        std::size_t width = display_width(columns_[c].title);
        for (const auto& row : rows_) width = std::max(width, display_width(row[c]));
        widths.push_back(width);
    }

    const auto line = [&](auto cell_of) {
        std::string out;
        for (std::size_t c = 0; c < columns_.size(); ++c) {
            const std::string cell = cell_of(c);
            const std::string fill(widths[c] - display_width(cell), ' ');
            if (c > 0) out += "  ";
            out += columns_[c].align == Align::left ? cell + fill : fill + cell;
        }
        out.erase(out.find_last_not_of(' ') + 1);
        return out;
    };

    const std::string title = line([&](std::size_t c) { return columns_[c].title; });
    std::string out = bold_title ? "\033[1m" + title + "\033[0m\n" : title + "\n";
    out += line([&](std::size_t c) { return std::string(widths[c], '-'); }) + "\n";
    for (const auto& row : rows_) out += line([&](std::size_t c) { return row[c]; }) + "\n";
    return out;
}

std::string format_bytes(double bytes) {
    if (bytes < 1024) return fmt::format("{:.0f} B", bytes);
    const char* unit = "KiB";
    bytes /= 1024;
    for (const char* larger : {"MiB", "GiB", "TiB"}) {
        if (bytes < 1024) break;
        bytes /= 1024;
        unit = larger;
    }
    return fmt::format("{:.{}f} {}", bytes, bytes < 10 ? 2 : 1, unit);
}

std::string format_bits(double bits) { return bits > 0 ? fmt::format("{:.2f}", bits) : "-"; }

Spread spread(std::span<const double> samples) {
    if (samples.empty()) return {};
    double sum = 0;
    for (double s : samples) sum += s;
    const double mean = sum / static_cast<double>(samples.size());
    if (samples.size() < 2) return {mean, 0};
    double squares = 0;
    for (double s : samples) squares += (s - mean) * (s - mean);
    return {mean, std::sqrt(squares / static_cast<double>(samples.size() - 1))};
}

}  // namespace turboquant::tool

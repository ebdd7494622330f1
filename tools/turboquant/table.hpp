// Text tables and the numbers in them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace turboquant::tool {

class Table {
public:
    enum class Align { left, right };
    struct Column {
        std::string title;
        Align align = Align::right;
    };

    explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

    void add(std::vector<std::string> cells);  // missing cells are empty
    bool empty() const { return rows_.empty(); }

    // Lines ending in '\n'. The title line is bold where asked.
    std::string text(bool bold_title) const;

private:
    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
};

// How many terminal columns a UTF-8 text takes, counting one for each character.
std::size_t display_width(const std::string& text);

// "512 B", "13.5 KiB", "90.0 MiB".
std::string format_bytes(double bytes);

// "8.50", or "-" where there is nothing to divide by.
std::string format_bits(double bits);

struct Spread {
    double mean = 0;
    double stddev = 0;  // of the sample (n - 1); 0 for one value
};
Spread spread(std::span<const double> samples);

}  // namespace turboquant::tool

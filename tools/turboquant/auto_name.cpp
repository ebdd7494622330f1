#include "auto_name.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace turboquant::tool {

Result<double> auto_bits(std::string_view name) {
    if (name.substr(0, 4) != "auto") return 0.0;
    const std::string_view number = name.substr(std::min<std::size_t>(name.size(), 5));
    double bits = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), bits);
    if (name.substr(4, 1) != "@" || error != std::errc() || end != number.data() + number.size() || !(bits > 0) || bits > 16)
        return invalid_argument(fmt::format("'{}' says no budget; write how many bits per value it may take, everything in memory counted: auto@4.25", name));
    return bits;
}

}  // namespace turboquant::tool

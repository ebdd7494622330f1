// The name of the preset that the tool chooses itself: auto@BITS.
#pragma once

#include <string_view>

#include "turboquant/status.hpp"

namespace turboquant::tool {

// "auto@4.25" -> 4.25. 0: another name. An error: auto without a number that can be used.
Result<double> auto_bits(std::string_view name);

}  // namespace turboquant::tool

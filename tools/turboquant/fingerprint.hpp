// Whether two files are the same, well enough to refuse mixing their results.
#pragma once

#include <string>
#include <string_view>

#include "turboquant/status.hpp"

namespace turboquant::tool {

// 16 hexadecimal digits (FNV-1a, 64 bits). No protection against somebody who wants two texts to collide.
std::string hash_of(std::string_view bytes);

// Of a whole file up to 64 MiB; of a larger one its size and 256 pieces of 64 KiB spread evenly over it, so that a model of
// many GiB takes no longer than a small one. Two models that differ in a few places outside of these would pass as one.
Result<std::string> hash_of_file(const std::string& path);

}  // namespace turboquant::tool

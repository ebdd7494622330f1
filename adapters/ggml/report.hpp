// What a user is told: one line when tensors fall back, one when a cache is in use and one with what it held; and the statistics.
#pragma once

#include <string>

namespace turboquant::ggml {

class CacheTensor;

void report_created(CacheTensor* tensor);
void report_destroyed(CacheTensor* tensor);
// One line per reason and buffer, not one per tensor.
void report_plain(const CacheTensor& tensor, const std::string& why);
// After a graph: logs decisions that are new since the last call.
void report_progress();
// Before a buffer goes: what its caches hold.
void report_held();

}  // namespace turboquant::ggml

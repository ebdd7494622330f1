// What a user is told: one line when tensors fall back, one when a cache is in use and one with what it held; and the statistics.
#pragma once

#include <string>
#include <vector>

#include "ggml.h"

namespace turboquant::ggml {

class CacheTensor;

void report_created(CacheTensor* tensor);
void report_destroyed(CacheTensor* tensor);
// A line that the process has not said yet: engines try again what has failed.
void report_once(ggml_log_level level, const std::string& text);
// One line per reason and buffer, not one per tensor. None without a reason: the other side of the layer has told it.
void report_plain(const CacheTensor& tensor, const std::string& why);
// Before a graph: one line when some or all layers keep their cache elsewhere.
void report_placement();
// After a graph: logs decisions that are new since the last call.
void report_progress();
// Before a buffer goes: what its caches hold.
void report_held(const std::vector<CacheTensor*>& tensors);

}  // namespace turboquant::ggml

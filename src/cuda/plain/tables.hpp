// Host code, no CUDA: which layout a spec's records have, and the core's codebooks and sketches as what the plain kernels are handed.
#pragma once

#include "cuda/plain/params.hpp"
#include "cuda/plain/policy.hpp"

namespace turboquant::cuda {

// spec must be valid and uses_records().
RecordPage record_page(const PageSpec& spec);
PlainBook plain_book(const PageSpec& spec, Side side);
// table: PagedCache::sketch_table.
PlainSketch plain_sketch(const PageSpec& spec, const float* table);

// What a launch is handed. The arguments have been judged.
PlainAttendParams plain_attend_params(const PagedCache& cache, const AttendArgs& args, int processors);
PlainAppendParams plain_append_params(const PagedCache& cache, const AppendArgs& args);

}  // namespace turboquant::cuda

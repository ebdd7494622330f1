// attend(), append() and attend_workspace() of caches whose pages are records; the arguments have been judged.
#pragma once

#include "turboquant/cuda.hpp"

namespace turboquant::cuda {

Result<Workspace> plain_workspace(const PageSpec& spec);
Status plain_attend(const PagedCache& cache, const AttendArgs& args, void* stream);
Status plain_append(const PagedCache& cache, const AppendArgs& args, void* stream);

}  // namespace turboquant::cuda

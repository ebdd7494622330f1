// append(): judge the arguments, fill the params, launch.
#include "cuda/append/fill.hpp"
#include "cuda/append/instance.hpp"
#include "cuda/head_dims.hpp"
#include "cuda/launch.hpp"
#include "cuda/overlay/overlay.hpp"
#include "cuda/plain/launch.hpp"

namespace turboquant::cuda {
namespace {

const void* kernel_for(int head_dim) {
    return HeadDims::pick(head_dim, [](auto d) { return append_instance<d>(); });
}

}  // namespace

Status append(const PagedCache& cache, const AppendArgs& args, void* stream) {
    if (Status s = check_append(cache, args); !s.ok()) return s;
    if (args.tokens == 0) return {};
    if (uses_records(cache.spec)) return plain_append(cache, args, stream);
    const auto processors = num_processors();
    if (!processors.ok()) return processors.status();
    AppendLaunch launched = append_launch(cache, args, processors.value());
    AppendParams& p = launched.params;
    if (has_overlay(cache)) {
        p.early = true;
        if (Status s = record_exact(cache, args, p, stream); !s.ok()) return s;
    }
    void* arguments[] = {&p, &launched.layout};
    return launch(kernel_for(cache.spec.head_dim), launched.grid, kAppendThreads, launched.shared_bytes, p.early, arguments, stream);
}

}  // namespace turboquant::cuda

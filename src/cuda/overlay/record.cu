// Enqueues what an append does to the overlay, and forget_pages. Compiled with -fmad=false: sealing encodes.
#include <algorithm>

#include "cuda/checks.hpp"
#include "cuda/head_dims.hpp"
#include "cuda/launch.hpp"
#include "cuda/overlay/overlay.hpp"
#include "cuda/overlay/record.cuh"

namespace turboquant::cuda {
namespace {

const void* kernel_for(int head_dim) {
    return HeadDims::pick(head_dim, [](auto d) { return reinterpret_cast<const void*>(&record_kernel<d>); });
}

__global__ void forget_kernel(OverlayTables tables, const std::int32_t* pages, int num, int early) {
    if (early) {
        device::launch_dependents();
        device::wait_for_predecessor();
    }
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < num) forget_page(tables, pages ? pages[i] : i);
}

}  // namespace

Status record_exact(const PagedCache& cache, const AppendArgs& args, const AppendParams& append, void* stream) {
    const auto processors = num_processors();
    if (!processors.ok()) return processors.status();
    const OverlayTables tables = overlay_layout(cache.overlay).tables(cache.overlay.memory);
    AssignParams assign{tables, args.slots, args.query_start, args.lengths, args.block_table, args.table_stride, args.batch};
    int early = args.start != Start::after;
    void* assign_arguments[] = {&assign, &early};
    if (Status s = launch(reinterpret_cast<const void*>(&assign_kernel), 1, kAssignThreads, 0, early, assign_arguments, stream); !s.ok()) return s;

    RecordParams p{{append.sides[0], append.sides[1]}, append.rope, append.number, tables, overlay_rows(cache.overlay), append.pool, args.slots, append.page_units, append.head_units, cache.kv_heads, append.norm, append.centred};
    PageLayout layout = page_layout(cache.spec);
    void* arguments[] = {&p, &layout};
    // A sequence of the call has at most five slots that change: three that it wants, and two that it leaves.
    const long long most = std::min<long long>(cache.overlay.num_slots, 5ll * args.batch) * cache.kv_heads;
    return launch(kernel_for(cache.spec.head_dim), static_cast<int>(std::min<long long>(most, 2ll * processors.value())), kRecordThreads, 0, true, arguments, stream);
}

Status forget_pages(const PagedCache& cache, const PageList& list, void* stream) {
    if (Status s = check_forget(cache, list); !s.ok()) return s;
    if (list.num == 0 || !has_overlay(cache)) return {};
    OverlayTables tables = overlay_layout(cache.overlay).tables(cache.overlay.memory);
    const std::int32_t* pages = list.destination;
    int num = list.num, early = list.start != Start::after;
    void* arguments[] = {&tables, &pages, &num, &early};
    return launch(reinterpret_cast<const void*>(&forget_kernel), (num + 255) / 256, 256, 0, early, arguments, stream);
}

}  // namespace turboquant::cuda

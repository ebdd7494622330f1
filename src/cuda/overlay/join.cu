// Enqueues attention on exact pages behind that on coded ones.
#include "cuda/overlay/join.cuh"

#include "cuda/head_dims.hpp"
#include "cuda/launch.hpp"
#include "cuda/overlay/overlay.hpp"

namespace turboquant::cuda {
namespace {

struct JoinInstance {
    const void* kernel;
    int rows, threads;
    std::size_t shared;
};

template <int kHeadDim>
JoinInstance instance_of(bool many_rows) {
    constexpr int kFew = kHeadDim <= 128 ? 6 : 4, kMany = 4;  // warps
    using Few = JoinShape<kHeadDim, kFew, false>;
    using Many = JoinShape<kHeadDim, kMany, true>;
    if (many_rows) return {reinterpret_cast<const void*>(&join_kernel<kHeadDim, kMany, true>), Many::kRows, kMany * 32, Many::kShared};
    return {reinterpret_cast<const void*>(&join_kernel<kHeadDim, kFew, false>), Few::kRows, kFew * 32, Few::kShared};
}

JoinInstance find_instance(int head_dim, bool many_rows) {
    return HeadDims::pick(head_dim, [&](auto d) { return instance_of<d>(many_rows); });
}

}  // namespace

Joining divert(const PagedCache& cache, const AttendArgs& args, int prefill_rows, AttendParams& p) {
    p.slot_of_page = overlay_layout(cache.overlay).tables(cache.overlay.memory).slot_of_page;
    p.num_pages = cache.overlay.num_pages;
    const Joining joining{p, args.num_queries, prefill_rows};
    const std::int64_t heads = args.query_heads, dim = cache.spec.head_dim, tokens = static_cast<std::int64_t>(args.scratch_bytes) / (heads * (dim + 1) * 4);
    p.output = args.scratch;
    p.output_number = Number::fp32;
    p.output_token_stride = heads * dim;
    p.output_head_stride = dim;
    p.log_sum = static_cast<float*>(args.scratch) + tokens * heads * dim;
    p.sinks = nullptr;
    if (prefill_rows == 0) p.early = args.start == Start::after ? 4 : 3;
    return joining;
}

Status join_exact(const PagedCache& cache, const AttendArgs& args, const Joining& joining, void* stream) {
    const std::int64_t heads = args.query_heads, dim = cache.spec.head_dim, tokens = static_cast<std::int64_t>(args.scratch_bytes) / (heads * (dim + 1) * 4);
    JoinParams p{};
    p.a = joining.wanted;
    p.a.early = args.start != Start::after;
    p.rows = overlay_rows(cache.overlay);
    p.coded = static_cast<const float*>(args.scratch);
    p.coded_sum = p.coded + tokens * heads * dim;
    p.prefill_rows = joining.prefill_rows;
    const std::int64_t rows = static_cast<std::int64_t>(joining.most_queries) * p.a.group;
    const JoinInstance instance = find_instance(cache.spec.head_dim, rows > 2 * kMaxQueries * kMostRows);
    p.tiles = static_cast<std::int32_t>((rows + instance.rows - 1) / instance.rows);
    const std::int64_t grid = static_cast<std::int64_t>(p.tiles) * args.batch * cache.kv_heads;
    if (grid > 0x7fffffff) return unsupported("batch times kv_heads times queries is too large for one launch with an overlay: " + std::to_string(grid) + " tiles of query rows; supported: below 2^31");
    void* arguments[] = {&p};
    // Attend lets this kernel start once everything before attend is complete; prefill's last kernel does not.
    return launch(instance.kernel, static_cast<int>(grid), instance.threads, instance.shared, joining.prefill_rows == 0, arguments, stream);
}

}  // namespace turboquant::cuda

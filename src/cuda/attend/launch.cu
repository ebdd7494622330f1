// attend(): judge the arguments, find the kernel, fill its params, launch.
#include <algorithm>

#include "cuda/attend/attend_for.hpp"
#include "cuda/attend/fill.hpp"
#include "cuda/attend/instance.hpp"
#include "cuda/attend/policy.hpp"
#include "cuda/checks.hpp"
#include "cuda/launch.hpp"
#include "cuda/overlay/overlay.hpp"
#include "cuda/plain/launch.hpp"

namespace turboquant::cuda {

#define TQ_FAMILY(T, D, K, V) const AttendInstance* attend_family_##T##_##D##_##K##_##V();
#include "cuda/attend/kernels.inc"
#undef TQ_FAMILY
#define TQ_WIDE(D, K, V, R) const AttendInstance* attend_wide_##D##_##K##_##V##_##R();
#include "cuda/attend/wide_kernels.inc"
#undef TQ_WIDE

namespace {

constexpr struct {
    Target target;
    int head_dim, key_bits, value_bits;
    const AttendInstance* (*instances)();
} kFamilies[] = {
#define TQ_FAMILY(T, D, K, V) {Target::T, D, K, V, &attend_family_##T##_##D##_##K##_##V},
#include "cuda/attend/kernels.inc"
#undef TQ_FAMILY
};

// The kernel for many rows, where the policy wants it and the build has it.
const AttendInstance* find_wide(Target target, const PageSpec& spec, int group, int num_queries) {
    const int rows = wide_rows_for(spec.head_dim, group, num_queries);
    if (rows == 0 || !has_warpgroups(target)) return nullptr;
#define TQ_WIDE(D, K, V, R) \
    if (spec.head_dim == D && spec.key_bits == K && spec.value_bits == V && rows == R) return attend_wide_##D##_##K##_##V##_##R();
#include "cuda/attend/wide_kernels.inc"
#undef TQ_WIDE
    return nullptr;
}

Result<const AttendInstance*> find_instance(Target target, const PageSpec& spec, int group, int num_queries) {
    if (const AttendInstance* wide = find_wide(target, spec, group, num_queries)) return wide;
    bool any = false;
    for (const auto& family : kFamilies) {
        if (family.target != target) continue;
        any = true;
        if (family.head_dim != spec.head_dim || family.key_bits != spec.key_bits || family.value_bits != spec.value_bits) continue;
        const int rows = rows_for(group, num_queries);
        return family.instances() + (rows == 4 ? 0 : rows == 8 ? 1 : 2);
    }
    if (!any) {
        return unsupported("this build has no kernels for the CUDA device, which has compute capability " + current_capability() + " (TQ_CUDA_ARCHITECTURES)");
    }
    std::string built;
    for (const auto& family : kFamilies) {
        if (family.target != target) continue;
        built += (built.empty() ? "" : ", ") + std::to_string(family.head_dim) + ":k" + std::to_string(family.key_bits) + "v" + std::to_string(family.value_bits);
    }
    return unsupported("head_dim " + std::to_string(spec.head_dim) + " with k" + std::to_string(spec.key_bits) + "v" + std::to_string(spec.value_bits) +
                       " is not among the kernels of this build (TQ_CUDA_KERNELS): " + built);
}

}  // namespace

Result<Workspace> attend_workspace(const PageSpec& spec, int kv_heads, int query_heads, int num_queries) {
    return attend_workspace_for(std::nullopt, spec, kv_heads, query_heads, num_queries);
}

Result<Workspace> attend_workspace_for(std::optional<Target> wanted, const PageSpec& spec, int kv_heads, int query_heads, int num_queries) {
    if (Status s = validate(spec); !s.ok()) return s;
    const auto target = target_or_own(wanted);
    if (!target.ok()) return target.status();
    if (Status s = check_group(kv_heads, query_heads, num_queries); !s.ok()) return s;
    if (uses_records(spec)) return plain_workspace(spec);
    const auto instance = find_instance(target.value(), spec, query_heads / kv_heads, num_queries);
    if (!instance.ok()) return instance.status();
    const auto processors = num_processors();
    if (!processors.ok()) return processors.status();
    return Workspace{instance.value()->workspace_bytes(processors.value()), zeroed_bytes(processors.value())};
}

Status attend(const PagedCache& cache, const AttendArgs& args, void* stream) { return attend_for(std::nullopt, cache, args, stream); }

Status attend_for(std::optional<Target> wanted, const PagedCache& cache, const AttendArgs& args, void* stream) {
    if (Status s = check_attend(cache, args); !s.ok()) return s;
    if (args.batch == 0) return {};
    const auto target = target_or_own(wanted);
    if (!target.ok()) return target.status();
    if (uses_records(cache.spec)) return plain_attend(cache, args, stream);
    const auto found = find_instance(target.value(), cache.spec, args.query_heads / cache.kv_heads, args.num_queries);
    if (!found.ok()) return found.status();
    const AttendInstance& instance = *found.value();
    const auto processors = num_processors();
    if (!processors.ok()) return processors.status();
    const int grid = processors.value();
    if (args.workspace == nullptr || reinterpret_cast<std::uintptr_t>(args.workspace) % 256 != 0) {
        return invalid_argument("workspace is null or not aligned to 256 bytes");
    }
    if (args.workspace_bytes < instance.workspace_bytes(grid)) {
        return invalid_argument("workspace_bytes is " + std::to_string(args.workspace_bytes) + "; this call needs " + std::to_string(instance.workspace_bytes(grid)));
    }

    AttendParams p = attend_params(cache, args);
    p.group_inverse = static_cast<std::uint32_t>(((1ull << 32) + p.group - 1) / p.group);
    p.early = static_cast<std::int32_t>(args.start);
    auto* const workspace = static_cast<std::uint8_t*>(args.workspace);
    p.counters = reinterpret_cast<unsigned*>(workspace);
    p.handed = reinterpret_cast<float*>(workspace + counter_bytes(grid));
    p.partials = reinterpret_cast<float*>(workspace + zeroed_bytes(grid));
    p.scratch = p.partials + 2 * static_cast<std::size_t>(grid) * instance.partial;

    void* arguments[] = {&p};
    const void* kernel = p.cap != 0 && instance.capped ? instance.capped : instance.kernel;
    const Joining joining = has_overlay(cache) ? divert(cache, args, 0, p) : Joining{};
    if (Status s = launch(kernel, grid, instance.warps * 32, instance.shared_bytes(args.batch), args.start != Start::after, arguments, stream); !s.ok() || !has_overlay(cache)) return s;
    return join_exact(cache, args, joining, stream);
}

}  // namespace turboquant::cuda

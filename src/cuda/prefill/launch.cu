// prefill(): judge the arguments, find the kernels, fill their params, launch both.
#include "cuda/attend/fill.hpp"
#include "cuda/checks.hpp"
#include "cuda/launch.hpp"
#include "cuda/overlay/overlay.hpp"
#include "cuda/prefill/instance.hpp"
#include "cuda/prefill/join.hpp"
#include "cuda/prefill/prefill_for.hpp"

namespace turboquant::cuda {

#define TQ_HEAD_DIM(D) PrefillInstance prefill_instance_##D();
#include "cuda/prefill/kernels.inc"
#undef TQ_HEAD_DIM
#define TQ_WARPS(T, D) PrefillInstance warp_prefill_##T##_##D();
#include "cuda/prefill/warp_kernels.inc"
#undef TQ_WARPS

namespace {

Result<PrefillInstance> find_instance(Target target, int head_dim) {
    std::string built;
    const bool warpgroups = has_warpgroups(target);
#define TQ_HEAD_DIM(D)                                                          \
    if (warpgroups) {                                                           \
        if (head_dim == D) return prefill_instance_##D();                       \
        built += (built.empty() ? "" : ", ") + std::to_string(D);               \
    }
#include "cuda/prefill/kernels.inc"
#undef TQ_HEAD_DIM
    const bool listed = !built.empty();  // the head sizes are the same
#define TQ_WARPS(T, D)                                                          \
    if (target == Target::T) {                                                  \
        if (head_dim == D) return warp_prefill_##T##_##D();                     \
        if (!listed) built += (built.empty() ? "" : ", ") + std::to_string(D);  \
    }
#include "cuda/prefill/warp_kernels.inc"
#undef TQ_WARPS
    if (built.empty()) {
        return unsupported("this build has no prefill kernels for the CUDA device, which has compute capability " + current_capability() + " (TQ_CUDA_ARCHITECTURES)");
    }
    return unsupported("head_dim " + std::to_string(head_dim) + " is not among the prefill kernels of this build (TQ_CUDA_KERNELS): " + built);
}

int num_clusters(const PrefillInstance& instance, int processors) { return processors < instance.ctas ? 1 : processors / instance.ctas; }

AttendParams prefill_params(const PagedCache& cache, const AttendArgs& args) {
    AttendParams p = attend_params(cache, args);
    p.early = args.start != Start::after;
    p.partials = static_cast<float*>(args.workspace);
    return p;
}

}  // namespace

Result<Workspace> prefill_workspace(const PageSpec& spec) {
    return prefill_workspace_for(std::nullopt, spec);
}

Result<Workspace> prefill_workspace_for(std::optional<Target> wanted, const PageSpec& spec) {
    if (Status s = validate(spec); !s.ok()) return s;
    if (Status s = check_no_records(spec, "prefill"); !s.ok()) return s;
    const auto target = target_or_own(wanted);
    if (!target.ok()) return target.status();
    const auto instance = find_instance(target.value(), spec.head_dim);
    if (!instance.ok()) return instance.status();
    const auto processors = num_processors();
    if (!processors.ok()) return processors.status();
    return Workspace{instance.value().workspace_bytes(num_clusters(instance.value(), processors.value())), 0};
}

Status prefill(const PagedCache& cache, const AttendArgs& args, void* stream) { return prefill_for(std::nullopt, cache, args, stream); }

Status prefill_for(std::optional<Target> wanted, const PagedCache& cache, const AttendArgs& args, void* stream) {
    if (Status s = check_prefill(cache, args); !s.ok()) return s;
    if (args.batch == 0) return {};
    const auto target = target_or_own(wanted);
    if (!target.ok()) return target.status();
    const auto found = find_instance(target.value(), cache.spec.head_dim);
    if (!found.ok()) return found.status();
    const PrefillInstance& instance = found.value();
    const auto processors = num_processors();
    if (!processors.ok()) return processors.status();
    int clusters = num_clusters(instance, processors.value());
    if (args.workspace == nullptr || reinterpret_cast<std::uintptr_t>(args.workspace) % 256 != 0) {
        return invalid_argument("workspace is null or not aligned to 256 bytes");
    }
    if (args.workspace_bytes < instance.workspace_bytes(clusters)) {
        return invalid_argument("workspace_bytes is " + std::to_string(args.workspace_bytes) + "; this call needs " + std::to_string(instance.workspace_bytes(clusters)));
    }
    PrefillParams p{};
    p.a = prefill_params(cache, args);
    const Joining joining = has_overlay(cache) ? divert(cache, args, instance.rows, p.a) : Joining{};
    p.layout = page_layout(cache.spec);
    for (Side side : {Side::key, Side::value}) {
        const int i = side == Side::value;
        p.part_bytes[i] = static_cast<std::uint32_t>(p.layout.of(side).part_bytes());
        p.slot_bytes[i] = (p.part_bytes[i] + 127) / 128 * 128;
    }
    p.slots = instance.slots(p.slot_bytes[0], p.slot_bytes[1]);
    void* arguments[] = {&p};
    if (Status s = launch(instance.kernel, instance.ctas * clusters, instance.threads, instance.shared_bytes(p.slot_bytes[0], p.slot_bytes[1]), args.start != Start::after, arguments, stream); !s.ok()) return s;
    void* join_arguments[] = {&p, &clusters};
    if (Status s = launch(prefill_join(instance.head_dim, instance.rows), kJoinParts * clusters, kJoinThreads, 0, false, join_arguments, stream); !s.ok() || !has_overlay(cache)) return s;
    return join_exact(cache, args, joining, stream);
}

}  // namespace turboquant::cuda

// What the verbs have in common on the host: judging arguments, and the numbers that a rotation is handed as. No CUDA in here.
#pragma once

#include "core/page.hpp"
#include "cuda/attend/params.hpp"
#include "turboquant/cuda.hpp"

namespace turboquant::cuda {

inline PageLayout page_layout(const PageSpec& spec) { return {spec.head_dim, spec.key_bits, spec.value_bits}; }

Status check_cache(const PagedCache& cache);
// Refuses pages of records, for what only mma64 pages have.
Status check_no_records(const PageSpec& spec, const char* verb);
// Everything but the workspace's size, which depends on the device.
Status check_attend(const PagedCache& cache, const AttendArgs& args);
Status check_prefill(const PagedCache& cache, const AttendArgs& args);
Status check_append(const PagedCache& cache, const AppendArgs& args);
Status check_copy(const PagedCache& from, const PagedCache& to, const PageList& list);
Status check_forget(const PagedCache& cache, const PageList& list);
Status check_images(const PagedCache& cache, const PageImages& images, const PageList& list);
Status check_group(int kv_heads, int query_heads, int num_queries);

// transposed: for the inverse.
RotationBits rotation_bits(int head_dim, std::uint64_t seed, std::uint64_t stream, bool transposed);
inline RotationBits rotation_bits(int head_dim, std::uint64_t seed, Side side, bool transposed) {
    return rotation_bits(head_dim, seed, static_cast<std::uint64_t>(side), transposed);
}
float rotation_norm(int head_dim);

}  // namespace turboquant::cuda

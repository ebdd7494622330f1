// append(): judge the arguments, fill the params, launch.
#include <algorithm>

#include "cuda/append/book.hpp"
#include "cuda/append/kernel.cuh"
#include "cuda/append/policy.hpp"
#include "cuda/checks.hpp"
#include "cuda/launch.hpp"
#include "cuda/overlay/overlay.hpp"
#include "cuda/plain/launch.hpp"

namespace turboquant::cuda {
namespace {

const void* kernel_for(int head_dim) {
    switch (head_dim) {
        case 64: return reinterpret_cast<const void*>(&append_kernel<64>);
        case 80: return reinterpret_cast<const void*>(&append_kernel<80>);
        case 96: return reinterpret_cast<const void*>(&append_kernel<96>);
        case 112: return reinterpret_cast<const void*>(&append_kernel<112>);
        case 128: return reinterpret_cast<const void*>(&append_kernel<128>);
        case 192: return reinterpret_cast<const void*>(&append_kernel<192>);
        default: return reinterpret_cast<const void*>(&append_kernel<256>);
    }
}

}  // namespace

Status append(const PagedCache& cache, const AppendArgs& args, void* stream) {
    if (Status s = check_append(cache, args); !s.ok()) return s;
    if (args.tokens == 0) return {};
    if (uses_records(cache.spec)) return plain_append(cache, args, stream);
    const auto processors = num_processors();
    if (!processors.ok()) return processors.status();
    const PageSpec& spec = cache.spec;

    AppendParams p{};
    p.keys = {args.keys, args.key_token_stride, args.key_head_stride, encode_book(spec.key_bits, Side::key, spec.gain_search),
              rotation_bits(spec.head_dim, spec.seed, Side::key, false)};
    p.values = {args.values, args.value_token_stride, args.value_head_stride, encode_book(spec.value_bits, Side::value, spec.gain_search),
                rotation_bits(spec.head_dim, spec.seed, Side::value, false)};
    p.pool = static_cast<std::uint8_t*>(cache.pages);
    p.slots = args.slots;
    p.query_start = args.batch > 0 ? args.query_start : nullptr;
    p.lengths = args.lengths;
    p.block_table = args.block_table;
    p.page_units = static_cast<std::uint32_t>(cache.page_stride / 128);
    p.head_units = static_cast<std::uint32_t>(cache.head_stride / 128);
    p.tokens = args.tokens;
    p.kv_heads = cache.kv_heads;
    p.batch = args.batch;
    p.table_stride = args.table_stride;
    p.tile = append_tile(args.tokens, cache.kv_heads, processors.value());
    p.norm = rotation_norm(spec.head_dim);
    p.number = args.number;
    p.centred = spec.centred_keys;
    p.early = args.start != Start::after || has_overlay(cache);
    if (has_overlay(cache)) {
        if (Status s = record_exact(cache, args, p, stream); !s.ok()) return s;
    }
    PageLayout layout = page_layout(spec);

    void* arguments[] = {&p, &layout};
    const int grid = (args.tokens + p.tile - 1) / p.tile * cache.kv_heads;
    const std::size_t shared = 2 * static_cast<std::size_t>(p.tile) * (layout.keys().padded_dim() + 4);
    return launch(kernel_for(spec.head_dim), grid, kAppendThreads, shared, p.early, arguments, stream);
}

}  // namespace turboquant::cuda

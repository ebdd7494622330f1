// What the kernels of attend, prefill and the plain path are handed alike. Host code; the arguments have been judged.
#pragma once

#include "cuda/attend/params.hpp"
#include "cuda/checks.hpp"

namespace turboquant::cuda {

template <class Params>
void fill_attention(Params& p, const PagedCache& cache, const AttendArgs& args) {
    constexpr float kLog2E = 1.4426950408889634f;
    p.query = args.query;
    p.output = args.output;
    p.log_sum = args.log_sum;
    p.pool = static_cast<const std::uint8_t*>(cache.pages);
    p.block_table = args.block_table;
    p.lengths = args.lengths;
    p.query_start = args.query_start;
    p.sinks = args.sinks;
    p.query_token_stride = args.query_token_stride;
    p.query_head_stride = args.query_head_stride;
    p.output_token_stride = args.output_token_stride;
    p.output_head_stride = args.output_head_stride;
    p.table_stride = args.table_stride;
    p.kv_heads = cache.kv_heads;
    p.group = args.query_heads / cache.kv_heads;
    p.num_queries = args.num_queries;
    p.window = args.window;
    p.scale = args.scale * kLog2E;
    p.cap = args.softcap * kLog2E;
    p.norm = rotation_norm(cache.spec.head_dim);
    p.query_number = args.query_number;
    p.output_number = args.output_number;
}

// What attend and prefill share.
inline AttendParams attend_params(const PagedCache& cache, const AttendArgs& args) {
    AttendParams p{};
    fill_attention(p, cache, args);
    p.page_units = static_cast<std::uint32_t>(cache.page_stride / 128);
    p.head_units = static_cast<std::uint32_t>(cache.head_stride / 128);
    p.batch = args.batch;
    p.keys = rotation_bits(cache.spec.head_dim, cache.spec.seed, Side::key, false);
    p.values = rotation_bits(cache.spec.head_dim, cache.spec.seed, Side::value, true);
    return p;
}

}  // namespace turboquant::cuda

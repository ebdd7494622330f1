// What append() is asked for, checked, as the params of its kernel. Host code.
#pragma once

#include <algorithm>

#include "core/page.hpp"
#include "cuda/append/book.hpp"
#include "cuda/append/policy.hpp"
#include "cuda/checks.hpp"

namespace turboquant::cuda {

struct AppendLaunch {
    AppendParams params;
    PageLayout layout;
    int grid;
    std::size_t shared_bytes;
};

inline AppendLaunch append_launch(const PagedCache& cache, const AppendArgs& args, int processors) {
    const PageSpec& spec = cache.spec;
    AppendParams p{};
    p.sides[0] = {args.keys, args.key_token_stride, args.key_head_stride, encode_book(spec.key_bits, Side::key, spec.gain_search),
                  rotation_bits(spec.head_dim, spec.seed, Side::key, false)};
    p.sides[1] = {args.values, args.value_token_stride, args.value_head_stride, encode_book(spec.value_bits, Side::value, spec.gain_search),
                  rotation_bits(spec.head_dim, spec.seed, Side::value, false)};
    if (const Rope& rope = args.rope; rope.style != RopeStyle::none) {
        p.rope = {rope.cosines, rope.sines, rope.positions, rope.position_stride, rope.rotary_dim / 2, static_cast<std::int32_t>(rope.max_position),
                  rope.style == RopeStyle::interleaved, rope.position_bytes == 8};
    }
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
    p.tile = append_tile(args.tokens, cache.kv_heads, processors);
    p.norm = rotation_norm(spec.head_dim);
    p.number = args.number;
    p.centred = spec.centred_keys;
    p.early = args.start != Start::after;
    const PageLayout layout = page_layout(spec);
    const std::size_t padded_dim = static_cast<std::size_t>(layout.keys().padded_dim());
    const std::size_t codes = 2 * static_cast<std::size_t>(p.tile) * (padded_dim + 4), run = 2 * kPageTokens * padded_dim;
    return {p, layout, (args.tokens + p.tile - 1) / p.tile * cache.kv_heads, std::max(codes, run)};
}

}  // namespace turboquant::cuda

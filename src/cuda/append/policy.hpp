// How many neighbouring tokens a CTA of the encoding kernel takes. Host code, no CUDA.
#pragma once

namespace turboquant::cuda {

inline constexpr int kAppendThreads = 256, kAppendWarps = kAppendThreads / 32;

// Few tokens: small tiles, so that there are enough CTAs; many: large ones, which write whole words. 4, 8, 16, 32 or 64.
constexpr int append_tile(int tokens, int kv_heads, int processors) {
    int tile = 4;
    while (tile < 64 && static_cast<long long>((tokens + tile - 1) / tile) * kv_heads > 2ll * processors) tile *= 2;
    return tile;
}

static_assert(append_tile(64, 8, 132) == 4);
static_assert(append_tile(2048, 8, 132) == 64);

}  // namespace turboquant::cuda

// How the prefill kernel for GPUs without warpgroup instructions is shaped. Host code, no CUDA: unit-tested. Reasons: docs/decisions/0021-prefill-elsewhere.md.
#pragma once

#include "cuda/prefill/policy.hpp"
#include "cuda/target.hpp"

namespace turboquant::cuda {

inline constexpr bool has_large_memory(Target target) { return shared_limit(target) > 128 * 1024; }

// Every warp has 16 query rows, for which it multiplies, and a part in decoding. As many rows as there are registers and memory for.
constexpr int prefill_warps(int head_dim, Target target) { return head_dim > 192 && !has_large_memory(target) ? 4 : 8; }

template <int kHeadDim, Target kTarget>
struct WarpPrefillShape : PrefillPiece<kHeadDim, 16 * prefill_warps(kHeadDim, kTarget)> {
    static constexpr int D = (kHeadDim + 31) / 32 * 32, kBlocks = (D + 63) / 64, kSteps = D / 16;
    static constexpr int kWarps = prefill_warps(kHeadDim, kTarget), kThreads = 32 * kWarps, kFirstThread = 0;
    static constexpr int kCtas = 1, kOwnRows = 16 * kWarps;
    // Two tiles: keys and values have one each, so that half of the warps decode the one while the other half still multiplies with the other. One tile: it
    // holds keys and values in turn.
    static constexpr bool kTwoTiles = D <= 128 || (D == 192 && has_large_memory(kTarget));
    static constexpr int kDecoders = kTwoTiles ? kWarps / 2 : kWarps;   // warps that decode a part
    static constexpr int kRegisterSteps = D <= 128 ? kSteps : D == 192 ? kSteps - 4 : 0;  // as in PrefillShape

    static constexpr std::size_t kKeyTile = static_cast<std::size_t>(kBlocks) * 64 * 128, kValueTile = static_cast<std::size_t>(D) * 128;
    static constexpr std::size_t kQueryTile = static_cast<std::size_t>(kBlocks) * 64 * 128;  // of four warps; later their results
    // Shared memory: tiles first, at multiples of 1024.
    static constexpr std::size_t kValues = kTwoTiles ? kKeyTile : 0, kQueries = kValues + (kTwoTiles || kValueTile > kKeyTile ? kValueTile : kKeyTile);
    // References: the first page's and two that come in, not rotated; the rotated one.
    static constexpr std::size_t kReference = 2 * D, kReferencesAt = kQueries + kWarps / 4 * kQueryTile;
    static constexpr std::size_t kRowState = kReferencesAt + 4 * kReference, kStarts = kRowState + kThreads * 16;
    static constexpr std::size_t kParts = kStarts + (static_cast<std::size_t>(kMaxBatch + 1) * 4 + 127) / 128 * 128;
    static_assert(kQueries % 1024 == 0 && kReferencesAt % 128 == 0);

    // Codes that come in: a part of each kind, or with one tile a single one.
    static constexpr int slots(std::size_t, std::size_t) { return 1; }
    static constexpr std::size_t shared_bytes(std::size_t key_part, std::size_t value_part) {
        return kParts + (kTwoTiles ? key_part + value_part : key_part > value_part ? key_part : value_part);
    }
};

}  // namespace turboquant::cuda

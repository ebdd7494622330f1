// How the prefill kernel for GPUs without warpgroup instructions is shaped. Host code, no CUDA: unit-tested. Reasons: docs/decisions/0021-prefill-elsewhere.md.
#pragma once

#include "cuda/prefill/policy.hpp"
#include "cuda/target.hpp"

namespace turboquant::cuda {

inline constexpr bool has_large_memory(Target target) { return shared_limit(target) > 128 * 1024; }

// Every warp has one or two tiles of 16 query rows, for which it multiplies, and a part in decoding. As many as there are registers and memory for: two read
// the operands of keys and values once for both.
constexpr int prefill_warps(int head_dim, Target target) { return head_dim > 192 && !has_large_memory(target) ? 4 : 8; }
constexpr int prefill_row_tiles(int head_dim, Target target) { return head_dim <= (has_large_memory(target) ? 128 : 64) ? 2 : 1; }

template <int kHeadDim, Target kTarget>
struct WarpPrefillShape : PrefillPiece<kHeadDim, 16 * prefill_row_tiles(kHeadDim, kTarget) * prefill_warps(kHeadDim, kTarget)> {
    using PrefillPiece<kHeadDim, 16 * prefill_row_tiles(kHeadDim, kTarget) * prefill_warps(kHeadDim, kTarget)>::D;
    static constexpr int kBlocks = (D + 63) / 64, kSteps = D / 16;
    static constexpr int kWarps = prefill_warps(kHeadDim, kTarget), kThreads = 32 * kWarps, kFirstThread = 0;
    static constexpr int kRowTiles = prefill_row_tiles(kHeadDim, kTarget), kCtas = 1, kOwnRows = 16 * kRowTiles * kWarps;
    // Two stages of a tile of keys and one of values, or one tile for both in turn.
    static constexpr int kStages = kHeadDim <= 128 || (kHeadDim <= 192 && has_large_memory(kTarget)) ? 2 : 1;
    static constexpr int kDecoders = kWarps / kStages;                  // warps that decode a part
    // Of the steps of 16 dims, so many have their queries in registers; the rest reads them from shared memory every time.
    static constexpr int kRegisterSteps = kRowTiles == 2 || D > 192 ? 0 : D == 192 && kStages == 1 ? kSteps - 4 : kSteps;

    static constexpr std::size_t kKeyTile = static_cast<std::size_t>(kBlocks) * 64 * 128, kValueTile = static_cast<std::size_t>(D) * 128;
    static constexpr std::size_t kQueryTile = static_cast<std::size_t>(kBlocks) * 64 * 128;  // of four warps; later their results
    // Shared memory: tiles first, at multiples of 1024. Queries that only go through it to get into registers, and results, lie over the second stage.
    static constexpr std::size_t kValues = kStages == 2 ? kKeyTile : 0, kStage = kStages == 2 ? kKeyTile + kValueTile : kKeyTile > kValueTile ? kKeyTile : kValueTile;
    static constexpr std::size_t kQueryTiles = kRowTiles * kWarps / 4 * kQueryTile, kTiles = kStages * kStage;
    static constexpr std::size_t kQueries = kRegisterSteps == kSteps ? kStage : kTiles;
    static constexpr std::size_t kReference = 2 * D, kReferencesAt = kQueries + kQueryTiles > kTiles ? kQueries + kQueryTiles : kTiles;
    static constexpr std::size_t kRowState = kReferencesAt + 4 * kReference, kWays = kRowState + kRowTiles * kThreads * 16, kStarts = kWays + kWarps * kWayBytes;
    static constexpr std::size_t kParts = kStarts + (static_cast<std::size_t>(kMaxBatch + 1) * 4 + 127) / 128 * 128;
    static_assert(kQueries % 1024 == 0 && kReferencesAt % 128 == 0);

    // Codes that come in: a part of each kind, or with one tile a single one.
    static constexpr int slots(std::size_t, std::size_t) { return 1; }
    static constexpr std::size_t shared_bytes(std::size_t key_part, std::size_t value_part) {
        return kParts + (kStages == 2 ? key_part + value_part : key_part > value_part ? key_part : value_part);
    }
};

}  // namespace turboquant::cuda

// How the prefill kernel is shaped for a head size. Host code, no CUDA: unit-tested. Reasons: docs/decisions/0015-cuda-prefill.md.
#pragma once

#include "cuda/attend/policy.hpp"

namespace turboquant::cuda {

// A piece of a tile of rows that several CTAs (or clusters) share: sums, then m and l, then two unused, per row.
template <int kHeadDim, int kTileRows>
struct PrefillPiece {
    static constexpr int D = (kHeadDim + 31) / 32 * 32, kRows = kTileRows, kRow = D + 4;
    static constexpr std::size_t kPartial = static_cast<std::size_t>(kRows) * kRow;          // floats
    static constexpr std::size_t workspace_bytes(int ranges) { return 2 * static_cast<std::size_t>(ranges) * kPartial * 4; }
};

inline constexpr std::size_t kWayBytes = 48;   // of shared memory, for a warp's PrefillWay

// Two CTAs work on the same pages: each decodes every other one for both. Where there is room for a single stage, a CTA is alone: it would wait for the
// other one at every page.
constexpr int cluster_ctas(int head_dim) { return head_dim <= 192 ? 2 : 1; }

template <int kHeadDim>
struct PrefillShape : PrefillPiece<kHeadDim, 128 * cluster_ctas(kHeadDim)> {
    using PrefillPiece<kHeadDim, 128 * cluster_ctas(kHeadDim)>::D;
    static constexpr int kBlocks = (D + 63) / 64;
    // A warpgroup decodes keys, one values, and two have 64 query rows each: with more rows per page, registers would be too few for a second
    // decoding warpgroup, and one alone is too slow.
    static constexpr int kCtas = cluster_ctas(kHeadDim);              // of a cluster
    static constexpr int kConsumers = 2, kOwnRows = 64 * kConsumers, kThreads = 128 * (kConsumers + 2), kFirstThread = 256;  // that has rows
    static constexpr int kConsumerRegisters = D <= 128 ? 176 : 200, kProducerRegisters = D <= 128 ? 80 : 56;
    static_assert(2 * kConsumerRegisters + 2 * kProducerRegisters <= 512);
    // Of the steps of 16 dims, so many have their queries in registers; the rest reads them from shared memory every time.
    static constexpr int kSteps = D / 16, kRegisterSteps = D <= 128 ? kSteps : D == 192 ? kSteps - 4 : 0;
    static constexpr bool kAhead = D <= 128;  // the next page's scores and softmax run beside this page's values

    static constexpr std::size_t kKeyTile = static_cast<std::size_t>(kBlocks) * 64 * 128, kValueTile = static_cast<std::size_t>(D) * 128;
    static constexpr int kKeyStages = D <= 128 ? 4 : D <= 192 ? 3 : 2, kValueStages = D <= 128 ? 4 : D <= 192 ? 2 : 1;
    static_assert(kKeyStages <= 4 && kValueStages <= 4);  // Barriers
    static constexpr std::size_t kQueryTile = static_cast<std::size_t>(kBlocks) * 64 * 128;  // of one warpgroup; later its results
    static constexpr int kReferences = 9;                       // rotated ones of two times four pages, and the first page's, not rotated

    // Shared memory: tiles first, at multiples of 1024.
    static constexpr std::size_t kValues = kKeyStages * kKeyTile, kQueries = kValues + kValueStages * kValueTile;
    static constexpr std::size_t kReferencesAt = kQueries + kConsumers * kQueryTile, kBarriers = kReferencesAt + (kReferences * D * 2 + 127) / 128 * 128;
    static constexpr int kMaxSlots = 4;
    static constexpr std::size_t kCopies = kBarriers + 256, kRowState = kCopies + 256;        // of the lanes that copy; 16 bytes per consuming thread
    static constexpr std::size_t kWays = kRowState + 128 * kConsumers * 16;                   // of the consuming warps
    static constexpr std::size_t kStarts = kWays + 4 * kConsumers * kWayBytes;
    static constexpr std::size_t kRing = kStarts + (static_cast<std::size_t>(kMaxBatch + 1) * 4 + 127) / 128 * 128;
    static_assert(kQueries % 1024 == 0 && kValues % 1024 == 0);

    // Pages in flight. Bytes of their two parts, each a multiple of 128; the values' ring follows that of the keys.
    static constexpr int slots(std::size_t key_part, std::size_t value_part) {
        const std::size_t fit = (kSharedLimit - kRing) / (key_part + value_part);
        return fit < kMaxSlots ? static_cast<int>(fit) : kMaxSlots;
    }
    static constexpr std::size_t shared_bytes(std::size_t key_part, std::size_t value_part) { return kRing + slots(key_part, value_part) * (key_part + value_part); }
};

}  // namespace turboquant::cuda

// How the prefill kernel is shaped for a head size. Host code, no CUDA: unit-tested. Reasons: docs/decisions/0015-cuda-prefill.md.
#pragma once

#include "cuda/attend/policy.hpp"

namespace turboquant::cuda {

template <int kHeadDim>
struct PrefillShape {
    static constexpr int D = (kHeadDim + 31) / 32 * 32, kBlocks = (D + 63) / 64;
    // A warpgroup decodes pages, the others have 64 query rows each. Three where registers allow it: a decoded page serves more rows.
    static constexpr int kConsumers = D <= 128 ? 3 : 2;
    static constexpr int kRows = 64 * kConsumers, kThreads = 128 * (kConsumers + 1);
    static constexpr int kConsumerRegisters = kConsumers == 3 ? 152 : 216, kProducerRegisters = kConsumers == 3 ? 56 : 80;
    static_assert(kConsumers * kConsumerRegisters + kProducerRegisters <= 512);
    // Of the steps of 16 dims, so many have their queries in registers; the rest reads them from shared memory every time.
    static constexpr int kSteps = D / 16, kRegisterSteps = D <= 96 ? kSteps : D == 128 ? kSteps - 2 : D == 192 ? kSteps - 4 : 0;

    static constexpr std::size_t kKeyTile = static_cast<std::size_t>(kBlocks) * 64 * 128, kValueTile = static_cast<std::size_t>(D) * 128;
    static constexpr int kKeyStages = D <= 128 ? 3 : 2, kValueStages = D <= 128 ? 3 : D <= 192 ? 2 : 1;
    static constexpr std::size_t kQueryTile = static_cast<std::size_t>(kBlocks) * 64 * 128;  // of one warpgroup; later its results
    static constexpr int kReferences = 9;                       // rotated ones of two times four pages, and the first page's, not rotated

    // Shared memory: tiles first, at multiples of 1024.
    static constexpr std::size_t kValues = kKeyStages * kKeyTile, kQueries = kValues + kValueStages * kValueTile;
    static constexpr std::size_t kReferencesAt = kQueries + kConsumers * kQueryTile, kBarriers = kReferencesAt + (kReferences * D * 2 + 127) / 128 * 128;
    static constexpr int kMaxSlots = 4;
    static constexpr std::size_t kCopies = kBarriers + 256, kRowState = kCopies + 128;        // of the warp that copies; 16 bytes per consuming thread
    static constexpr std::size_t kStarts = kRowState + 128 * kConsumers * 16;
    static constexpr std::size_t kRing = kStarts + (static_cast<std::size_t>(kMaxBatch + 1) * 4 + 127) / 128 * 128;
    static_assert(kQueries % 1024 == 0 && kValues % 1024 == 0);

    // Pages in flight; blob: bytes, a multiple of 128.
    static constexpr int slots(std::size_t blob) {
        const std::size_t fit = (kSharedLimit - kRing) / blob;
        return fit < kMaxSlots ? static_cast<int>(fit) : kMaxSlots;
    }
    static constexpr std::size_t shared_bytes(std::size_t blob) { return kRing + slots(blob) * blob; }

    // A piece of a tile of rows that several CTAs share: sums, then m and l, then two unused, per row.
    static constexpr int kRow = D + 4;
    static constexpr std::size_t kPartial = static_cast<std::size_t>(kRows) * kRow;          // floats
    static constexpr std::size_t workspace_bytes(int grid) { return 2 * static_cast<std::size_t>(grid) * kPartial * 4; }
};

}  // namespace turboquant::cuda

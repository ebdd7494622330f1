// How the kernel for many query rows is shaped (wide_kernel.cuh). Host code, no CUDA: unit-tested. docs/decisions/0018-wide-rows.md.
#pragma once

#include "cuda/attend/policy.hpp"

namespace turboquant::cuda {

inline constexpr int kTeamWarps = 4;  // a warpgroup

// Names that merge.cuh knows are those of AttendShape: what walks through pages there is a warp, here a team.
template <int kKeyBits, int kValueBits, int kRows, int kHeadDim>
struct WideShape {
    static constexpr PageLayout kLayout{kHeadDim, kKeyBits, kValueBits};
    static constexpr int D = kLayout.keys().padded_dim();
    static constexpr std::size_t kBlob = kLayout.keys().part_bytes() + kLayout.values().part_bytes(), kSlot = (kBlob + 127) / 128 * 128;
    static constexpr int kRow = D + 4;                                                // floats of a row of a partial result: sums, m, l, two unused
    static constexpr std::size_t kPartial = static_cast<std::size_t>(kRows) * kRow;   // floats about one unit

    // Registers decide how many teams: 128 per thread with four, 168 with three, 255 with two.
    static constexpr int kWarps = D > 128 ? 2 : kRows <= 16 ? 4 : 3, kMergeWarps = kTeamWarps * kWarps, kThreads = 32 * kMergeWarps;

    // A team's memory: queries as bytes, weights of two pages, queries in binary16, what is known of rows, references of 16 pages, pages. A unit's
    // results lie where its operands were.
    static constexpr std::size_t kWeightBytes = static_cast<std::size_t>(kRows) * 128;
    static constexpr std::size_t kWeights = static_cast<std::size_t>(2) * kRows * D, kHalves = kWeights + 2 * kWeightBytes;
    static constexpr std::size_t kState = kHalves + static_cast<std::size_t>(2) * kRows * D, kBarriers = kState + static_cast<std::size_t>(kRows) * 96,
                                 kReferences = kBarriers + 128, kRing = kReferences + static_cast<std::size_t>(16) * 2 * D;
    static_assert(kState >= kPartial * 4 && kWeights % 1024 == 0 && kWeightBytes % 1024 == 0);
    // Some 64 KB in flight per processor, beside the pages that are read.
    static constexpr std::size_t kFlight = 64 * 1024, kFixed = 19 * 1024;             // fixed: the plan of kMaxBatch sequences, and static arrays
    static constexpr int kWanted = 1 + static_cast<int>((kFlight + kWarps * kSlot - 1) / (kWarps * kSlot));
    static constexpr int kMost = static_cast<int>(((kSharedLimit - kFixed) / kWarps - kRing - 1023) / kSlot) < 8 ? static_cast<int>(((kSharedLimit - kFixed) / kWarps - kRing - 1023) / kSlot) : 8;
    static constexpr int kSlots = kWanted > kMost ? kMost : kWanted < 3 && kMost >= 3 ? 3 : kWanted;
    static_assert(kSlots >= 2);
    static constexpr std::size_t warp_bytes() { return (kRing + kSlots * kSlot + 1023) / 1024 * 1024; }

    static constexpr std::size_t kPlan = warp_bytes() * kWarps;
    static constexpr std::size_t shared_bytes(int batch) { return kPlan + static_cast<std::size_t>(batch + 1) * 16; }
    static constexpr bool kDirect = false;
    static constexpr std::size_t workspace_bytes(int grid) { return zeroed_bytes(grid) + 8 * static_cast<std::size_t>(grid) * kPartial * (1 + kWarps); }
};

}  // namespace turboquant::cuda

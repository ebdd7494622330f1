// How the attention kernel is shaped for a problem and a GPU: rows per unit, warps and ring slots per CTA. Host code, no CUDA: unit-tested.
// Figures behind the choices: docs/decisions/0013-cuda-attention.md; GPUs with less shared memory: 0017-architectures.md there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/page.hpp"
#include "cuda/target.hpp"

namespace turboquant::cuda {

inline constexpr int kMaxQueries = 16, kMaxGroup = 128, kMaxBatch = 1024;
inline constexpr int kMostRows = 32;        // of a unit
inline constexpr std::size_t kSharedLimit = shared_limit(Target::sm90);

// Query rows that a unit has: (positions times heads of the group) of one KV head, in tiles of 4, 8 or 16 rows.
constexpr int rows_for(int group, int num_queries) {
    const int rows = group * num_queries;
    return rows <= 4 ? 4 : rows <= 8 ? 8 : 16;
}

// Where there are warpgroup instructions (compute capability 9.0): rows of a unit of the kernel for many rows, or 0 where it is not used. Up to 8
// rows it is slower (docs/decisions/0018-wide-rows.md); with other head sizes it has not run on a GPU yet.
constexpr int wide_rows_for(int head_dim, int group, int num_queries) {
    const int rows = group * num_queries;
    if (head_dim != 128 || rows <= 8) return 0;
    return rows <= 16 ? 16 : 32;
}

// Bytes of the workspace that are zero between launches: the same for all kernels, which may share it. Counters of rows, and the pieces that are handed over
// directly (hand_in.cuh).
inline constexpr std::uint32_t kDirectSharers = 8;                            // CTAs of a unit, at most
inline constexpr std::size_t kHandedPiece = 8 * (256 + 4);                     // floats
constexpr std::size_t counter_bytes(int grid) { return (static_cast<std::size_t>(grid) * kMostRows * 4 + 255) / 256 * 256; }
constexpr std::size_t zeroed_bytes(int grid) { return counter_bytes(grid) + static_cast<std::size_t>(grid) * 2 * kHandedPiece * 4; }

inline constexpr std::size_t kBarrierBytes = 128;                              // of a warp

// What a warp would like to have, in bytes of shared memory but for the first two.
struct AttendNeeds {
    int warps, slots;
    std::size_t slot, partial, query;

    constexpr std::size_t ring_bytes(int num) const { return num * slot > partial ? num * slot : partial; }
};

// What it gets.
struct AttendFit {
    int warps, slots;
    bool staged;    // where a warp puts a unit that it has all of: behind its queries, or, where that is too much, in the workspace
};

// In `limit` bytes. Units are not staged where that costs warps; a single slot is better than fewer than four warps.
constexpr AttendFit fit_warps(const AttendNeeds& needs, std::size_t limit) {
    // Of the plan of kMaxBatch sequences, and static arrays; with room to grow where there is much.
    const std::size_t fixed = (limit < 128 * 1024 ? 20 : 24) * 1024, room = limit - fixed;
    for (int slots = needs.slots;; slots = 1) {
        const std::size_t stage = needs.ring_bytes(slots) + needs.query + kBarrierBytes;
        const bool staged = needs.warps * (stage + needs.partial) <= room;
        const std::size_t fit = room / (stage + (staged ? needs.partial : 0)), wanted = static_cast<std::size_t>(needs.warps);
        if (fit >= 4 || slots == 1) return {static_cast<int>(fit < wanted ? fit : wanted), slots, staged};
    }
}

// One kernel's shape. d: head_dim rounded up to a multiple of 32.
template <int kKeyBits, int kValueBits, int kRows, int kHeadDim, Target kTarget = Target::sm90>
struct AttendShape {
    static constexpr Copies kCopies = copies_of(kTarget);
    static constexpr PageLayout kLayout{kHeadDim, kKeyBits, kValueBits};
    static constexpr int D = kLayout.keys().padded_dim();
    static constexpr int kTiles = kRows == 4 ? 1 : kRows / 8;
    static constexpr std::size_t kKeyPart = kLayout.keys().part_bytes(), kValuePart = kLayout.values().part_bytes();
    static constexpr std::size_t kSlot = ((kKeyPart > kValuePart ? kKeyPart : kValuePart) + 127) / 128 * 128;
    static constexpr int kRow = D + 4;                                  // floats of a row of a partial result: sums, m, l, two unused
    static constexpr std::size_t kPartialBytes = (static_cast<std::size_t>(kRows) * kRow * 4 + 127) / 128 * 128;
    static constexpr std::size_t kQueryBytes = static_cast<std::size_t>(kTiles) * D * (kRows == 4 ? 8 : 16);  // queries in binary16, for the references

    // About 64 KB in flight per SM are enough, and more delays everything else. Few bits leave the loop waiting for instructions: more
    // warps. Many registers (wide heads, many rows) allow only eight.
    static constexpr bool kLight = kKeyBits + kValueBits < 8 && D <= 128 && kRows <= 8;
    static constexpr int kWantedSlots = D == 64 && kRows <= 8 ? 3 : 2;
    static constexpr int kWanted = kLight || (D == 64 && kRows <= 8) || (D <= 128 && kRows == 8) ? 12 : 8;
    static constexpr AttendNeeds kNeeds{kWanted, kWantedSlots, kSlot, kPartialBytes, kQueryBytes};
    static constexpr AttendFit kFit = fit_warps(kNeeds, shared_limit(kTarget));
    static constexpr int kWarps = kFit.warps, kSlots = kFit.slots;
    static constexpr int kMergeWarps = kWarps;                          // that put pieces together
    static constexpr bool kStaged = kFit.staged;
    // Where a CTA has few pages two warps share one, each half of its tokens; words are loaded four at a time.
    static constexpr bool kSharesPages = kRows <= 8 && kLayout.keys().words_per_lane() % 8 == 0 && kLayout.values().words_per_lane() % 8 == 0;
    static_assert(kWarps >= 3, "warps 0 and 2 have work of their own in the kernel");
    static constexpr std::size_t ring_bytes(int slots) { return kNeeds.ring_bytes(slots); }
    static constexpr std::size_t kStage = ring_bytes(kSlots) + kQueryBytes;
    static constexpr std::size_t kBarriers = kStage + (kStaged ? kPartialBytes : 0);
    static constexpr std::size_t warp_bytes() { return kBarriers + kBarrierBytes; }

    static constexpr std::size_t kPlan = warp_bytes() * kWarps;
    static constexpr std::size_t plan_bytes(int batch) { return static_cast<std::size_t>(batch + 1) * 16; }
    static constexpr std::size_t shared_bytes(int batch) { return kPlan + plan_bytes(batch); }
    static constexpr std::size_t kPartial = static_cast<std::size_t>(kRows) * kRow;  // floats about one unit
    static constexpr bool kDirect = kRows <= 8;  // with more, the code for it makes the page loop slower
    static_assert(!kDirect || kPartial <= kHandedPiece);
    static constexpr std::size_t workspace_bytes(int grid) { return zeroed_bytes(grid) + 8 * static_cast<std::size_t>(grid) * kPartial * (1 + kWarps); }
};

}  // namespace turboquant::cuda

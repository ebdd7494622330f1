// Which stage a page's tile is in, and what its barriers say. Page p of a range (counted from its first) is written by CTA p % kCtas of the cluster, to stage
// p % kStages of both. Whoever has read it tells the CTA that writes the stage next, and only that one: so a CTA waits once for each phase of its barrier,
// but for those that a range's last pages end.
// No CUDA: tests/cuda/prefill_turn_test.cpp goes through all of it.
#pragma once

#include <cstdint>

namespace turboquant::cuda {

template <int kStages, int kCtas>
struct Turn {
    int stage = 0;
    std::uint32_t turns = 0;  // how often all stages were used before

    constexpr void next() {
        if (++stage == kStages) {
            stage = 0;
            ++turns;
        }
    }
    constexpr void skip(int num) {
        for (int i = 0; i < num; ++i) next();
    }
    // Parity of the phase that ends when the tile is complete.
    constexpr std::uint32_t full_phase() const { return turns & 1; }
    // Parity of the phase of the writer's barrier that ends when the page kStages before this one has been read. There is none for the first pages: of a new
    // barrier, parity 1 counts as past. With an odd number of stages two CTAs write a stage in turns.
    constexpr std::uint32_t empty_phase() const { return (kCtas == 2 && kStages % 2 != 0 ? (turns - 1) >> 1 : turns - 1) & 1; }
    // The CTA that writes page p + kStages.
    constexpr std::uint32_t next_writer() const {
        if (kCtas == 1) return 0;
        const auto own = static_cast<std::uint32_t>(stage);
        return kStages % 2 != 0 ? (own ^ turns ^ 1) & 1 : own & 1;
    }
};

}  // namespace turboquant::cuda

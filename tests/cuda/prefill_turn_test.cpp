// The barriers of a cluster's stages, as src/cuda/prefill/turn.hpp has them, for every number of stages that there is: each phase that a writer waits for ends with
// the reading of the very page that lay in the stage before.
#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "cuda/prefill/turn.hpp"

namespace turboquant::cuda {
namespace {

template <int kStages, int kCtas>
void check_turns() {
    constexpr int kPages = 60;
    std::vector<Turn<kStages, kCtas>> at(kPages);
    for (int p = 1; p < kPages; ++p) {
        at[p] = at[p - 1];
        at[p].next();
    }
    // Which pages' reading ends the phases of a barrier, in order: [writer][stage].
    std::map<std::pair<int, int>, std::vector<int>> ends;
    for (int p = 0; p < kPages; ++p) ends[{static_cast<int>(at[p].next_writer()), at[p].stage}].push_back(p);
    for (int p = 0; p < kPages; ++p) {
        const int writer = p % kCtas;
        ASSERT_EQ(at[p].stage, p % kStages);
        ASSERT_EQ(at[p].full_phase(), static_cast<unsigned>(p / kStages % 2));
        const std::vector<int>& mine = ends[{writer, at[p].stage}];
        if (p < kStages) {
            ASSERT_EQ(at[p].empty_phase(), 1u) << kStages << " " << kCtas << " page " << p;
            ASSERT_TRUE(mine.empty() || mine[0] >= p);  // nothing has ended before
            continue;
        }
        // Phase i of the barrier has parity i % 2. The one waited for is the first that the writer has not waited for before.
        int before = 0;
        for (int other = kStages; other < p; ++other) before += other % kCtas == writer && at[other].stage == at[p].stage;
        ASSERT_LT(before, static_cast<int>(mine.size()));
        ASSERT_EQ(mine[before], p - kStages) << kStages << " " << kCtas << " page " << p;
        ASSERT_EQ(at[p].empty_phase(), static_cast<unsigned>(before % 2)) << kStages << " " << kCtas << " page " << p;
    }
}

TEST(PrefillTurn, AWriterWaitsForThePageBeforeAndForEveryPhase) {
    check_turns<1, 1>();
    check_turns<2, 1>();
    check_turns<3, 1>();
    check_turns<4, 1>();
    check_turns<2, 2>();
    check_turns<3, 2>();
    check_turns<4, 2>();
}

TEST(PrefillTurn, SkippedPagesAreCounted) {
    Turn<3, 2> skipped, stepped;
    skipped.skip(7);
    for (int i = 0; i < 7; ++i) stepped.next();
    EXPECT_EQ(skipped.stage, stepped.stage);
    EXPECT_EQ(skipped.turns, stepped.turns);
    EXPECT_EQ(skipped.turns, 2u);
}

}  // namespace
}  // namespace turboquant::cuda

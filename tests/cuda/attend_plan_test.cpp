// Attention's plan: every page that a sequence's rows may see is worked on once per unit, by the CTA that is said to own it; pages that an
// overlay has as exact ones are left out.
#include "cuda_names.hpp"

#include "cuda/attend/plan.cuh"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "fibers.hpp"

namespace turboquant::cuda {
namespace {

constexpr int kRows = 8, kStride = 64, kPages = 400, kWarps = 8;

struct Batch {
    std::vector<std::int32_t> lengths, query_start{0}, table, slot_of_page = std::vector<std::int32_t>(kPages, 0);
    AttendParams p{};

    explicit Batch(std::mt19937& engine, bool overlay) {
        const auto below = [&](unsigned n) { return static_cast<int>(engine() % n); };
        p.batch = 1 + below(6);
        p.num_queries = 1 + below(4);
        p.group = 1 + below(8);
        p.kv_heads = 1 + below(3);
        p.window = below(3) ? 0 : 1 + below(300);
        p.table_stride = kStride;
        table.assign(static_cast<std::size_t>(p.batch) * kStride, 0x7ffffff0);
        int next = 0, slot = 0;
        for (int b = 0; b < p.batch; ++b) {
            lengths.push_back(below(5) == 0 ? below(3) : below(1500));
            query_start.push_back(query_start.back() + below(static_cast<unsigned>(p.num_queries) + 1));
            for (int i = 0; i < pages(b); ++i) table[static_cast<std::size_t>(b * kStride + i)] = next++;
            for (int i : {0, pages(b) - 2, pages(b) - 1}) {
                if (i >= 0 && i < pages(b) && below(4) && slot_of_page[page(b, i)] == 0) slot_of_page[page(b, i)] = ++slot;
            }
        }
        p.lengths = lengths.data();
        p.query_start = query_start.data();
        p.block_table = table.data();
        p.slot_of_page = overlay ? slot_of_page.data() : nullptr;
        p.num_pages = kPages;
    }
    int pages(int b) const { return (lengths[b] + kPageTokens - 1) / kPageTokens; }
    std::size_t page(int b, int i) const { return static_cast<std::size_t>(table[static_cast<std::size_t>(b * kStride + i)]); }
};

void check(const Batch& batch, int processors) {
    const AttendParams& p = batch.p;
    std::vector<std::vector<int>> times(p.batch, std::vector<int>(kStride, 0));
    std::vector<int> queries(p.batch);
    gridDim.x = processors;
    std::uint32_t ctas = 1;
    for (int cta = 0; cta < processors && static_cast<std::uint32_t>(cta) < ctas; ++cta) {
        blockIdx.x = cta;
        std::vector<Sequence> sequences(p.batch + 1);
        alignas(16) std::uint32_t scratch[4 * kWarps];
        test::Warp::run([&] {
            const Plan plan = make_plan<kRows, kWarps * 32>(p, sequences.data(), scratch);
            if (device::lane_id() != 0) return;
            ctas = plan.grid;
            for (int b = 0; b < p.batch; ++b) queries[b] = sequences[b].queries();
            if (plan.items == 0) return;
            const std::uint32_t begin = plan.cut(cta), end = plan.cut(cta + 1);
            EXPECT_EQ(plan.cut(cta, kWarps), end);
            for (std::uint32_t item = begin; item < end; ++item) {
                const Unit unit = unit_at<kRows>(plan, p, item);
                EXPECT_EQ(plan.owner(item), static_cast<std::uint32_t>(cta));
                EXPECT_EQ(unit.length, batch.lengths[unit.sequence]);
                ++times[unit.sequence][unit.first_page + static_cast<int>(item - unit.start)];
            }
        });
    }
    for (int b = 0; b < p.batch; ++b) {
        const int asked = std::min({p.num_queries, batch.query_start[b + 1] - batch.query_start[b], batch.lengths[b]});
        const int units = asked == 0 ? 0 : p.kv_heads * ((asked * p.group + kRows - 1) / kRows), begin = first_page(batch.lengths[b], asked, p.window);
        CodedPages coded{0, batch.pages(b)};
        if (p.slot_of_page) coded = coded_pages(p.slot_of_page, p.num_pages, &batch.table[static_cast<std::size_t>(b * kStride)], batch.pages(b));
        bool any = false;
        for (int i = 0; i < kStride; ++i) {
            const bool seen = asked > 0 && i >= begin && i >= coded.first && i < coded.end;
            any = any || seen;
            EXPECT_EQ(times[b][i], seen ? units : 0) << "sequence " << b << " of " << batch.lengths[b] << " tokens, page " << i << ", window " << p.window;
        }
        EXPECT_EQ(queries[b], any ? asked : 0) << "rows that nobody answers are written as those of empty sequences";
    }
}

TEST(AttendPlan, EveryPageOnce) {
    std::mt19937 engine(3);
    for (int i = 0; i < 60 && !testing::Test::HasFailure(); ++i) check(Batch(engine, false), 1 + static_cast<int>(engine() % 140));
}

TEST(AttendPlan, EveryCodedPageOnceBesideAnOverlay) {
    std::mt19937 engine(4);
    for (int i = 0; i < 120 && !testing::Test::HasFailure(); ++i) check(Batch(engine, true), 1 + static_cast<int>(engine() % 140));
}

}  // namespace
}  // namespace turboquant::cuda

// attend() against the oracle: every case of cases.hpp, every way to fill a store, every argument.
#include "parity/attend_problem.hpp"

namespace turboquant::parity {
namespace {

std::string text_of(const AttendCase& c) {
    return "head_dim " + std::to_string(c.key_dim) + "/" + std::to_string(c.value_dim) + ", bits " + std::to_string(c.key_bits) + "/" + std::to_string(c.value_bits) + ", " +
           std::to_string(c.tokens) + " tokens, " + std::to_string(c.group_size) + " x " + std::to_string(c.kv_heads) + " heads, " + std::to_string(c.queries) +
           " queries, " + std::to_string(c.streams) + " streams, seed " + std::to_string(c.seed);
}

// The first call sees keys whose width and balance were not decided and which are all exact, the second one sees them coded.
void expect_parity(const AttendCase& c, Fill how, Masks masks, bool undecided, int num_threads) {
    SCOPED_TRACE(text_of(c) + ", fill " + std::to_string(static_cast<int>(how)) + ", masks " + std::to_string(static_cast<int>(masks)));
    Spec spec;
    spec.wide_keys = spec.balanced_keys = undecided;
    if (!undecided) spec.kept_keys = 0;
    const Stores stores = filled_stores(c, how, spec);
    const Problem problem(c, *stores.keys, *stores.values, masks);
    AttentionScratch scratch;
    for (int call = 0; call < (undecided ? 2 : 1); ++call) {
        const std::vector<Expected> expected = problem.expected();
        expect_as_expected(problem.run(num_threads, scratch), expected);
    }
}

TEST(Attend, EveryCase) {
    for (const AttendCase& c : attend_cases()) {
        expect_parity(c, kFills[c.seed % std::size(kFills)], kMasks[c.seed / 2 % std::size(kMasks)], c.seed % 3 == 0, 1);
    }
}

TEST(Attend, AnyNumberOfThreads) {
    for (const int threads : {2, 3, 5}) {
        expect_parity({64, 64, 4, 4, 1000, 3, 1, 1, 1, true, 11}, Fill::one_batch, Masks::none, false, threads);   // split over tiles
        expect_parity({64, 80, 3, 2, 1000, 4, 2, 2, 1, true, 12}, Fill::batches, Masks::holes, true, threads);
        expect_parity({128, 64, 4, 4, 300, 3, 70, 2, 2, true, 13}, Fill::shuffled, Masks::causal, false, threads); // split over queries
        expect_parity({64, 64, 4, 4, 0, 1, 3, 1, 1, true, 14}, Fill::batches, Masks::none, false, threads);
    }
}

const AttendCase kSome{64, 96, 4, 3, 200, 3, 6, 2, 2, true, 21};

TEST(Attend, AnyOptions) {
    const Stores stores = filled_stores(kSome, Fill::batches);
    for (const Masks masks : kMasks) {
        for (const float softcap : {0.0f, 2.0f, 50.0f}) {
            for (const float sink : {NAN, -30.0f, 0.5f, 8.0f, 200.0f, -INFINITY}) {
                SCOPED_TRACE(::testing::Message() << "masks " << static_cast<int>(masks) << ", softcap " << softcap << ", sink " << sink);
                Problem problem(kSome, *stores.keys, *stores.values, masks);
                problem.softcap = softcap;
                if (!std::isnan(sink)) problem.sinks = gaussian(problem.num_heads(), 3, sink);
                AttentionScratch scratch;
                const std::vector<Expected> expected = problem.expected();
                expect_as_expected(problem.run(2, scratch), expected);
            }
        }
    }
}

TEST(Attend, LargeLogits) {
    const Stores stores = filled_stores(kSome, Fill::batches);
    Problem problem(kSome, *stores.keys, *stores.values, Masks::causal);
    for (const float scale : {0.0f, -1.0f, 20.0f, 300.0f}) {
        SCOPED_TRACE(scale);
        problem.scale = scale;
        AttentionScratch scratch;
        const std::vector<Expected> expected = problem.expected();
        expect_as_expected(problem.run(1, scratch), expected);
    }
}

TEST(Attend, OneStreamOfSeveral) {
    AttendCase c = kSome;
    c.streams = 3;
    const Stores stores = filled_stores(c, Fill::rewritten);
    c.streams = 1;
    for (const int stream : {0, 1, 2}) {
        Problem problem(c, *stores.keys, *stores.values, Masks::holes);
        problem.first_stream = stream;
        AttentionScratch scratch;
        const std::vector<Expected> expected = problem.expected();
        expect_as_expected(problem.run(2, scratch), expected);
    }
}

// Cells that were never written count as zero rows while their tile is open; a mask hides them as engines do.
TEST(Attend, UnwrittenCellsAreNothingWhenHidden) {
    AttendCase c{64, 64, 4, 4, 300, 2, 3, 1, 1, true, 5};
    Stores stores = filled_stores({64, 64, 4, 4, 0, 2, 3, 1, 1, true, 5}, Fill::batches);
    stores.keys = make_store(stores.keys->spec(), {CacheSide::keys, 1, 400, 1});
    stores.values = make_store(stores.values->spec(), {CacheSide::values, 1, 400, 1});
    std::vector<std::int64_t> written;
    for (std::int64_t cell = 0; cell < 300; ++cell) {
        if (cell % 64 > 20 && (cell < 128 || cell > 191)) written.push_back(cell);  // tiles with gaps, one tile empty
    }
    for (TileStore* store : {stores.keys.get(), stores.values.get()}) {
        for (const std::int64_t cell : written) write_cells(*store, {cell}, 9);
    }
    Problem problem(c, *stores.keys, *stores.values, Masks::causal);
    for (int i = 0; i < c.queries; ++i) {
        for (int t = 0; t < 300; ++t) {
            if (!std::binary_search(written.begin(), written.end(), t)) problem.mask[i * problem.mask_stride + t] = 0xfc00;
        }
    }
    AttentionScratch scratch;
    for (int call = 0; call < 3; ++call) {
        const std::vector<Expected> expected = problem.expected();
        expect_as_expected(problem.run(1, scratch), expected);
    }
}

TEST(Attend, AFullyHiddenRowIsZero) {
    const Stores stores = filled_stores(kSome, Fill::batches);
    Problem problem(kSome, *stores.keys, *stores.values, Masks::all_hidden);
    for (const float sink : {NAN, 0.5f, -INFINITY}) {
        problem.sinks.clear();
        if (!std::isnan(sink)) problem.sinks.assign(problem.num_heads(), sink);
        for (const int threads : {1, 3}) {
            AttentionScratch scratch;
            for (const float v : problem.run(threads, scratch)) ASSERT_EQ(v, 0.0f) << "sink " << sink;
        }
    }
}

}  // namespace
}  // namespace turboquant::parity

// Infinities and NaNs in caches and queries: what a mask hides never shows, what it shows is never swallowed.
#include "parity/attend_problem.hpp"

namespace turboquant::parity {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr int kTokens = 300;  // tiles 0 to 2 sealed, 3 and 4 open
constexpr int kCells[] = {2, 70, 150, 290};  // exact first token, two coded cells, an open cell

AttendCase the_case() { return {64, 80, 4, 4, kTokens, 2, 4, 1, 1, true, 31}; }

// The usual rows, and one of them with a number that is not finite.
Stores stores_with(int cell, float key_number, float value_number) {
    const AttendCase c = the_case();
    Spec spec;
    spec.wide_keys = spec.balanced_keys = false, spec.kept_keys = 0;
    Stores stores = filled_stores({c.key_dim, c.value_dim, 4, 4, 0, 2, 4, 1, 1, true, 31}, Fill::batches, spec);
    stores.keys = make_store(stores.keys->spec(), {CacheSide::keys, 1, kTokens, 1});
    stores.values = make_store(stores.values->spec(), {CacheSide::values, 1, kTokens, 1});
    for (std::int64_t at = 0; at < kTokens; ++at) {
        for (TileStore* store : {stores.keys.get(), stores.values.get()}) {
            const bool is_key = store == stores.keys.get();
            std::vector<float> row = row_of(at, 1, store->spec().head_dim, 0, is_key ? 1 : 2);
            if (at == cell) row[11] = is_key ? key_number : value_number;
            store->write(alone(), row.data(), row.size(), &at, 1);
            store->seal(alone());
        }
    }
    return stores;
}

// Odd queries do not see `cell`.
Problem problem_hiding(int cell, const Stores& stores, bool from_all) {
    Problem problem(the_case(), *stores.keys, *stores.values, Masks::causal);
    for (int i = 0; i < problem.c.queries; ++i) {
        if (from_all || i % 2) problem.mask[i * problem.mask_stride + cell] = 0xfc00;
    }
    return problem;
}

void expect_parity(const Problem& problem) {
    AttentionScratch scratch;
    const std::vector<Expected> expected = problem.expected();
    for (const int threads : {1, 3}) expect_as_expected(problem.run(threads, scratch), expected);
}

TEST(NonFinite, AHiddenCellMayHoldAnything) {
    for (const int cell : kCells) {
        for (const float number : {kNan, INFINITY, -INFINITY}) {
            SCOPED_TRACE(::testing::Message() << "cell " << cell << " holds " << number);
            const Stores stores = stores_with(cell, number, number);
            const Problem problem = problem_hiding(cell, stores, true);
            AttentionScratch scratch;
            for (const float v : problem.run(1, scratch)) ASSERT_TRUE(std::isfinite(v));
            expect_parity(problem);
        }
    }
}

TEST(NonFinite, HiddenFromSomeQueriesItShowsInTheOthers) {
    for (const int cell : kCells) {
        for (const bool in_keys : {true, false}) {
            SCOPED_TRACE(::testing::Message() << "cell " << cell << ", in keys: " << in_keys);
            const Stores stores = stores_with(cell, in_keys ? kNan : 1, in_keys ? 1 : kNan);
            const Problem problem = problem_hiding(cell, stores, false);
            expect_parity(problem);
            AttentionScratch scratch;
            const std::vector<float> out = problem.run(1, scratch);
            for (int row = 0; row < problem.c.queries * problem.num_heads(); ++row) {
                const float* numbers = &out[static_cast<std::size_t>(row) * problem.c.value_dim];
                EXPECT_EQ(std::isnan(numbers[11]), row / problem.num_heads() % 2 == 0) << "row " << row;
            }
        }
    }
}

TEST(NonFinite, InfiniteKeysGiveWhatTheReferenceGives) {
    for (const int cell : kCells) {
        for (const float softcap : {0.0f, 10.0f}) {
            SCOPED_TRACE(::testing::Message() << "cell " << cell << ", softcap " << softcap);
            const Stores stores = stores_with(cell, INFINITY, 1);
            Problem problem = problem_hiding(cell, stores, false);
            problem.softcap = softcap;
            expect_parity(problem);
        }
    }
}

TEST(NonFinite, AQueryThatIsNanGivesNan) {
    const Stores stores = stores_with(-1, 0, 0);
    for (const float number : {kNan, INFINITY}) {
        Problem problem(the_case(), *stores.keys, *stores.values, Masks::none);
        problem.query[problem.query_head_stride + 5] = number;  // query 0, head 1
        AttentionScratch scratch;
        const std::vector<float> out = problem.run(1, scratch);
        for (std::size_t at = 0; at < out.size(); ++at) {
            const bool touched = at / problem.c.value_dim == 1;
            if (touched && std::isinf(number)) continue;  // infinite scores of either sign: anything goes
            ASSERT_EQ(std::isnan(out[at]), touched) << at;
        }
    }
}

}  // namespace
}  // namespace turboquant::parity

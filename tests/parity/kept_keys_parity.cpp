// Keys that stay exact in sealed tiles: which ones, and that nothing else about a store changes for them.
#include "cpu/kept_keys.hpp"

#include <bit>

#include "parity/attend_problem.hpp"

namespace turboquant::parity {
namespace {

constexpr int kDim = 64, kCells = 320;
const AttendCase kCase{kDim, kDim, 4, 4, kCells, 2, 16, 2, 1, true, 21};

// Keys of ordinary tokens, and of some that every query looks at: those point where all queries point, in head 0 only.
std::unique_ptr<TileStore> keys_with(const std::vector<std::int64_t>& popular, int kept_keys, int bits = 4, int num_streams = 1) {
    Spec spec = testing::spec_of(kDim, bits);
    spec.kept_keys = kept_keys;
    spec.wide_keys = false;
    auto store = make_store(spec, {CacheSide::keys, 2, kCells, num_streams});
    for (std::int64_t cell = 0; cell < kCells; ++cell) {
        std::vector<float> row = row_of(cell, 2, kDim, 1.0f, 3);
        const auto at = std::find(popular.begin(), popular.end(), cell);
        if (at != popular.end()) {  // the earlier in the list, the more popular
            for (int j = 0; j < kDim; ++j) row[j] += 3.0f - 0.02f * static_cast<float>(at - popular.begin());
        }
        store->write(alone(), row.data(), row.size(), &cell, 1);
    }
    return store;
}

// The queries of KV head 0 have much in common, those of head 1 nothing.
void align_queries(Problem& problem) {
    for (float& q : problem.query) q *= 0.3f;
    for (int i = 0; i < kCase.queries; ++i) {
        for (int head = 0; head < kCase.group_size; ++head) {
            for (int j = 0; j < kDim; ++j) problem.query[problem.query_at(0, head, i) - problem.query.data() + j] += 1.0f;
        }
    }
}

struct Popular {
    std::unique_ptr<TileStore> keys, values = make_store(testing::spec_of(kDim, 4), {CacheSide::values, 2, kCells, 1});
    Problem problem;
    std::vector<std::uint16_t> before = rows();  // what was written: nothing is sealed yet

    Popular(const std::vector<std::int64_t>& popular, int kept_keys, int bits = 4)
        : keys(keys_with(popular, kept_keys, bits)), problem(kCase, *keys, *values) {
        fill(*values, 0, kCells, Fill::one_batch, 5);
        align_queries(problem);
        look();
    }
    void look() {
        AttentionScratch scratch;
        for (int call = 0; call < 2; ++call) {
            const std::vector<Expected> expected = problem.expected();
            expect_as_expected(problem.run(2, scratch), expected);
        }
    }
    std::vector<std::uint16_t> rows() const {
        std::vector<std::uint16_t> all(static_cast<std::size_t>(kCells) * 2 * kDim);
        keys->read_rows(0, kCells, all.data());
        return all;
    }
    bool is_exact(std::int64_t cell, int head) const {
        const std::vector<std::uint16_t> now = rows();
        const std::size_t at = (cell * 2 + head) * kDim;
        return std::equal(&now[at], &now[at] + kDim, &before[at]);
    }
};

std::uint64_t bits_of(std::initializer_list<int> rows) {
    std::uint64_t mask = 0;
    for (const int t : rows) mask |= 1ull << t;
    return mask;
}

TEST(KeptKeys, TheOnesEveryQueryLooksAt) {
    const Popular store({70, 100, 130}, 4);
    EXPECT_EQ(store.keys->kept_rows(0, 1, 0), bits_of({6, 36}));
    EXPECT_EQ(store.keys->kept_rows(0, 2, 0), bits_of({2}));
    EXPECT_EQ(store.keys->kept_rows(0, 0, 0), 0u);
    EXPECT_EQ(store.keys->kept_rows(0, 1, 1), 0u) << "the other head's queries see nothing special";
    EXPECT_EQ(store.keys->usage().kept_keys, 3u);
    for (const int cell : {70, 100, 130}) EXPECT_TRUE(store.is_exact(cell, 0) && !store.is_exact(cell, 1)) << cell;
    EXPECT_FALSE(store.is_exact(71, 0));
    for (const int bad : {-1, 2}) EXPECT_EQ(store.keys->kept_rows(0, 1, bad), 0u);
}

TEST(KeptKeys, NoMoreThanAllowedAndTheMostPopularFirst) {
    const std::vector<std::int64_t> popular{90, 80, 85, 70, 75};
    EXPECT_EQ(Popular(popular, 2).keys->kept_rows(0, 1, 0), bits_of({90 - 64, 80 - 64}));
    EXPECT_EQ(std::popcount(Popular(popular, 4).keys->kept_rows(0, 1, 0)), 4);
    EXPECT_EQ(Popular(popular, 0).keys->usage().kept_keys, 0u);
    EXPECT_EQ(Popular(popular, 4, 8).keys->usage().kept_keys, 0u) << "8-bit keys need no help";
}

// Every key is popular, as in no model: the first tiles get what they may have, later ones only their share.
TEST(KeptKeys, OnAverageNotMoreThanOnePerTile) {
    Spec spec = testing::spec_of(kDim, 4);
    spec.wide_keys = false;
    constexpr int kMany = 64 * 40;
    const auto keys = make_store(spec, {CacheSide::keys, 1, kMany, 1}), values = make_store(spec, {CacheSide::values, 1, kMany, 1});
    AttendCase c{kDim, kDim, 4, 4, 64, 1, 8, 1, 1, true, 4};
    for (int first = 0; first < kMany; first += 64) {
        fill(*values, first, 64, Fill::one_batch, 5);
        for (std::int64_t cell = first; cell < first + 64; ++cell) {
            std::vector<float> row = row_of(cell, 1, kDim, 1.0f, 3);
            for (float& x : row) x *= 3.0f;
            keys->write(alone(), row.data(), kDim, &cell, 1);
        }
        c.tokens = std::min(first + 64, 64);  // what the queries see is one tile: large weights for every key
        Problem problem(c, *keys, *values);
        for (float& q : problem.query) q = 0.1f * q + 1.0f;
        AttentionScratch scratch;
        problem.run(1, scratch);
    }
    EXPECT_GE(std::popcount(keys->kept_rows(0, 0, 0)), 3);
    EXPECT_LE(keys->usage().kept_keys, 38u + 4);
    EXPECT_GE(keys->usage().kept_keys, 30u);
}

// A state holds decoded numbers. Restored, the same keys stay exact, even when the queries that come first look elsewhere.
TEST(KeptKeys, ARestoredStateKeepsTheSame) {
    Popular store({70, 100, 130}, 4);
    const std::vector<std::uint16_t> state = store.rows();
    const auto blob = store.keys->sealed_blob(0, 1, 0);
    const std::vector<std::uint8_t> codes(blob.begin(), blob.begin() + kDim * 4 * kTileTokens / 8);
    store.keys->clear();
    EXPECT_EQ(store.keys->usage().kept_keys, 0u);
    store.keys->write_rows(0, kCells, state.data());
    EXPECT_TRUE(store.keys->sealed_blob(0, 1, 0).empty()) << "no query has come yet";
    for (float& q : store.problem.query) q = -q;
    store.look();
    EXPECT_EQ(store.keys->kept_rows(0, 1, 0), bits_of({6, 36}));
    EXPECT_EQ(store.keys->kept_rows(0, 2, 0), bits_of({2}));
    EXPECT_EQ(store.keys->usage().kept_keys, 3u);
    for (const int cell : {70, 100, 130}) EXPECT_TRUE(store.is_exact(cell, 0)) << cell;
    const auto again = store.keys->sealed_blob(0, 1, 0);
    std::size_t equal = 0;
    for (std::size_t i = 0; i < codes.size(); ++i) equal += codes[i] == again[i];
    EXPECT_GE(equal, codes.size() * 99 / 100);
}

TEST(KeptKeys, CodesAreThoseOfAStoreThatKeepsNone) {
    const Popular with({70, 100, 130}, 4), without({70, 100, 130}, 0);
    for (int tile = 0; tile < 3; ++tile) {
        for (int head = 0; head < 2; ++head) EXPECT_TRUE(same_bits(with.keys->sealed_blob(0, tile, head), without.keys->sealed_blob(0, tile, head)));
    }
    EXPECT_EQ(with.keys->usage().exact_bytes, without.keys->usage().exact_bytes + 3 * 2 * kDim);
    EXPECT_GT(with.keys->usage().resident_bytes, without.keys->usage().resident_bytes);
}

TEST(KeptKeys, StayWhenANeighbourIsRewritten) {
    Popular store({70, 100, 130}, 4);
    const std::int64_t neighbour = 80;
    const std::vector<float> row = row_of(7, 2, kDim, 1.0f, 99);
    store.keys->write(alone(), row.data(), row.size(), &neighbour, 1);
    EXPECT_EQ(store.keys->kept_rows(0, 1, 0), 0u) << "the tile is open now";
    for (const std::int64_t cell : {200, 300}) {  // and is not among the newest any more after these
        store.keys->write(alone(), row.data(), row.size(), &cell, 1);
    }
    store.look();
    EXPECT_EQ(store.keys->kept_rows(0, 1, 0), bits_of({6, 36}));
    EXPECT_TRUE(store.is_exact(70, 0) && store.is_exact(100, 0));
    EXPECT_FALSE(store.is_exact(neighbour, 0));
}

TEST(KeptKeys, AreForgottenWithTheirTile) {
    Popular store({70, 100}, 4);
    for (std::int64_t cell = 64; cell < 128; ++cell) {
        const std::vector<float> row = row_of(cell, 2, kDim, 1.0f, 77);
        store.keys->write(alone(), row.data(), row.size(), &cell, 1);
    }
    for (const std::int64_t cell : {200, 300}) store.keys->write(alone(), row_of(cell, 2, kDim, 1.0f, 3).data(), 2 * kDim, &cell, 1);
    store.look();
    EXPECT_FALSE(store.keys->sealed_blob(0, 1, 0).empty());
    EXPECT_EQ(store.keys->kept_rows(0, 1, 0), 0u);
    store.keys->clear();
    EXPECT_EQ(store.keys->usage().kept_keys, 0u);
}

TEST(KeptKeys, ACopiedStreamHasItsOwn) {
    auto keys = keys_with({70, 100}, 4, 4, 2);
    auto values = make_store(testing::spec_of(kDim, 4), {CacheSide::values, 2, kCells, 2});
    fill(*values, 0, kCells, Fill::one_batch, 5);
    Problem problem(kCase, *keys, *values);
    align_queries(problem);
    AttentionScratch scratch;
    problem.run(1, scratch);
    ASSERT_EQ(keys->kept_rows(0, 1, 0), bits_of({6, 36}));
    keys->copy_stream(0, 1);
    std::vector<std::uint16_t> original(64 * 2 * kDim), copy = original;
    keys->read_rows(64, 64, original.data());
    keys->copy_stream(0, 0);
    keys->read_rows(kCells + 64, 64, copy.data());
    EXPECT_TRUE(same_bits(original, copy));
    EXPECT_EQ(keys->kept_rows(1, 1, 0), bits_of({6, 36}));
    EXPECT_EQ(keys->usage().kept_keys, 4u);
}

TEST(QueryTrend, IsTheMeanLogWeightAndFades) {
    QueryTrend trend;
    const float key[2] = {2.0f, -1.0f};
    trend.reset(2, 3, 2);
    EXPECT_EQ(trend.log_weight(1, 2, key), -INFINITY);
    const float q[] = {1, 2, 9, 3, 4, 9};
    const float log_totals[] = {0.5f, 1.5f};
    trend.add(1, 2, q, 3, 2, 0.5f, log_totals);  // logits 0 and 1
    EXPECT_NEAR(trend.log_weight(1, 2, key), 0.5f - 1.0f, 1e-6f);
    EXPECT_EQ(trend.log_weight(0, 2, key), trend.log_weight(1, 2, key)) << "a stream without queries borrows another's";
    EXPECT_EQ(trend.log_weight(0, 1, key), -INFINITY) << "but not another head's";
    const float hidden[] = {-INFINITY, -INFINITY};
    trend.add(1, 2, q, 3, 2, 0.5f, hidden);
    EXPECT_NEAR(trend.log_weight(1, 2, key), -0.5f, 1e-6f) << "queries that see nothing say nothing";
    const float zeros[2] = {}, later[] = {3.0f};
    for (int i = 0; i < 20 * QueryTrend::kHorizon; ++i) trend.add(1, 2, zeros, 2, 1, 0.5f, later);
    EXPECT_NEAR(trend.log_weight(1, 2, key), -3.0f, 1e-4f);
}

TEST(MostHarmful, OrderLimitAndThreshold) {
    std::array<float, kTileTokens> harm{};
    harm[3] = 1, harm[9] = 2, harm[40] = kKeptKeyHarm, harm[50] = 0.5f, harm[60] = NAN;
    EXPECT_EQ(most_harmful(harm, ~0ull, 16), bits_of({3, 9, 50}));
    EXPECT_EQ(most_harmful(harm, ~0ull, 2), bits_of({3, 9}));
    EXPECT_EQ(most_harmful(harm, ~bits_of({9}), 1), bits_of({3}));
    EXPECT_EQ(most_harmful(harm, 0, 4), 0u);
}

}  // namespace
}  // namespace turboquant::parity

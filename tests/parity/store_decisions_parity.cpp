// TileStore: what is decided about keys when the first queries look at them, their width and their balance.
#include "parity/attend_problem.hpp"

namespace turboquant::parity {
namespace {

// --- wide keys ---

// What attention decides for keys whose distance from their mean is `deviation` per coordinate, after 200 cells of 64 dims.
std::unique_ptr<TileStore> decided_store(float deviation, bool allowed) {
    const AttendCase c{64, 64, 4, 4, 200, 2, 3, 1, 1, true, 5};
    Spec spec;
    spec.head_dim = 64;
    spec.wide_keys = allowed;
    spec.balanced_keys = false, spec.kept_keys = 0;
    Stores stores{make_store(spec, {CacheSide::keys, 1, 200, 1}), make_store(spec, {CacheSide::values, 1, 200, 1})};
    std::vector<float> keys = gaussian(200 * 64, 1, 0.0f, deviation);
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] += 30.0f * static_cast<float>(i % 64 == 7);  // a common bias does not count
    const std::vector<std::int64_t> cells = cells_from(0, 200);
    stores.keys->write(alone(), keys.data(), 64, cells.data(), 200);
    stores.keys->seal(alone());
    EXPECT_EQ(stores.keys->sealed_blob(0, 0, 0).empty(), allowed) << "keys wait for the queries that decide";
    fill(*stores.values, 0, 200, Fill::one_batch, 2);
    Problem problem(c, *stores.keys, *stores.values);
    problem.scale = 0.125f;
    AttentionScratch scratch;
    const std::vector<Expected> expected = problem.expected();  // of what the store holds before it is sealed
    expect_as_expected(problem.run(1, scratch), expected);
    EXPECT_FALSE(stores.keys->sealed_blob(0, 0, 0).empty());
    return std::move(stores.keys);
}

TEST(WideKeys, OnlyFarFlungKeysTakeEightBits) {
    const auto ordinary = decided_store(1, true), wild = decided_store(30, true), forbidden = decided_store(30, false);
    EXPECT_FALSE(ordinary->widened());
    EXPECT_EQ(ordinary->bits(), 4);
    // scale |q| |k| sqrt(D / d) with |q| = |k| = 8
    EXPECT_NEAR(ordinary->logit_noise(), 0.125 * 8 * 8 * std::sqrt(0.0095 / 64), 0.02);
    EXPECT_TRUE(wild->widened());
    EXPECT_EQ(wild->bits(), 8);
    EXPECT_NEAR(wild->logit_noise(), 30 * ordinary->logit_noise(), 0.01);
    EXPECT_EQ(wild->sealed_blob(0, 0, 0).size(), (TileLayout{Side::key, 64, 8}.blob_bytes()));
    EXPECT_FALSE(forbidden->widened());
    EXPECT_EQ(forbidden->bits(), 4);
    EXPECT_NEAR(forbidden->logit_noise(), 30 * ordinary->logit_noise(), 0.1) << "which is known all the same, from the tail";
    EXPECT_TRUE(forbidden->noisy());
    EXPECT_FALSE(ordinary->noisy() || wild->noisy());
}

TEST(WideKeys, AClearedStoreKeepsItsWidth) {
    const auto wild = decided_store(30, true);
    wild->clear();
    fill(*wild, 0, 200, Fill::one_batch, 1);
    EXPECT_EQ(wild->sealed_blob(0, 0, 0).size(), (TileLayout{Side::key, 64, 8}.blob_bytes()));
}

// --- balance ---

// Keys with loud channels, decided and sealed under queries of the problem.
Stores balanced_stores(const AttendCase& c, bool balanced) {
    Spec spec;
    spec.wide_keys = false;
    spec.balanced_keys = balanced, spec.kept_keys = 0;
    Stores stores = filled_stores(c, Fill::batches, spec);
    EXPECT_EQ(stores.keys->sealed_blob(0, 0, 0).empty(), balanced) << "keys wait for the queries";
    const Problem problem(c, *stores.keys, *stores.values);
    AttentionScratch scratch;
    for (int call = 0; call < 2; ++call) {
        const std::vector<Expected> expected = problem.expected();
        expect_as_expected(problem.run(1, scratch), expected);
    }
    EXPECT_FALSE(stores.keys->sealed_blob(0, 0, 0).empty());
    return stores;
}

TEST(Balance, LoudChannelsAreTurnedDown) {
    const AttendCase c{64, 64, 3, 4, 300, 2, 3, 2, 1, true, 8};
    const Stores balanced = balanced_stores(c, true), plain = balanced_stores(c, false);
    EXPECT_TRUE(plain.keys->balance(0).empty());
    for (const int bad : {-1, 2}) EXPECT_TRUE(balanced.keys->balance(bad).empty());
    const std::vector<float> rows = [&] {
        std::vector<float> all;
        for (std::int64_t cell = 0; cell < 300; ++cell) {
            const std::vector<float> one = row_of(cell, 2, 64, 2.0f, 2 * c.seed + 1);
            all.insert(all.end(), one.begin(), one.end());
        }
        return all;
    }();
    testing::RelativeError with, without;  // of quiet channels, as queries see them
    const std::vector<std::uint16_t> a = rows_of(*balanced.keys, 0, 128), b = rows_of(*plain.keys, 0, 128);
    for (int head = 0; head < 2; ++head) {
        const auto exponents = balanced.keys->balance(head);
        ASSERT_EQ(exponents.size(), 64u);
        double loud = 0, quiet = 0;
        for (int j = 0; j < 64; ++j) {
            (j % 16 == 3 ? loud : quiet) += exponents[j] / (j % 16 == 3 ? 4.0 : 60.0);
            for (std::size_t cell = 4; cell < 128 && j % 16 != 3; ++cell) {
                const std::size_t at = (cell * 2 + head) * 64 + j;
                const float x = rows[at], y = half_to_float(a[at]), z = half_to_float(b[at]);
                with.add(&x, &y, 1);
                without.add(&x, &z, 1);
            }
        }
        EXPECT_NEAR(quiet - loud, 0.25 * std::log2(36), 0.6) << "six times as loud, the queries alike";
    }
    EXPECT_LT(with.value(), 0.7 * without.value());
}

TEST(Balance, ATileIsWhatTheReferenceMakesOfIt) {
    const AttendCase c{80, 64, 4, 4, 300, 2, 3, 2, 1, true, 9};
    const Stores stores = balanced_stores(c, true);
    const Coder coder = make_coder(stores.keys->spec(), Side::key);
    std::vector<std::uint16_t> rows(64 * 80);
    const std::uint16_t* pointers[kTileTokens];
    for (int t = 0; t < kTileTokens; ++t) {
        pointers[t] = &rows[t * 80];
        const std::vector<float> row = row_of(64 + t, 2, 80, 2.0f, 2 * c.seed + 1);
        for (int j = 0; j < 80; ++j) rows[t * 80 + j] = float_to_half(row[80 + j]);
    }
    const auto blob = stores.keys->sealed_blob(0, 1, 1);
    std::vector<std::uint8_t> expected(blob.size());
    reference::seal_tile(coder, pointers, testing::kAllRows, true, expected.data(), stores.keys->balance(1));
    EXPECT_TRUE(same_bits(blob, expected));
}

}  // namespace
}  // namespace turboquant::parity

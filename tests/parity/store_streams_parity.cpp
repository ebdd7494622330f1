// TileStore: streams, clearing, stores without a tail, and what usage() counts.
#include "parity/attend_problem.hpp"

namespace turboquant::parity {
namespace {

TEST(Streams, ACopyHasTheSameCodesAndALifeOfItsOwn) {
    Spec spec;
    spec.head_dim = 64;
    spec.wide_keys = spec.balanced_keys = false, spec.kept_keys = 0;
    const auto store = make_store(spec, {CacheSide::keys, 2, 300, 3});
    fill(*store, 300, 280, Fill::batches, 3);
    fill(*store, 600, 100, Fill::batches, 4);  // what the copy replaces
    store->copy_stream(1, 2);
    EXPECT_TRUE(same_bits(rows_of(*store, 600, 300), rows_of(*store, 300, 300)));
    for (int tile = 0; tile < 5; ++tile) {
        const auto a = store->sealed_blob(1, tile, 1), b = store->sealed_blob(2, tile, 1);
        EXPECT_EQ(a.empty(), tile >= 3);
        EXPECT_TRUE(same_bits(a, b)) << "tile " << tile;
    }
    EXPECT_EQ(store->usage().elements, 2 * 280u * 2 * 64);
    const std::vector<std::uint16_t> before = rows_of(*store, 300, 300);
    store->copy_stream(2, 2);
    write_cells(*store, cells_from(600, 20), 9, 1);
    write_cells(*store, cells_from(750, 150), 9, 1);
    EXPECT_TRUE(same_bits(rows_of(*store, 300, 300), before)) << "writing to the copy changed the original";
    EXPECT_FALSE(same_bits(rows_of(*store, 600, 300), before));
    store->copy_stream(0, 2);  // an empty one
    for (const std::uint16_t h : rows_of(*store, 600, 300)) ASSERT_EQ(h, 0);
    EXPECT_EQ(store->usage().elements, 280u * 2 * 64);
}

TEST(Streams, ClearingGivesEverythingBack) {
    Spec spec;
    spec.wide_keys = spec.balanced_keys = false, spec.kept_keys = 0;
    const auto store = make_store(spec, {CacheSide::keys, 2, 4096, 1});
    const StoreUsage empty = store->usage();
    fill(*store, 0, 700, Fill::one_batch, 3);
    const std::vector<std::uint16_t> rows = rows_of(*store, 0, 700);
    EXPECT_GT(store->usage().resident_bytes, empty.resident_bytes + 100000);
    store->clear();
    EXPECT_EQ(store->usage().elements, 0u);
    EXPECT_EQ(store->usage().resident_bytes, empty.resident_bytes);
    for (const std::uint16_t h : rows_of(*store, 0, 4096)) ASSERT_EQ(h, 0);
    fill(*store, 0, 700, Fill::one_batch, 3);
    EXPECT_TRUE(same_bits(rows_of(*store, 0, 700), rows)) << "a store that was cleared is like a new one";
}

TEST(Streams, BlobsThatDoNotExistAreEmpty) {
    const auto store = make_store({}, {CacheSide::values, 2, 300, 2});
    fill(*store, 0, 300, Fill::one_batch, 3);
    EXPECT_FALSE(store->sealed_blob(0, 0, 1).empty());
    EXPECT_TRUE(store->sealed_blob(1, 0, 1).empty());
    for (const int bad : {-1, 2}) EXPECT_TRUE(store->sealed_blob(bad, 0, 0).empty() && store->sealed_blob(0, 0, bad).empty());
    for (const int bad : {-1, 5}) EXPECT_TRUE(store->sealed_blob(0, bad, 0).empty());
}

TEST(Streams, ImpossibleStoresAreRefused) {
    EXPECT_FALSE(TileStore::create(testing::spec_of(72, 4), {CacheSide::keys, 1, 100, 1}).ok());
    EXPECT_FALSE(TileStore::create({}, {CacheSide::keys, 0, 100, 1}).ok());
    EXPECT_FALSE(TileStore::create({}, {CacheSide::keys, 1, 0, 1}).ok());
    EXPECT_FALSE(TileStore::create({}, {CacheSide::keys, 1, 100, 0}).ok());
}

// --- stores without a tail: TurboQuant as published, every row coded as it is written ---

TEST(Plain, RowsAreCodedOneByOne) {
    for (const CacheSide side : {CacheSide::keys, CacheSide::values}) {
        Spec spec = find_preset("k4v4-plain").value().spec;
        spec.head_dim = 64;
        const auto store = make_store(spec, {side, 2, 150, 1});
        const Coder coder = make_coder(spec, side == CacheSide::keys ? Side::key : Side::value);
        write_cells(*store, {3, 70, 140, 71}, 5);
        store->write_rows(20, 1, rows_of(*store, 71, 1).data());
        write_cells(*store, {70}, 5, 1);  // again
        const float mean = side == CacheSide::keys ? 2.0f : 0.0f;
        for (const std::int64_t cell : {3, 70, 71, 140}) {
            std::vector<float> row = row_of(cell == 70 ? 1000070 : cell, 2, 64, mean, 5);
            for (float& x : row) x = half_to_float(float_to_half(x));
            for (int head = 0; head < 2; ++head) {
                const testing::Encoded expected = testing::encode(coder, &row[head * 64]);
                const auto blob = store->sealed_blob(0, cell / 64, head);
                ASSERT_FALSE(blob.empty());
                std::vector<std::uint8_t> codes;
                for (int j = 0; j < 64; ++j) codes.push_back(static_cast<std::uint8_t>(tile_get_code({coder.side, 64, 4}, blob.data(), static_cast<int>(cell % 64), j)));
                EXPECT_TRUE(same_bits(codes, expected.codes)) << "cell " << cell;
            }
        }
        EXPECT_EQ(store->usage().elements, 5u * 2 * 64);
        EXPECT_EQ(store->usage().exact_bytes, 0u);
        for (const std::uint16_t h : rows_of(*store, 72, 60)) ASSERT_EQ(h, 0);
    }
}

TEST(Plain, AttentionReadsThem) {
    Spec spec = find_preset("k4v4-plain").value().spec;
    AttendCase c{64, 64, 4, 3, 200, 3, 5, 2, 1, false, 3};
    const Stores stores = filled_stores(c, Fill::rewritten, spec);
    for (const Masks masks : kMasks) {
        const Problem problem(c, *stores.keys, *stores.values, masks);
        AttentionScratch scratch;
        const std::vector<Expected> expected = problem.expected();
        expect_as_expected(problem.run(2, scratch), expected);
    }
}

// --- bytes ---

// The bound on all resident bytes over all numbers, context filled to 16,384.
void expect_bits_per_value(const char* preset, int dim, int heads, double most) {
    Spec spec = find_preset(preset).value().spec;
    spec.head_dim = dim;
    const std::size_t row = static_cast<std::size_t>(heads) * dim;
    const std::vector<float> rows = gaussian(512 * row, 1), query = gaussian(row, 2);
    std::vector<float> out(row);
    AttentionArgs args;
    args.num_heads = heads;
    args.query = query.data();
    args.query_stride = args.query_stream_stride = row;
    args.query_head_stride = args.out_stride = dim;
    args.scale = 1 / std::sqrt(static_cast<float>(dim));
    args.out = out.data();
    AttentionScratch scratch;
    const auto keys = make_store(spec, {CacheSide::keys, heads, 16384, 1}), values = make_store(spec, {CacheSide::values, heads, 16384, 1});
    for (std::int64_t first = 0; first < 16384; first += 512) {
        const std::vector<std::int64_t> cells = cells_from(first, 512);
        for (TileStore* store : {keys.get(), values.get()}) store->write(alone(), rows.data(), row, cells.data(), 512);
        args.num_cells = std::min<std::int64_t>(first + 512, 1024);  // enough to decide about the keys
        attend(alone(), *keys, *values, args, scratch);
    }
    double bytes = 0, numbers = 0;
    for (const TileStore* store : {keys.get(), values.get()}) {
        const StoreUsage usage = store->usage();
        EXPECT_EQ(usage.elements, 16384 * row);
        const TileLayout layout{store == keys.get() ? Side::key : Side::value, dim, store == keys.get() ? spec.key_bits : spec.value_bits};
        EXPECT_EQ(usage.coded_bytes, 254u * heads * layout.blob_bytes());
        EXPECT_EQ(usage.exact_bytes, 2 * (2 * 64 + 4) * row + 2 * dim * usage.kept_keys);
        EXPECT_LE(usage.kept_keys, 256u * heads + 4 * 8 * heads) << "one per tile, and what the last batch had more";
        EXPECT_GE(usage.resident_bytes, usage.coded_bytes + usage.exact_bytes);
        bytes += static_cast<double>(usage.resident_bytes);
        numbers += static_cast<double>(usage.elements);
    }
    EXPECT_LE(8 * bytes / numbers, most) << preset << ", head_dim " << dim << ", " << heads << " heads";
}

TEST(Usage, StaysBelowTheBitsThatWePromise) {
    expect_bits_per_value("k4v4", 128, 2, 4.45);
    expect_bits_per_value("k4v4", 64, 3, 4.6);
    expect_bits_per_value("k4v4", 64, 2, 4.6);
    expect_bits_per_value("k3v2", 128, 2, 2.95);
    expect_bits_per_value("k3v2", 64, 3, 3.1);
}

}  // namespace
}  // namespace turboquant::parity

// TileStore: what is exact, what is sealed and with which bytes, what survives rewriting, copying and restoring.
#include "cpu/kernels.hpp"
#include "parity/filled_stores.hpp"
#include "parity/support.hpp"

namespace turboquant::parity {
namespace {

constexpr int kHeads = 3;

Spec spec_with(int dim, int bits) {
    Spec spec = testing::spec_of(dim, bits);
    spec.wide_keys = spec.balanced_keys = false, spec.kept_keys = 0;  // nothing to wait for: keys are sealed at once
    return spec;
}

std::vector<std::uint16_t> read_all(const TileStore& store) {
    const StoreShape& shape = store.shape();
    std::vector<std::uint16_t> rows(static_cast<std::size_t>(shape.num_streams * shape.cells_per_stream) * shape.num_kv_heads * store.spec().head_dim);
    store.read_rows(0, shape.num_streams * shape.cells_per_stream, rows.data());
    return rows;
}

// The binary16 rows that write_cells(…, seed, version) hands over, for cells first.. of a store.
std::vector<std::uint16_t> written_rows(const TileStore& store, std::int64_t first, std::int64_t num, std::uint64_t seed, std::uint64_t version = 0) {
    std::vector<std::uint16_t> rows;
    for (std::int64_t cell = first; cell < first + num; ++cell) {
        const float mean = store.shape().side == CacheSide::keys ? 2.0f : 0.0f;
        for (const float x : row_of(cell + 1000000 * static_cast<std::int64_t>(version), store.shape().num_kv_heads, store.spec().head_dim, mean, seed)) {
            rows.push_back(float_to_half(x));
        }
    }
    return rows;
}

std::span<const std::uint16_t> part(const std::vector<std::uint16_t>& rows, const TileStore& store, std::int64_t first, std::int64_t num) {
    const std::size_t row = static_cast<std::size_t>(store.shape().num_kv_heads) * store.spec().head_dim;
    return std::span(rows).subspan(row * first, row * num);
}

std::vector<std::uint8_t> blob_of(const TileStore& store, int stream, std::int64_t tile, int head) {
    const auto blob = store.sealed_blob(stream, tile, head);
    return {blob.begin(), blob.end()};
}

// Every sealed blob is the reference's, every tile in the tail and every sink is what was written.
TEST(Store, HoldsWhatTheReferenceSays) {
    for (const CacheSide side : {CacheSide::keys, CacheSide::values}) {
        for (const int bits : {3, 4, 8}) {
            SCOPED_TRACE(::testing::Message() << "side " << static_cast<int>(side) << ", " << bits << " bits");
            const auto store = make_store(spec_with(80, bits), {side, kHeads, 400, 1});
            fill(*store, 0, 350, Fill::batches, 5);  // tiles 0..5; the newest two, 4 and 5, stay open
            const std::vector<std::uint16_t> rows = written_rows(*store, 0, 350, 5), found = read_all(*store);
            EXPECT_TRUE(same_bits(part(found, *store, 0, 4), part(rows, *store, 0, 4))) << "sinks";
            EXPECT_TRUE(same_bits(part(found, *store, 256, 94), part(rows, *store, 256, 94))) << "tail";
            for (const std::uint16_t h : part(found, *store, 350, 50)) EXPECT_EQ(h, 0) << "never written";
            const Coder coder = make_coder(store->spec(), side == CacheSide::keys ? Side::key : Side::value);
            for (int tile = 0; tile < 7; ++tile) {
                for (int head = 0; head < kHeads; ++head) {
                    const std::vector<std::uint8_t> blob = blob_of(*store, 0, tile, head);
                    ASSERT_EQ(blob.empty(), tile >= 4) << "tile " << tile;
                    if (blob.empty()) continue;
                    const std::uint16_t* pointers[kTileTokens];
                    for (int t = 0; t < kTileTokens; ++t) pointers[t] = &rows[(static_cast<std::size_t>(tile * kTileTokens + t) * kHeads + head) * 80];
                    std::vector<std::uint8_t> expected(blob.size());
                    reference::seal_tile(coder, pointers, tile == 0 ? ~15ull : ~0ull, true, expected.data());
                    EXPECT_TRUE(same_bits(blob, expected)) << "tile " << tile << ", head " << head;
                    std::vector<std::uint16_t> row(80);
                    reference::open_row(coder, blob.data(), 63, row.data());
                    const std::size_t at = (static_cast<std::size_t>(tile * kTileTokens + 63) * kHeads + head) * 80;
                    EXPECT_TRUE(same_bits(std::span(found).subspan(at, 80), row)) << "row 63 of tile " << tile;
                }
            }
        }
    }
}

TEST(Store, TheNumberOfThreadsChangesNothing) {
    for (const int tail : {2, 0}) {
        Spec spec = spec_with(64, 4);
        spec.tail_tiles = tail;
        if (tail == 0) spec.centred_keys = false, spec.sink_tokens = 0;
        const auto once = make_store(spec, {CacheSide::keys, kHeads, 500, 1}), other = make_store(spec, {CacheSide::keys, kHeads, 500, 1});
        const std::vector<float> rows = gaussian(400 * kHeads * 64, 3);
        const std::vector<std::int64_t> cells = cells_from(30, 400);
        once->write(alone(), rows.data(), kHeads * 64, cells.data(), 400);
        once->seal(alone());
        for (const int threads : {2, 3, 5}) {
            on_team(threads, [&](Worker worker) {
                other->write(worker, rows.data(), kHeads * 64, cells.data(), 400);
                other->seal(worker);
            });
            EXPECT_TRUE(same_bits(read_all(*other), read_all(*once)));
            EXPECT_EQ(blob_of(*other, 0, 2, 1), blob_of(*once, 0, 2, 1));
            EXPECT_FALSE(blob_of(*other, 0, 2, 1).empty());
            other->clear();
        }
    }
}

TEST(Store, CellsOutOfRangeAreIgnored) {
    const auto store = make_store(spec_with(64, 4), {CacheSide::values, 1, 100, 2});
    const std::vector<float> rows = gaussian(6 * 64, 1);
    const std::int64_t cells[] = {-1, 200, 99, -70, 100, std::int64_t{1} << 40};
    store->write(alone(), rows.data(), 64, cells, 6);
    store->seal(alone());
    const std::vector<std::uint16_t> found = read_all(*store);
    for (std::size_t cell = 0; cell < 200; ++cell) {
        for (int j = 0; j < 64; ++j) {
            const std::uint16_t expected = cell == 99 ? float_to_half(rows[2 * 64 + j]) : cell == 100 ? float_to_half(rows[4 * 64 + j]) : std::uint16_t{0};
            ASSERT_EQ(found[cell * 64 + j], expected) << "cell " << cell;
        }
    }
    EXPECT_EQ(store->usage().elements, 2 * 64u);
}

// A few new rows in a sealed tile: they get codes against its reference; reference and codes of the other rows stay.
TEST(Store, RewritingAFewRowsKeepsTheOthers) {
    for (const CacheSide side : {CacheSide::keys, CacheSide::values}) {
        for (const int num : {1, 5, 31}) {
            SCOPED_TRACE(::testing::Message() << "side " << static_cast<int>(side) << ", " << num << " rows");
            const auto store = make_store(spec_with(64, 4), {side, kHeads, 640, 1});
            fill(*store, 0, 400, Fill::batches, 7);
            const std::vector<std::uint8_t> before = blob_of(*store, 0, 1, 2);
            std::vector<std::int64_t> cells;
            for (int i = 0; i < num; ++i) cells.push_back(64 + 2 * i);
            write_cells(*store, cells, 7, 1);
            EXPECT_TRUE(blob_of(*store, 0, 1, 2).empty()) << "what was just written is exact";
            const std::vector<std::uint16_t> exact = read_all(*store);
            EXPECT_TRUE(same_bits(part(exact, *store, 64, 1), written_rows(*store, 64, 1, 7, 1)));
            write_cells(*store, cells_from(400, 130), 7);
            const std::vector<std::uint8_t> after = blob_of(*store, 0, 1, 2);
            ASSERT_EQ(after.size(), before.size());
            const TileLayout layout{side == CacheSide::keys ? Side::key : Side::value, 64, 4};
            for (int t = 0; t < kTileTokens; ++t) {
                const bool rewritten = t % 2 == 0 && t / 2 < num;
                int changed = 0;
                for (int j = 0; j < 64; ++j) changed += tile_get_code(layout, before.data(), t, j) != tile_get_code(layout, after.data(), t, j);
                EXPECT_EQ(changed > 0, rewritten) << "row " << t;
            }
            if (side == CacheSide::keys) {
                EXPECT_TRUE(std::equal(before.begin() + static_cast<std::ptrdiff_t>(layout.reference_offset()), before.end(), after.begin() + static_cast<std::ptrdiff_t>(layout.reference_offset())));
            }
            const std::vector<std::uint16_t> found = read_all(*store), wanted = written_rows(*store, 64, 1, 7, 1);
            testing::RelativeError error;
            for (int i = 0; i < kHeads * 64; ++i) {
                const float x = half_to_float(wanted[i]), y = half_to_float(found[static_cast<std::size_t>(64) * kHeads * 64 + i]);
                error.add(&x, &y, 1);
            }
            EXPECT_LT(error.value(), 0.02);
        }
    }
}

// Another prompt in the same cells: tiles are as if they had never held anything else, the one with 22 rows too.
TEST(Store, RewritingWholeTilesForgetsTheOldOnes) {
    const auto store = make_store(spec_with(64, 4), {CacheSide::keys, kHeads, 640, 1}), fresh = make_store(spec_with(64, 4), {CacheSide::keys, kHeads, 640, 1});
    const auto write_prompt = [](TileStore& to, std::uint64_t seed) {
        write_cells(to, cells_from(0, 150), seed);
        write_cells(to, cells_from(192, 448), seed);
    };
    write_prompt(*store, 7);
    write_prompt(*store, 8);
    write_prompt(*fresh, 8);
    for (int tile = 0; tile < 8; ++tile) {
        EXPECT_FALSE(blob_of(*fresh, 0, tile, 0).empty());
        EXPECT_EQ(blob_of(*store, 0, tile, 0), blob_of(*fresh, 0, tile, 0)) << tile;
    }
    EXPECT_TRUE(same_bits(read_all(*store), read_all(*fresh)));
}

// A state saved through binary16 rows and restored: nearly all codes are the same where tiles align; sinks and tail are exact.
TEST(Store, RestoringKeepsTheCodes) {
    for (const CacheSide side : {CacheSide::keys, CacheSide::values}) {
        for (const int bits : supported_bits()) {
            for (const int dim : {64, 128}) {
                const auto saved = make_store(spec_with(dim, bits), {side, 2, 640, 1}), restored = make_store(spec_with(dim, bits), {side, 2, 640, 1});
                fill(*saved, 0, 600, Fill::batches, dim + bits);
                const std::vector<std::uint16_t> rows = read_all(*saved);
                restored->write_rows(0, 600, rows.data());
                const TileLayout layout{side == CacheSide::keys ? Side::key : Side::value, dim, bits};
                int same = 0, total = 0;
                for (int tile = 0; tile < 8; ++tile) {
                    for (int head = 0; head < 2; ++head) {
                        const std::vector<std::uint8_t> a = blob_of(*saved, 0, tile, head), b = blob_of(*restored, 0, tile, head);
                        ASSERT_FALSE(a.empty());
                        ASSERT_EQ(a.size(), b.size());
                        for (int i = tile == 0 ? 4 * dim : 0; i < kTileTokens * dim; ++i) {
                            same += tile_get_code(layout, a.data(), i / dim, i % dim) == tile_get_code(layout, b.data(), i / dim, i % dim);
                            ++total;
                        }
                    }
                }
                EXPECT_GE(same, 0.99 * total) << bits << " bits, head_dim " << dim << ", side " << static_cast<int>(side) << ": " << 1.0 * same / total;
                const std::vector<std::uint16_t> again = read_all(*restored);
                EXPECT_TRUE(same_bits(part(again, *saved, 0, 4), part(rows, *saved, 0, 4))) << "sinks";
                EXPECT_TRUE(same_bits(part(again, *saved, 512, 88), part(rows, *saved, 512, 88))) << "tail";
            }
        }
    }
}

}  // namespace
}  // namespace turboquant::parity

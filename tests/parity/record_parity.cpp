// Sides that are coded by records (core/scheme.hpp): attention against the oracle on the usual cases, and what stores promise.
#include "core/scheme.hpp"
#include "parity/attend_problem.hpp"

namespace turboquant::parity {
namespace {

struct Kind {
    const char* name;
    Spec spec;
};

// The presets, and each scheme beside the default codes of the other side.
const std::vector<Kind>& kinds() {
    static const std::vector<Kind> all = [] {
        std::vector<Kind> list;
        for (const char* preset : {"paper-k3v2", "paper-2.5", "paper-3.5"})
            list.push_back({preset, find_preset(preset).value().spec});
        Spec spec = list[0].spec;
        spec.key_bits = 4;
        spec.value_scheme = ValueScheme::rotated;
        spec.value_bits = 3;
        spec.sketch = Sketch::orthogonal;
        spec.sink_tokens = 4;
        list.push_back({"orthogonal prod, rotated values, sinks", spec});
        spec = {};
        spec.value_scheme = ValueScheme::group;
        list.push_back({"default keys, 4-bit groups", spec});
        spec = list[0].spec;
        spec.tail_tiles = 0;
        list.push_back({"prod and groups without a tail", spec});
        spec = list[1].spec;
        spec.rotation = Rotation::haar;
        spec.value_bits = 5;
        spec.sink_tokens = 2;
        list.push_back({"split with Haar rotations, sinks", spec});
        return list;
    }();
    return all;
}

AttendCase with_bits_of(AttendCase c, const Spec& spec) {
    c.key_bits = spec.key_bits;
    c.value_bits = spec.value_bits;
    c.centred = spec.centred_keys;
    return c;
}

void expect_parity(const AttendCase& c, const Kind& kind, Fill how, Masks masks, int num_threads) {
    SCOPED_TRACE(::testing::Message() << kind.name << ", head_dim " << c.key_dim << "/" << c.value_dim << ", " << c.tokens
                                      << " tokens, " << c.queries << " queries, seed " << c.seed);
    const Stores stores = filled_stores(c, how, kind.spec);
    ASSERT_TRUE(stores.keys && stores.values);
    const Problem problem(c, *stores.keys, *stores.values, masks);
    AttentionScratch scratch;
    for (int call = 0; call < (kind.spec.balanced_keys ? 2 : 1); ++call) {  // keys that wait for queries are coded after the first
        const std::vector<Expected> expected = problem.expected();
        expect_as_expected(problem.run(num_threads, scratch), expected);
    }
}

TEST(Records, EveryCase) {
    for (const AttendCase& c : attend_cases()) {
        if (c.key_dim == 576 && c.group_size > 64) continue;  // the oracle takes minutes, and schemes have no such seam
        const Kind& kind = kinds()[c.seed % kinds().size()];
        expect_parity(with_bits_of(c, kind.spec), kind, kFills[c.seed / 2 % std::size(kFills)],
                      kMasks[c.seed / 3 % std::size(kMasks)], 1);
    }
}

// Each kind at each head size of models, so that none depends on the turns above.
TEST(Records, EveryKindAtEveryHeadSize) {
    std::uint64_t seed = 500;
    for (const Kind& kind : kinds()) {
        for (const int dim : {64, 80, 96, 112, 128, 192, 256}) {
            AttendCase c = with_bits_of({dim, dim, 0, 0, 210, 3, 2, 2, 1, true, ++seed}, kind.spec);
            expect_parity(c, kind, kFills[seed % std::size(kFills)], kMasks[seed % std::size(kMasks)],
                          1 + static_cast<int>(seed % 3));
        }
    }
}

TEST(Records, NoTokensAndManyThreads) {
    for (const Kind& kind : kinds()) {
        expect_parity(with_bits_of({64, 64, 0, 0, 0, 1, 3, 1, 1, true, 14}, kind.spec), kind, Fill::batches, Masks::none, 3);
        expect_parity(with_bits_of({64, 80, 0, 0, 1000, 4, 2, 2, 1, true, 12}, kind.spec), kind, Fill::one_batch, Masks::holes, 5);
    }
}

Side side_of(CacheSide side) { return side == CacheSide::keys ? Side::key : Side::value; }

// Kinds whose side is coded by records at this head size.
std::vector<Spec> record_specs(CacheSide side, int dim) {
    std::vector<Spec> specs;
    for (Spec spec : {kinds()[0].spec, kinds()[1].spec, kinds()[3].spec, kinds()[6].spec}) {
        spec.head_dim = dim;
        if (uses_records(spec, side_of(side))) specs.push_back(spec);
    }
    return specs;
}

std::vector<float> floats_of(std::span<const std::uint16_t> halves) {
    std::vector<float> x;
    for (const std::uint16_t h : halves) x.push_back(half_to_float(h));
    return x;
}

// Every sealed record is the scheme's, made from the binary16 row; sinks and tail are what was written; the size is what was promised.
TEST(Records, StoresHoldWhatTheSchemeSays) {
    for (const CacheSide side : {CacheSide::keys, CacheSide::values}) {
        for (const Spec& spec : record_specs(side, 80)) {
            const int heads = 2, d = spec.head_dim;
            const auto store = make_store(spec, {side, heads, 400, 1});
            const auto exact = make_store(
                [&] {
                    Spec all_tail = spec;
                    all_tail.tail_tiles = 64;
                    return all_tail;
                }(),
                {side, heads, 400, 1});
            fill(*store, 0, 350, Fill::batches, 5);
            fill(*exact, 0, 350, Fill::batches, 5);
            const std::vector<std::uint16_t> rows = rows_of(*exact, 0, 350), found = rows_of(*store, 0, 400);
            const std::size_t row = static_cast<std::size_t>(heads) * d;
            EXPECT_TRUE(std::equal(rows.begin() + 256 * row, rows.end(), found.begin() + 256 * row)) << "tail";
            EXPECT_TRUE(std::all_of(found.begin() + 350 * row, found.end(), [](std::uint16_t h) { return h == 0; }))
                << "never written";
            for (int head = 0; head < heads; ++head) {
                const auto outliers = store->outliers(head);
                EXPECT_EQ(outliers.size(), spec.outlier_split ? static_cast<std::size_t>(num_outliers(d)) : 0);
                const auto scheme = make_scheme(spec, side_of(side), outliers);
                EXPECT_EQ(store->sealed_blob(0, 4, head).size(), 0u);
                for (const int cell : {0, 1, 63, 64, 200, 255}) {
                    const auto blob = store->sealed_blob(0, cell / 64, head);
                    ASSERT_EQ(blob.size(), 64 * scheme->record_bytes());
                    const std::span<const std::uint16_t> written =
                        std::span(rows).subspan(cell * row + static_cast<std::size_t>(head) * d, d);
                    const std::span<const std::uint16_t> read =
                        std::span(found).subspan(cell * row + static_cast<std::size_t>(head) * d, d);
                    std::vector<std::uint8_t> record(scheme->record_bytes(), 0);
                    if (cell < spec.sink_tokens) {
                        EXPECT_TRUE(std::equal(written.begin(), written.end(), read.begin())) << "sink " << cell;
                    } else {
                        scheme->encode(floats_of(written).data(), record.data());
                        std::vector<float> x(d);
                        scheme->decode(record.data(), x.data());
                        for (int j = 0; j < d; ++j) EXPECT_EQ(read[j], float_to_half(x[j]));
                    }
                    const auto stored = blob.subspan(cell % 64 * record.size(), record.size());
                    EXPECT_TRUE(std::equal(record.begin(), record.end(), stored.begin())) << "cell " << cell;
                }
            }
            EXPECT_EQ(store->usage().coded_bytes, 4 * heads * sealed_tile_bytes(spec, side_of(side)));
            EXPECT_GE(store->usage().resident_bytes, store->usage().coded_bytes + store->usage().exact_bytes);
        }
    }
}

// The loudest channels of what was there when the first tile was sealed; the same afterwards.
TEST(Records, OutliersAreTheLoudestChannelsAndStay) {
    Spec spec = kinds()[1].spec;
    spec.head_dim = 64;
    const auto store = make_store(spec, {CacheSide::values, 2, 640, 1});
    const auto write = [&](std::int64_t first, int loud_shift) {
        for (std::int64_t cell = first; cell < first + 64; ++cell) {
            std::vector<float> row = gaussian(128, 40 + static_cast<std::uint64_t>(cell));
            for (int i = 0; i < 128; ++i) {
                if ((i + loud_shift + i / 64) % 4 == 0) row[i] *= 20;
            }
            store->write(alone(), row.data(), row.size(), &cell, 1);
        }
        store->seal(alone());
    };
    for (int tile = 0; tile < 3; ++tile) {
        EXPECT_TRUE(store->outliers(0).empty());
        write(64 * tile, 0);
    }
    for (int round = 0; round < 2; ++round) {
        for (int head = 0; head < 2; ++head) {
            ASSERT_EQ(store->outliers(head).size(), 16u);
            for (const int channel : store->outliers(head)) EXPECT_EQ((channel + head) % 4, 0) << "head " << head;
        }
        write(192, 1);
        write(256, 1);
    }
}

TEST(Records, TheNumberOfThreadsChangesNothing) {
    for (const CacheSide side : {CacheSide::keys, CacheSide::values}) {
        for (const Spec& spec : record_specs(side, 64)) {
            const StoreShape shape{side, 3, 500, 1};
            const auto one = make_store(spec, shape), many = make_store(spec, shape);
            std::vector<float> rows = gaussian(400 * 3 * 64, 77);
            const std::vector<std::int64_t> cells = cells_from(0, 400);
            one->write(alone(), rows.data(), 192, cells.data(), 400);
            one->seal(alone());
            on_team(5, [&](Worker worker) {
                many->write(worker, rows.data(), 192, cells.data(), 400);
                many->seal(worker);
            });
            EXPECT_TRUE(same_bits(rows_of(*one, 0, 500), rows_of(*many, 0, 500)));
        }
    }
}

// A row written again changes its own record only, a broken one spoils no other, and copies have the same bytes.
TEST(Records, RowsAreIndependent) {
    for (const CacheSide side : {CacheSide::keys, CacheSide::values}) {
        for (const Spec& spec : record_specs(side, 96)) {
            const auto store = make_store(spec, {side, 2, 512, 2});
            fill(*store, 0, 448, Fill::batches, 6);
            const std::vector<std::uint16_t> before = rows_of(*store, 0, 256);
            const auto blob = store->sealed_blob(0, 1, 1);
            const std::vector<std::uint8_t> bytes_before(blob.begin(), blob.end());
            std::vector<float> bad(192, NAN);
            const std::int64_t cell = 100;
            store->write(alone(), bad.data(), bad.size(), &cell, 1);
            write_cells(*store, cells_from(300, 148), 6);  // three tiles: 100's leaves the tail again
            const std::vector<std::uint16_t> after = rows_of(*store, 0, 256);
            const auto again = store->sealed_blob(0, 1, 1);
            ASSERT_EQ(again.size(), bytes_before.size());
            const std::size_t record = again.size() / 64;
            for (std::size_t t = 0; t < 64; ++t) {
                const bool same =
                    std::equal(again.begin() + t * record, again.begin() + (t + 1) * record, bytes_before.begin() + t * record);
                EXPECT_EQ(same, t != 36) << "row " << t;
            }
            for (std::size_t i = 0; i < after.size(); ++i) {
                if (i / 192 != 100) {
                    ASSERT_EQ(after[i], before[i]) << "cell " << i / 192;
                }
            }
            EXPECT_TRUE(std::isnan(half_to_float(after[100 * 192])));
            store->copy_stream(0, 1);
            EXPECT_TRUE(same_bits(rows_of(*store, 0, 99), rows_of(*store, 512, 99)));
        }
    }
}

// A saved state comes back as binary16 rows, before any query.
TEST(Records, ARestoredStoreSealsAndReads) {
    for (const CacheSide side : {CacheSide::keys, CacheSide::values}) {
        for (const Spec& spec : record_specs(side, 64)) {
            const auto store = make_store(spec, {side, 2, 512, 1}), restored = make_store(spec, {side, 2, 512, 1});
            fill(*store, 0, 400, Fill::batches, 8);
            const std::vector<std::uint16_t> saved = rows_of(*store, 0, 400);
            restored->write_rows(0, 400, saved.data());
            EXPECT_GT(restored->usage().coded_bytes, 0u);
            const std::vector<float> a = floats_of(saved), b = floats_of(rows_of(*restored, 0, 400));
            testing::RelativeError error;
            error.add(a.data(), b.data(), a.size());
            EXPECT_LT(error.value(), 0.25);  // coded twice: no worse than the codes themselves (2 bits: 0.12, a sketch's more)
            EXPECT_EQ(restored->usage().elements, store->usage().elements);
            restored->clear();
            EXPECT_EQ(restored->usage().coded_bytes, 0u);
        }
    }
}

}  // namespace
}  // namespace turboquant::parity

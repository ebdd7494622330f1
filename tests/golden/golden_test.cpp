// The library against bytes that an independent program wrote (make_golden.py): every code, scale and blob must be equal.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>

#include "core/codebook.hpp"
#include "core/convert.hpp"
#include "core/counter_rng.hpp"
#include "core/half.hpp"
#include "core/record_page.hpp"
#include "core/scheme.hpp"
#include "support/vectors.hpp"

namespace turboquant {
namespace {

static_assert(std::endian::native == std::endian::little, "records are little-endian");

// A record's numbers as the file has them.
struct Record {
    std::string dtype, bytes;

    template <class T>
    std::vector<T> as() const {
        std::vector<T> numbers(bytes.size() / sizeof(T));
        std::memcpy(numbers.data(), bytes.data(), bytes.size());
        return numbers;
    }
};

// One data file: name -> record. records.py describes the format.
class GoldenFile {
public:
    explicit GoldenFile(const std::string& topic) : topic_(topic) {
        std::ifstream file(TQ_SOURCE_DIR "/tests/golden/data/" + topic + ".bin", std::ios::binary);
        std::string line;
        while (std::getline(file, line)) {
            std::istringstream words(line);
            std::string name, shape;
            Record record;
            words >> name >> record.dtype >> shape;
            std::size_t num = 1;
            std::istringstream dims(shape);
            for (std::string dim; std::getline(dims, dim, ',');) num *= std::stoul(dim);
            record.bytes.resize(num * static_cast<std::size_t>(record.dtype.back() - '0'));
            file.read(record.bytes.data(), static_cast<std::streamsize>(record.bytes.size()));
            records_[name] = record;
        }
        EXPECT_FALSE(records_.empty()) << "tests/golden/data/" << topic << ".bin is missing";
    }

    bool has(const std::string& name) const { return records_.count(name) > 0; }

    template <class T>
    std::vector<T> get(const std::string& name) {
        EXPECT_TRUE(has(name)) << topic_ << " has no record " << name;
        used_.insert({name, true});
        return records_[name].as<T>();
    }
    // Tests call it last: a record that nobody compares with is a hole in the test.
    void expect_all_used() const { EXPECT_EQ(used_.size(), records_.size()) << topic_; }

private:
    std::string topic_;
    std::map<std::string, Record> records_;
    std::map<std::string, bool> used_;
};

// Bitwise, with the first difference spelled out.
template <class T>
::testing::AssertionResult same_bits(const std::vector<T>& found, const std::vector<T>& golden) {
    if (found.size() != golden.size()) return ::testing::AssertionFailure() << found.size() << " numbers, golden " << golden.size();
    for (std::size_t i = 0; i < found.size(); ++i) {
        if (std::memcmp(&found[i], &golden[i], sizeof(T)) == 0) continue;
        return ::testing::AssertionFailure() << "number " << i << " of " << found.size() << " is " << +found[i] << ", golden "
                                             << +golden[i];
    }
    return ::testing::AssertionSuccess();
}

constexpr std::uint64_t kSeed = Spec{}.seed;
const std::pair<std::string, Side> kSides[] = {{"key", Side::key}, {"value", Side::value}};

TEST(Golden, Signs) {
    GoldenFile file("signs");
    for (std::uint64_t seed : {kSeed, std::uint64_t{0}, std::uint64_t{1}, ~std::uint64_t{0}}) {
        for (std::uint64_t stream : {0, 1}) {
            char name[32];
            std::snprintf(name, sizeof name, "%016llx/%llu", static_cast<unsigned long long>(seed),
                          static_cast<unsigned long long>(stream));
            const std::vector<std::int8_t> golden = file.get<std::int8_t>(name);
            const auto tables = rotation_tables(576, Rotation::hadamard, seed, static_cast<Side>(stream));
            for (std::size_t i = 0; i < golden.size(); ++i) {
                ASSERT_EQ(counter_sign(seed, stream, i) ? -1 : 1, golden[i]) << name << " " << i;
                ASSERT_EQ(tables->sign[i], golden[i]);
            }
        }
    }
    file.expect_all_used();
}

TEST(Golden, Codebooks) {
    GoldenFile file("codebooks");
    for (int bits : supported_bits()) {
        if (bits == 8) continue;
        const std::string at = std::to_string(bits);
        const Codebook& book = codebook(bits);
        EXPECT_TRUE(
            same_bits(std::vector<std::int8_t>(book.positive, book.positive + book.half), file.get<std::int8_t>(at + "/levels")));
        EXPECT_TRUE(same_bits(std::vector<float>{book.alpha}, file.get<float>(at + "/alpha")));
        EXPECT_TRUE(
            same_bits(std::vector<float>(book.threshold + 1, book.threshold + book.half), file.get<float>(at + "/thresholds")));
        const LloydMax exact = solve_lloyd_max(Density::gaussian, 0, bits);
        const std::vector<double> levels = file.get<double>(at + "/exact"), mse = file.get<double>(at + "/mse");
        for (int k = 0; k < book.half; ++k) EXPECT_NEAR(exact.positive[k], levels[k], 1e-7);  // Lloyd's steps end at 1e-11 each
        EXPECT_NEAR(exact.mse, mse[0], 1e-10);
        EXPECT_NEAR(round_to_int8(exact, 127).mse, mse[1], 1e-10);
    }
    file.expect_all_used();
}

TEST(Golden, Rotations) {
    GoldenFile file("rotations");
    for (int d : supported_head_dims()) {
        const std::string at = std::to_string(d);
        const std::vector<float> x = file.get<float>(at + "/x");
        for (const auto& [name, side] : kSides) {
            const auto tables = rotation_tables(d, Rotation::hadamard, kSeed, side);
            std::vector<float> forward = x, inverse = x;
            for (std::size_t i = 0; i < x.size(); i += d) rotate_forward(*tables, &forward[i]);
            for (std::size_t i = 0; i < x.size(); i += d) rotate_inverse(*tables, &inverse[i]);
            EXPECT_TRUE(same_bits(forward, file.get<float>(at + "/" + name + "/forward"))) << at << " " << name;
            EXPECT_TRUE(same_bits(inverse, file.get<float>(at + "/" + name + "/inverse"))) << at << " " << name;
        }
    }
    // The Haar matrix goes through the C library's log and cos: equal, but not promised to the last bit.
    const std::vector<float> haar = file.get<float>("haar/64");
    for (int i = 0; i < 64 * 64; ++i) ASSERT_NEAR(rotation_tables(64, Rotation::haar, kSeed, Side::key)->dense[i], haar[i], 1e-7);
    file.expect_all_used();
}

TEST(Golden, EncodedVectors) {
    GoldenFile file("encoded");
    for (int d : supported_head_dims()) {
        const std::vector<float> x = file.get<float>(std::to_string(d) + "/x");
        const auto compare = [&](const Coder& coder, const std::string& at) {
            std::vector<std::uint8_t> codes(x.size());
            std::vector<std::uint16_t> scales(x.size() / d);
            for (std::size_t i = 0; i < scales.size(); ++i) reference::encode(coder, &x[i * d], &codes[i * d], &scales[i]);
            EXPECT_TRUE(same_bits(codes, file.get<std::uint8_t>(at + "/codes"))) << at;
            EXPECT_TRUE(same_bits(scales, file.get<std::uint16_t>(at + "/scales"))) << at;
        };
        for (int bits : supported_bits()) {
            Spec spec = testing::spec_of(d, bits);
            const std::string at = std::to_string(d) + "/" + std::to_string(bits);
            for (const auto& [name, side] : kSides) {
                if (bits <= kMaxTrellisBits) compare(make_coder(spec, side), at + "/trellis-" + name);
            }
            spec.trellis_codes = false;
            for (const auto& [name, side] : kSides) compare(make_coder(spec, side), at + "/" + name);
            spec.gain_search = false;
            if (file.has(at + "/one-gain/codes")) compare(make_coder(spec, Side::key), at + "/one-gain");
        }
    }
    file.expect_all_used();
}

TEST(Golden, SealedTiles) {
    GoldenFile file("tiles");
    for (int d : supported_head_dims()) {
        if (!file.has(std::to_string(d) + "/rows")) continue;
        testing::Tile tile(d, 0);
        tile.numbers = file.get<std::uint16_t>(std::to_string(d) + "/rows");
        tile.point();
        for (int bits : supported_bits()) {
            const std::string at = std::to_string(d) + "/" + std::to_string(bits);
            if (!file.has(at + "/counted")) continue;
            const std::uint64_t counted = file.get<std::uint64_t>(at + "/counted")[0];
            for (const std::string name : {"key", "balanced-key", "plain-key", "value", "trellis-key", "trellis-value"}) {
                if (!file.has(at + "/" + name + "/blob")) continue;
                Spec spec = testing::spec_of(d, bits);
                spec.trellis_codes = name.starts_with("trellis");
                const Coder coder = make_coder(spec, name.ends_with("value") ? Side::value : Side::key);
                std::vector<std::uint8_t> blob(TileLayout{coder.side, d, bits}.blob_bytes(), 0xcc);
                std::vector<std::int8_t> balance;
                if (name == "balanced-key") balance = file.get<std::int8_t>(at + "/balance");
                reference::seal_tile(coder, tile.rows, counted, name.ends_with("key") && name != "plain-key", blob.data(), balance);
                EXPECT_TRUE(same_bits(blob, file.get<std::uint8_t>(at + "/" + name + "/blob"))) << at << " " << name;
                if (!file.has(at + "/" + name + "/opened")) continue;
                std::vector<std::uint16_t> opened(tile.numbers.size());
                for (int t = 0; t < kTileTokens; ++t)
                    reference::open_row(coder, blob.data(), t, &opened[static_cast<std::size_t>(t) * d], balance);
                EXPECT_TRUE(same_bits(opened, file.get<std::uint16_t>(at + "/" + name + "/opened"))) << at << " " << name;
            }
        }
    }
    file.expect_all_used();
}

TEST(Golden, Records) {
    GoldenFile file("records"), tiles("tiles");
    for (const RowLayout& layout : {RowLayout{64, 3, 6}, RowLayout{64, 5, 2}}) {
        std::vector<std::uint8_t> records(kTileTokens * layout.record_bytes());
        for (const auto& [name, side] : kSides) {
            const SideLayout both = side_layout(layout, side);
            const std::string blob = "64/" + std::to_string(both.tile.bits) + "/" + name + "/blob";
            tile_to_rows(both, tiles.get<std::uint8_t>(blob).data(), records.data());
        }
        const std::string at = "64/" + std::to_string(layout.key_bits) + "/" + std::to_string(layout.value_bits);
        EXPECT_TRUE(same_bits(records, file.get<std::uint8_t>(at))) << at;
    }
    file.expect_all_used();
}

TEST(Golden, Schemes) {
    GoldenFile file("schemes");
    for (const int d : {64, 80, 128}) {
        const std::string at = std::to_string(d);
        const std::vector<float> x = file.get<float>(at + "/x");
        const std::vector<std::uint16_t> outliers = file.get<std::uint16_t>(at + "/outliers");
        EXPECT_TRUE(same_bits(outlier_channels(file.get<double>(at + "/power")), outliers));
        const auto compare = [&](const Spec& spec, Side side, const std::string& name) {
            const auto scheme = make_scheme(spec, side, outliers);
            std::vector<std::uint8_t> records(x.size() / d * scheme->record_bytes(), 0xcc);
            for (std::size_t i = 0; i < x.size() / d; ++i) scheme->encode(&x[i * d], &records[i * scheme->record_bytes()]);
            EXPECT_TRUE(same_bits(records, file.get<std::uint8_t>(at + "/" + name))) << at << "/" << name;
        };
        for (const int bits : {2, 3, 4}) {
            Spec spec = testing::spec_of(d, bits);
            spec.key_estimator = Estimator::prod;
            spec.sketch = Sketch::orthogonal;
            compare(spec, Side::key, "prod-orthogonal/" + std::to_string(bits));
            spec.sketch = Sketch::gaussian;
            if (file.has(at + "/prod-gaussian/" + std::to_string(bits)))
                compare(spec, Side::key, "prod-gaussian/" + std::to_string(bits));
            spec.value_scheme = ValueScheme::group;
            if (bits != 3) compare(spec, Side::value, "group/" + std::to_string(bits));
            spec = testing::spec_of(d, bits);
            spec.outlier_split = true;
            for (const auto& [name, side] : kSides) {
                if (bits != 4) compare(spec, side, "split/" + name + "/" + std::to_string(bits));
            }
        }
    }
    file.expect_all_used();
}

// Pages of records (layout records64), of the rows of the tiles.
TEST(Golden, RecordPages) {
    GoldenFile file("record_pages"), tiles("tiles");
    using enum RecordKind;
    struct Case {
        std::string name;
        RecordPage page;
        bool trellis;
        Sketch sketch;
    };
    for (const auto& [name, page, trellis, sketch] : {Case{"64/prod3/group2", {{Side::key, prod, 64, 3}, {Side::value, group, 64, 2}}, false, Sketch::gaussian},
                                                      {"80/prod2-orthogonal/codes8", {{Side::key, prod, 80, 2}, {Side::value, codes, 80, 8}}, false, Sketch::orthogonal},
                                                      {"80/codes3/group4", {{Side::key, codes, 80, 3}, {Side::value, group, 80, 4}}, false, Sketch::gaussian},
                                                      {"64/trellis4/trellis3", {{Side::key, codes, 64, 4}, {Side::value, codes, 64, 3}}, true, Sketch::gaussian},
                                                      {"80/trellis2/codes8", {{Side::key, codes, 80, 2}, {Side::value, codes, 80, 8}}, true, Sketch::gaussian}}) {
        const int d = page.keys.head_dim;
        testing::Tile tile(d, 0);
        tile.numbers = tiles.get<std::uint16_t>(std::to_string(d) + "/rows");
        tile.point();
        std::vector<std::uint8_t> blob(page.blob_bytes(), 0);
        for (const RecordSide& side : {page.keys, page.values}) {
            std::uint8_t* part = blob.data() + page.offset(side.side);
            Spec spec = testing::spec_of(d, side.bits);
            spec.trellis_codes = trellis;
            spec.sketch = sketch;
            spec.key_estimator = page.keys.kind == prod ? Estimator::prod : Estimator::mse;
            spec.value_scheme = page.values.kind == group ? ValueScheme::group : ValueScheme::rotated;
            std::vector<std::uint16_t> mean(d, 0);
            if (side.has_reference()) {
                reference::tile_reference(d, tile.rows, ~0ull, mean.data());
                std::memcpy(part + side.reference_offset(), mean.data(), 2 * mean.size());
            }
            for (int t = 0; t < RecordSide::kRecords; ++t) {
                std::uint8_t* record = part + t * side.record_bytes();
                std::vector<float> x(d);
                for (int j = 0; j < d; ++j) x[j] = half_to_float(tile.rows[t][j]) - half_to_float(mean[j]);
                if (side.kind != codes) {
                    make_scheme(spec, side.side)->encode(x.data(), record);
                    continue;
                }
                std::vector<std::uint8_t> code(d);
                std::uint16_t scale;
                reference::encode(make_coder(spec, side.side), x.data(), code.data(), &scale);
                for (int j = 0; j < d; ++j) row_set_code(record, side.bits, j, code[j]);
                std::memcpy(record + side.halves_offset(), &scale, 2);
            }
        }
        EXPECT_TRUE(same_bits(blob, file.get<std::uint8_t>(name))) << name;
    }
    file.expect_all_used();
}

}  // namespace
}  // namespace turboquant

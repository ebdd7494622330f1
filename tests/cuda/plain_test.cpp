// The plain path, warp by warp on the CPU: codes bit for bit, attention within 2e-3 of double precision, and what the host decides for it.
#include "cuda/plain/append.cuh"
#include "cuda/plain/attend.cuh"
#include "cuda/plain/tables.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "cuda/checks.hpp"
#include "fibers.hpp"
#include "record_pages.hpp"

namespace turboquant::test {
namespace {

constexpr int kHeadDims[] = {64, 80, 96, 112, 128, 192, 256};

template <class Work>
void with_head_dim(int head_dim, Work&& work) {
    switch (head_dim) {
        case 64: return work(std::integral_constant<int, 64>());
        case 80: return work(std::integral_constant<int, 80>());
        case 96: return work(std::integral_constant<int, 96>());
        case 112: return work(std::integral_constant<int, 112>());
        case 128: return work(std::integral_constant<int, 128>());
        case 192: return work(std::integral_constant<int, 192>());
        default: return work(std::integral_constant<int, 256>());
    }
}

// A launch on a machine of so many processors; items in an order that mixes units.
double attend_error(const RecordCase& c, int processors = 1) {
    RecordProblem problem(c);
    cuda::PagedCache cache = problem.cache();
    cuda::AttendArgs args = problem.args();
    std::vector<std::uint8_t> output(problem.query.size() * 4, 0xff), workspace(cuda::plain_workspace_bytes(c.page.head_dim, processors) + 256, 0xff);
    std::vector<float> log_sum(static_cast<std::size_t>(problem.tokens()) * args.query_heads, NAN);
    auto* aligned = workspace.data() + (256 - reinterpret_cast<std::uintptr_t>(workspace.data()) % 256) % 256;
    std::fill_n(aligned, cuda::zeroed_bytes(processors), std::uint8_t{0});
    args.output = output.data();
    args.log_sum = log_sum.data();
    args.workspace = aligned;
    args.workspace_bytes = cuda::plain_workspace_bytes(c.page.head_dim, processors);
    const cuda::PlainAttendParams p = cuda::plain_attend_params(cache, args, processors);
    with_head_dim(c.page.head_dim, [&](auto head_dim) {
        constexpr int kHeadDim = decltype(head_dim)::value;
        cuda::LevelTables levels;
        for (int i = 0; i < 256; ++i) cuda::fill_levels(p, i, levels);
        auto memory = std::make_unique<cuda::AttendWarpMemory<kHeadDim>>();
        for (std::int64_t n = 0; n < p.items; ++n) {
            const std::int64_t item = p.items - 1 - n;
            Warp::run([&] { cuda::attend_item<kHeadDim>(p, item, levels, *memory); });
        }
    });
    EXPECT_TRUE(std::all_of(aligned, aligned + cuda::zeroed_bytes(processors), [](std::uint8_t b) { return b == 0; })) << describe(c);
    const double error = problem.error(problem.widened(output), log_sum);
    EXPECT_LT(error, c.output_number == cuda::Number::bf16 ? 6e-3 : 2e-3) << describe(c);
    return error;
}

class PlainSpecs : public testing::TestWithParam<int> {};

TEST_P(PlainSpecs, Attend) {
    for (const cuda::PageSpec& page : record_specs(GetParam())) attend_error({.page = page, .lengths = {70, 1}});
}

// Random rows, with zeros of both signs, infinities and NaN among them, appended to one sequence in several calls. skipped: a row of each call
// that has no slot.
void check_codes(const cuda::PageSpec& page, const std::vector<int>& steps, int skipped) {
    const int d = page.head_dim, pages = 4;
    std::mt19937 engine(static_cast<unsigned>(d + page.key_bits));
    std::normal_distribution<float> normal;
    std::vector<std::uint8_t> pool(pages * cuda::blob_bytes(page));
    for (auto& b : pool) b = static_cast<std::uint8_t>(engine());
    RecordAppender wanted(page, 1, pool);
    std::vector<float> table(cuda::sketch_table_bytes(page) / sizeof(float));
    if (!table.empty()) {
        ASSERT_TRUE(cuda::fill_sketch_table(page, table.data()).ok());
    }
    cuda::PagedCache cache;
    cache.spec = page;
    cache.kv_heads = 1;
    cache.pages = pool.data();
    cache.page_stride = cache.head_stride = static_cast<std::int64_t>(cuda::blob_bytes(page));
    cache.sketch_table = table.empty() ? nullptr : table.data();
    const std::vector<std::int32_t> block_table = {2, 0, 1};
    int length = 0;
    for (int rows : steps) {
        std::vector<std::uint16_t> half[2];
        std::vector<std::int64_t> slots;
        std::vector<int> previous;
        for (int i = 0; i < rows; ++i) {
            const int position = length + i;
            slots.push_back(i == skipped ? -1 : block_table[position / 64] * 64ll + position % 64);
            previous.push_back(position >= 64 ? block_table[position / 64 - 1] : -1);
        }
        for (auto& side : half) {
            for (int i = 0; i < rows * d; ++i) side.push_back(float_to_half(normal(engine) * (i % 7 == 0 ? 5.0f : 1.0f) + static_cast<float>(i % d % 11)));
            if (rows < 6) continue;
            for (int j = 0; j < d; ++j) side[1 * d + j] = j % 3 ? 0 : 0x8000;                    // zeros
            for (int j = 0; j < d; ++j) side[2 * d + j] = static_cast<std::uint16_t>(j % 5 ? (j % 2) << 15 : 0x3c00);
            side[3 * d + 5] = 0x7c00;
            side[4 * d + d - 1] = 0xfe01;
            for (int j = 0; j < d; ++j) side[5 * d + j] = 0x7bff;                                // large
        }
        length += rows;
        const std::vector<std::int32_t> query_start = {0, rows}, lengths = {length};
        cuda::AppendArgs args;
        args.tokens = rows;
        args.keys = half[0].data();
        args.values = half[1].data();
        args.number = cuda::Number::fp16;
        args.key_token_stride = args.key_head_stride = args.value_token_stride = args.value_head_stride = d;
        args.slots = slots.data();
        args.batch = 1;
        args.query_start = query_start.data();
        args.lengths = lengths.data();
        args.block_table = block_table.data();
        args.table_stride = 3;
        const cuda::PlainAppendParams p = cuda::plain_append_params(cache, args);
        with_head_dim(d, [&](auto head_dim) {
            constexpr int kHeadDim = decltype(head_dim)::value;
            auto memory = std::make_unique<cuda::EncodeWarpMemory<kHeadDim>>();
            for (std::int64_t item = 0; item < 2 * rows; ++item) Warp::run([&] { cuda::append_item<kHeadDim>(p, item, *memory); });
        });
        wanted.append(half[0], half[1], slots, previous);
        const auto at = std::mismatch(pool.begin(), pool.end(), wanted.pool().begin()).first - pool.begin();
        ASSERT_EQ(at, static_cast<std::ptrdiff_t>(pool.size())) << describe(RecordCase{.page = page}) << ": first wrong byte is " << at % cache.page_stride << " of page " << at / cache.page_stride
                                                                << ", values from " << layout_of(page).offset(Side::value) << " on, a record has " << layout_of(page).keys.record_bytes();
    }
}

TEST_P(PlainSpecs, CodesAreTheCpus) {
    const std::vector<cuda::PageSpec> specs = record_specs(GetParam());
    for (std::size_t n = 0; n < specs.size(); ++n) {
        if (GetParam() > 128 && n % 2 && specs[n].sketch == Sketch::gaussian) continue;  // half of them: fibers are slow
        check_codes(specs[n], {14}, 7);
    }
}

// Which rows a reference is the mean of, on codes that are quickly made.
TEST(PlainAppend, RunsAndPagesBefore) {
    cuda::PageSpec page = record_specs(64)[4];
    page.gain_search = false;
    check_codes(page, {66}, -1);       // the second page's first rows: the mean of the 64 before, of this very call
    check_codes(page, {66}, 30);       // which has a hole: their own mean
    check_codes(page, {66}, 63);
    check_codes(page, {60, 9}, -1);    // a page before that was begun earlier
    check_codes(page, {64, 17}, -1);   // a long run
    page.centred_keys = false;
    check_codes(page, {66}, -1);
}

INSTANTIATE_TEST_SUITE_P(HeadDims, PlainSpecs, testing::ValuesIn(kHeadDims), [](const auto& one) { return "d" + std::to_string(one.param); });

TEST(PlainAttend, PiecesRowsAndMasks) {
    const cuda::PageSpec paper = record_specs(64)[0], trellis = record_specs(64)[7];
    for (const cuda::PageSpec& page : {paper, trellis}) {
        attend_error({.page = page, .group = 1, .lengths = {500}}, 2);                                                           // a unit in eight pieces
        attend_error({.page = page, .group = 3, .num_queries = 3, .lengths = {65, 2, 0, 130}});                                   // queries before the first token
        attend_error({.page = page, .kv_heads = 2, .group = 2, .num_queries = 4, .lengths = {40, 70, 9}, .queries = {4, 0, 1}}, 4);
        attend_error({.page = page, .group = 1, .num_queries = 2, .lengths = {140, 66}, .window = 40, .sinks = true});
        attend_error({.page = page, .group = 2, .lengths = {90}, .softcap = 20, .sharpness = 3, .sinks = true});
        attend_error({.page = page, .lengths = {30}, .query_number = cuda::Number::fp16, .output_number = cuda::Number::bf16});
        attend_error({.page = page, .lengths = {30}, .output_number = cuda::Number::fp16});
    }
}

TEST(PlainLayout, RecordsAreTheSchemes) {
    for (int d : kHeadDims) {
        for (const cuda::PageSpec& page : record_specs(d)) {
            ASSERT_TRUE(cuda::validate(page).ok()) << cuda::validate(page).message();
            const RecordPage layout = cuda::record_page(page);
            EXPECT_EQ(cuda::blob_bytes(page), layout.blob_bytes());
            EXPECT_EQ(layout.blob_bytes() % 128, 0u);
            EXPECT_EQ(layout.offset(Side::value) % 32, 0);
            for (Side side : {Side::key, Side::value}) {
                const RecordCoder coder(page, side);
                EXPECT_EQ(layout.of(side).halves_offset() % 2, 0);
                if (coder.scheme_bytes()) {
                    EXPECT_EQ(coder.scheme_bytes(), static_cast<std::size_t>(layout.of(side).record_bytes()));
                    EXPECT_EQ(sealed_tile_bytes(core_spec(page), side), static_cast<std::size_t>(layout.of(side).part_bytes()));
                }
            }
        }
    }
}

TEST(PlainPolicy, PiecesFitTheWorkspace) {
    for (int processors : {1, 84, 132}) {
        for (int batch : {1, 3, 64, 1024}) {
            for (int heads : {1, 8}) {
                const std::int64_t units = cuda::plain_units(batch, heads, 8, 2);
                const int splits = cuda::plain_splits(units, processors);
                EXPECT_GE(splits, 1);
                if (splits > 1) {
                    EXPECT_LE(units * splits, processors * cuda::kPlainBusyWarps);
                }
            }
        }
        EXPECT_LE(static_cast<std::size_t>(processors) * cuda::kPlainBusyWarps * sizeof(unsigned), cuda::counter_bytes(processors));
    }
    EXPECT_EQ(cuda::plain_splits(cuda::plain_units(1, 8, 4, 1), 132), 264);
}

TEST(Trellis, PlaceIsTheInverseOfDim) {
    for (int d : kHeadDims) {
        for (Side side : {Side::key, Side::value}) {
            for (int n = 0; n < d; ++n) EXPECT_EQ(trellis_place(side, d, trellis_dim(side, d, n)), n);
        }
    }
}

}  // namespace
}  // namespace turboquant::test

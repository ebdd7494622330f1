// Attention on the device against double precision: at most 2e-3 relative error per (sequence, head), whatever the shape.
#include <algorithm>
#include <random>

#include "problem.hpp"

namespace turboquant::test {
namespace {

constexpr double kLimit = 2e-3;

// Skips widths that this build has no kernels for.
bool built(const cuda::PageSpec& page) { return workspace_of(page, 1, 1, 1).ok(); }

double check(const ProblemSpec& spec, double limit = kLimit) {
    if (!built(spec.page)) return 0;
    Problem problem(spec);
    const double error = problem.error(problem.run());
    EXPECT_LT(error, limit) << describe(spec);
    EXPECT_TRUE(problem.zeroed_is_zero()) << describe(spec);
    return error;
}

cuda::PageSpec page(int head_dim, int key_bits, int value_bits) {
    cuda::PageSpec spec;
    spec.head_dim = head_dim;
    spec.key_bits = key_bits;
    spec.value_bits = value_bits;
    return spec;
}

const std::vector<int> kRagged = {1, 63, 64, 65, 0, 200, 1000, 2, 4096, 128, 777};

TEST(Attend, EveryFamily) {
    int families = 0;
    double worst = 0;
    for (int d : {64, 80, 96, 112, 128, 192, 256}) {
        for (int kb : {2, 3, 4, 8}) {
            for (int vb : {2, 3, 4, 8}) {
                if (!built(page(d, kb, vb))) continue;
                ++families;
                for (int group : {4, 8, 16}) worst = std::max(worst, check({.page = page(d, kb, vb), .group = group, .lengths = {1, 63, 130, 0, 1500}}));
            }
        }
    }
    EXPECT_GT(families, 0);
    std::printf("%d families, largest error %.2e\n", families, worst);
}

TEST(Attend, EveryGroup) {
    for (int group = 1; group <= 16; ++group) check({.page = page(128, 4, 4), .group = group, .lengths = kRagged});
    for (int group : {20, 24, 71}) check({.page = page(128, 4, 4), .group = group, .num_queries = 2, .lengths = {1, 64, 130, 700}});  // several tiles of rows
    for (int group : {3, 6, 12}) check({.page = page(128, 3, 2), .group = group, .lengths = kRagged});
}

TEST(Attend, UniformShapes) {
    for (int group : {4, 8}) {
        check({.page = page(128, 4, 4), .kv_heads = 8, .group = group, .lengths = {1024}});
        check({.page = page(128, 4, 4), .kv_heads = 8, .group = group, .lengths = std::vector<int>(8, 1024)});
        check({.page = page(128, 3, 2), .kv_heads = 8, .group = group, .lengths = std::vector<int>(40, 320)});
        check({.page = page(128, 4, 4), .kv_heads = 8, .group = group, .lengths = std::vector<int>(200, 64)});   // whole units per warp
        check({.page = page(128, 4, 4), .kv_heads = 1, .group = group, .lengths = {16384}});                     // 132 CTAs share a unit
    }
}

TEST(Attend, FewPages) {  // two warps to a page, and CTAs that hand their pieces over directly, or too many for that
    for (int group : {4, 8}) {
        for (int pages = 1; pages <= 24; ++pages) {
            for (int heads : {1, 8}) check({.page = page(128, 4, 4), .kv_heads = heads, .group = group, .lengths = {64 * pages - 13}});
            check({.page = page(128, 3, 2), .group = group, .num_queries = 2, .lengths = {64 * pages - 31}, .window = 100, .sharpness = 3, .sinks = true});
            check({.page = page(64, 4, 4), .group = group, .lengths = {64 * pages - 40}, .softcap = 30, .sharpness = 3});
            check({.page = page(256, 4, 4), .group = group, .lengths = {64 * pages, 64 * pages - 63}});
        }
        for (int length = 1; length <= 64; ++length) check({.page = page(128, 4, 4), .kv_heads = 1, .group = group, .lengths = {length}});
    }
}

TEST(Attend, ManySequences) {
    std::mt19937 engine(3);
    std::vector<int> lengths;
    for (int i = 0; i < 1024; ++i) lengths.push_back(static_cast<int>(engine() % 150));
    check({.page = page(128, 4, 4), .kv_heads = 1, .lengths = lengths});
    lengths.resize(300);
    for (int i = 0; i < 10; ++i) lengths[i * 29] = 3000;
    check({.page = page(128, 4, 4), .lengths = lengths});
}

TEST(Attend, Verify) {
    for (int queries : {2, 3, 4, 8, 16}) {
        for (int group : {1, 4, 7, 8}) {
            check({.page = page(128, 4, 4), .group = group, .num_queries = queries, .lengths = {16, 64, 65, 70, 500, 1100}});
        }
    }
    check({.page = page(64, 4, 4), .group = 3, .num_queries = 5, .lengths = {64, 66, 129, 1000}});
    check({.page = page(128, 3, 2), .group = 4, .num_queries = 6, .lengths = {64, 66, 129, 1000}});
}

TEST(Attend, QueriesOfDifferentNumber) {
    check({.page = page(128, 4, 4), .group = 4, .num_queries = 8, .lengths = {300, 64, 0, 70, 1000, 12}, .queries = {8, 1, 0, 3, 5, 8}});
    check({.page = page(128, 4, 4), .group = 8, .num_queries = 3, .lengths = {300, 64, 1, 70, 1000, 12}, .queries = {3, 0, 1, 2, 1, 3}});
}

TEST(Attend, ManyRows) {  // wide_kernel.cuh, where the device has it
    for (int group : {9, 16, 17, 32, 48}) {
        for (int window : {0, 1, 64, 100, 700}) check({.page = page(128, 4, 4), .group = group, .num_queries = 2, .lengths = kRagged, .window = window, .sharpness = 3, .sinks = true});
        check({.page = page(128, 3, 2), .group = group, .lengths = kRagged, .softcap = 30, .sharpness = 3});
        check({.page = page(128, 4, 4), .kv_heads = 1, .group = group, .lengths = {16384}});                   // 132 CTAs share a unit
        check({.page = page(128, 4, 4), .kv_heads = 8, .group = group, .lengths = std::vector<int>(200, 64)});  // many units per team
        check({.page = page(112, 4, 4), .group = group, .lengths = kRagged, .softcap = 30});
        check({.page = page(256, 4, 4), .group = group, .lengths = kRagged, .window = 100});
    }
}

TEST(Attend, SlidingWindow) {
    for (int window : {1, 63, 64, 100, 512}) {
        check({.page = page(128, 4, 4), .lengths = kRagged, .window = window});
        check({.page = page(128, 4, 4), .num_queries = 4, .lengths = {5, 64, 67, 300, 1000}, .window = window});
    }
    check({.page = page(64, 4, 4), .group = 8, .lengths = kRagged, .window = 128});
}

TEST(Attend, SinksAndSoftCap) {
    check({.page = page(64, 4, 4), .group = 8, .lengths = kRagged, .window = 128, .sinks = true});
    check({.page = page(128, 4, 4), .lengths = kRagged, .sinks = true});
    check({.page = page(256, 4, 4), .group = 2, .lengths = kRagged, .softcap = 50, .sharpness = 3});
    check({.page = page(128, 3, 2), .group = 8, .num_queries = 2, .lengths = {66, 700, 2}, .window = 90, .softcap = 20, .sharpness = 3, .sinks = true});
}

TEST(Attend, NumberFormats) {
    using cuda::Number;
    for (Number query : {Number::bf16, Number::fp16}) {
        for (Number output : {Number::bf16, Number::fp16, Number::fp32}) {
            check({.page = page(128, 4, 4), .lengths = kRagged, .query_number = query, .output_number = output}, output == Number::bf16 ? 6e-3 : kLimit);
        }
    }
}

TEST(Attend, LargeQueries) {
    check({.page = page(128, 4, 4), .lengths = kRagged, .sharpness = 5});
    check({.page = page(128, 4, 4), .lengths = kRagged, .sharpness = 1e-6f});
    check({.page = page(128, 4, 4), .lengths = kRagged, .sharpness = 0});
}

TEST(Attend, SameBitsEveryTimeAndHoweverStarted) {
    for (int group : {4, 8, 16, 32}) {
        for (const std::vector<int>& lengths : {kRagged, std::vector<int>(8, 1024), std::vector<int>{1000}}) {
            std::vector<float> first;
            for (cuda::Start start : {cuda::Start::after, cuda::Start::after, cuda::Start::overlapped, cuda::Start::overlapped_tables}) {
                Problem problem({.page = page(128, 4, 4), .kv_heads = 8, .group = group, .lengths = lengths, .start = start});
                for (int i = 0; i < 5; ++i) {
                    const std::vector<float> out = problem.run();
                    if (first.empty()) first = out;
                    ASSERT_EQ(std::memcmp(out.data(), first.data(), 4 * out.size()), 0);
                }
            }
        }
    }
}

TEST(Attend, RefusesWhatIsNotBuilt) {
    EXPECT_NE(cuda::attend_workspace(page(128, 5, 4), 8, 32, 1).status().message().find("key_bits is 5"), std::string::npos);
    Problem problem({.page = page(128, 4, 4), .lengths = {64}});
    problem.args.workspace_bytes = 1000;
    EXPECT_NE(problem.enqueue(nullptr).message().find("workspace_bytes is 1000"), std::string::npos);
}

}  // namespace
}  // namespace turboquant::test

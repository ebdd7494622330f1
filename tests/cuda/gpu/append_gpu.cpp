// append() on the device: tests/cuda/append_cases.hpp says against what.
#include "problem.hpp"

namespace turboquant::test {

static void run_append(const cuda::PagedCache& cache, const cuda::AppendArgs& args) {
    expect_ok(cuda::append(cache, args, nullptr));
    TQ_CUDA_OK(cudaDeviceSynchronize());
}

}  // namespace turboquant::test

#include "cuda/append_cases.hpp"

namespace turboquant::test {
namespace {

TEST(Append, EveryWidthAndHeadSize) {
    for (int d : {64, 80, 96, 112, 128, 192, 256}) {
        for (int kb : {2, 3, 4, 8}) check({.page = page(d, kb, kb == 8 ? 4 : kb == 4 ? 2 : kb == 3 ? 8 : 3), .steps = {{130, 5, 20}, {1, 60, 45}, {3, 1, 1}}});
    }
}

TEST(Append, StepsOfAllSizes) {
    check({.page = page(128, 4, 4), .steps = kSteps});
    check({.page = page(128, 3, 2), .steps = kSteps, .seed = 2});
    check({.page = page(64, 4, 4), .kv_heads = 3, .steps = kSteps, .seed = 3});
}

TEST(Append, NumberFormats) {
    for (cuda::Number number : {cuda::Number::bf16, cuda::Number::fp16, cuda::Number::fp32}) {
        check({.page = page(128, 4, 4), .number = number, .steps = kSteps});
        check({.page = page(128, 4, 3), .number = number, .steps = kSteps, .odd_numbers = true});
    }
}

TEST(Append, WithoutSequencesCentresOrGains) {
    check({.page = page(128, 4, 4), .with_sequences = false, .steps = kSteps});
    cuda::PageSpec plain = page(128, 4, 4);
    plain.centred_keys = plain.gain_search = false;
    check({.page = plain, .steps = kSteps});
}

TEST(Append, SkippedSlots) { check({.page = page(128, 4, 4), .steps = {{100, 64, 7}, {100, 1, 60}}, .skip_every = 9}); }

TEST(Append, TurnsKeysAsTheUnfusedPathDoes) {
    using cuda::Number;
    using cuda::RopeStyle;
    for (RopeStyle style : {RopeStyle::half_split, RopeStyle::interleaved}) {
        for (Number number : {Number::bf16, Number::fp16, Number::fp32}) {
            check({.page = page(128, 4, 4), .number = number, .steps = kSteps, .rope = style, .rotary_dim = 128});
        }
        check({.page = page(128, 4, 4), .with_sequences = false, .steps = kSteps, .skip_every = 9, .rope = style, .rotary_dim = 64, .position_bytes = 8});
        check({.page = page(128, 4, 4), .steps = kSteps, .odd_numbers = true, .rope = style, .rotary_dim = 128, .max_position = 1000});
        for (int d : {64, 80, 96, 112, 192, 256}) check({.page = page(d, 3, 4), .steps = {{130, 5, 20}, {1, 60, 45}, {3, 1, 1}}, .rope = style, .rotary_dim = d == 80 ? 32 : d - 2});
    }
}

TEST(Append, ManySequencesOneTokenEach) {
    std::vector<int> first(200), one(200, 1);
    for (int i = 0; i < 200; ++i) first[i] = 1 + i * 37 % 130;
    check({.page = page(128, 4, 4), .steps = {first, one, one}});
}

TEST(Append, LargeChunk) { check({.page = page(128, 4, 4), .kv_heads = 8, .steps = {{1000, 500}, {600, 3}}}); }

}  // namespace
}  // namespace turboquant::test

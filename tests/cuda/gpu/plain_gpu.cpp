// Pages of records on the device: attend() within 2e-3 of double precision, append() bit for bit, copies, graphs, the C interface.
#include <algorithm>

#include "../record_pages.hpp"
#include "device.hpp"
#include "turboquant/turboquant.h"

namespace turboquant::test {
namespace {

// A problem whose pointers are the device's.
struct OnDevice {
    RecordProblem host;
    cuda::PagedCache cache;
    cuda::AttendArgs args;
    DeviceBuffer<std::uint8_t> pool, output, workspace;
    DeviceBuffer<std::int32_t> table, lengths, query_start;
    DeviceBuffer<std::uint16_t> query;
    DeviceBuffer<float> sinks, sketch_table, log_sum;
    std::size_t zeroed = 0;

    explicit OnDevice(const RecordCase& c, cuda::Start start = cuda::Start::after)
        : host(c), cache(host.cache()), args(host.args()), pool(host.pool), output(host.query.size() * 4), table(host.table), lengths(host.lengths), query_start(host.query_start),
          query(host.query), log_sum(static_cast<std::size_t>(host.tokens()) * args.query_heads) {
        if (!host.sinks.empty()) sinks = DeviceBuffer<float>(host.sinks);
        if (!host.sketch_table.empty()) sketch_table = DeviceBuffer<float>(host.sketch_table);
        cache.pages = pool.get();
        cache.sketch_table = sketch_table.get();
        args.query = query.get();
        args.output = output.get();
        args.log_sum = log_sum.get();
        args.lengths = lengths.get();
        args.block_table = table.get();
        if (args.query_start) args.query_start = query_start.get();
        args.sinks = sinks.get();
        args.start = start;
        const auto needed = cuda::attend_workspace(c.page, c.kv_heads, args.query_heads, c.num_queries);
        if (!needed.ok()) {
            ADD_FAILURE() << needed.status().message();
            return;
        }
        zeroed = needed.value().zeroed;
        workspace = DeviceBuffer<std::uint8_t>(needed.value().bytes);
        workspace.fill(0xff);
        TQ_CUDA_OK(cudaMemset(workspace.get(), 0, zeroed));
        args.workspace = workspace.get();
        args.workspace_bytes = needed.value().bytes;
    }

    std::vector<float> run() {
        output.fill(0xff);
        log_sum.fill(0xff);
        expect_ok(cuda::attend(cache, args, nullptr));
        TQ_CUDA_OK(cudaDeviceSynchronize());
        return host.widened(output.host());
    }
    double error(const std::vector<float>& out) { return host.error(out, log_sum.host()); }
    bool zeroed_is_zero() const {
        const std::vector<std::uint8_t> bytes = workspace.host();
        return std::all_of(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(zeroed), [](std::uint8_t b) { return b == 0; });
    }
};

double check(const RecordCase& c) {
    OnDevice problem(c);
    const double error = problem.error(problem.run());
    EXPECT_LT(error, c.output_number == cuda::Number::bf16 ? 6e-3 : 2e-3) << describe(c);
    EXPECT_TRUE(problem.zeroed_is_zero()) << describe(c);
    return error;
}

constexpr int kHeadDims[] = {64, 80, 96, 112, 128, 192, 256};

TEST(Plain, EverySpecAndHeadSize) {
    double worst = 0;
    for (int d : kHeadDims) {
        for (const cuda::PageSpec& page : record_specs(d)) worst = std::max(worst, check({.page = page, .kv_heads = 2, .group = 3, .lengths = {1, 63, 130, 0, 300}}));
    }
    std::printf("largest error %.2e\n", worst);
}

TEST(Plain, RowsMasksAndNumbers) {
    using cuda::Number;
    for (const cuda::PageSpec& page : {record_specs(128)[0], record_specs(128)[4], record_specs(128)[7]}) {
        for (int group : {1, 4, 7, 16}) {
            for (int queries : {1, 2, 5, 16}) check({.page = page, .group = group, .num_queries = queries, .lengths = {16, 64, 65, 200}});
        }
        check({.page = page, .kv_heads = 2, .group = 4, .num_queries = 8, .lengths = {300, 64, 0, 70, 500, 12}, .queries = {8, 1, 0, 3, 5, 8}});
        check({.page = page, .group = 2, .num_queries = 3, .lengths = {2, 1, 3, 100}});  // queries before the first token
        for (int window : {1, 63, 64, 100}) check({.page = page, .group = 4, .num_queries = 4, .lengths = {5, 64, 67, 300}, .window = window, .sinks = window > 63});
        check({.page = page, .group = 4, .lengths = {1, 200, 700}, .softcap = 50, .sharpness = 3, .sinks = true});
        for (Number query : {Number::bf16, Number::fp16}) {
            for (Number output : {Number::bf16, Number::fp16, Number::fp32}) check({.page = page, .lengths = {200}, .query_number = query, .output_number = output});
        }
        check({.page = page, .kv_heads = 1, .group = 1, .lengths = {4096}});             // one unit in many pieces
        check({.page = page, .kv_heads = 4, .group = 4, .lengths = std::vector<int>(700, 70)});  // more units than warps at a time
    }
}

TEST(Plain, SameBitsEveryTimeAndInGraphs) {
    OnDevice problem({.page = record_specs(128)[0], .kv_heads = 2, .group = 4, .lengths = {900, 70, 0, 64}});
    const std::vector<float> first = problem.run();
    EXPECT_LT(problem.error(first), 2e-3);
    for (cuda::Start start : {cuda::Start::after, cuda::Start::overlapped, cuda::Start::overlapped_tables}) {
        problem.args.start = start;
        const std::vector<float> again = problem.run();
        EXPECT_EQ(std::memcmp(again.data(), first.data(), 4 * first.size()), 0);
    }
    problem.args.start = cuda::Start::after;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    TQ_CUDA_OK(cudaStreamCreate(&stream));
    TQ_CUDA_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    expect_ok(cuda::attend(problem.cache, problem.args, stream));
    TQ_CUDA_OK(cudaStreamEndCapture(stream, &graph));
    TQ_CUDA_OK(cudaGraphInstantiate(&executable, graph, 0));
    for (const std::vector<std::int32_t>& lengths : {std::vector<std::int32_t>{900, 70, 0, 64}, {1, 0, 0, 3}, {899, 65, 0, 1}}) {
        problem.lengths.set(lengths);
        problem.host.spec.lengths.assign(lengths.begin(), lengths.end());
        TQ_CUDA_OK(cudaGraphLaunch(executable, stream));
        TQ_CUDA_OK(cudaStreamSynchronize(stream));
        EXPECT_LT(problem.error(problem.host.widened(problem.output.host())), 2e-3);
        EXPECT_TRUE(problem.zeroed_is_zero());
    }
    TQ_CUDA_OK(cudaGraphExecDestroy(executable));
    TQ_CUDA_OK(cudaGraphDestroy(graph));
    TQ_CUDA_OK(cudaStreamDestroy(stream));
}

// Calls of several sequences, each call with new tokens of each.
void check_append(const cuda::PageSpec& page, int kv_heads, cuda::Number number, const std::vector<std::vector<int>>& steps, int skip_every = 0) {
    const int d = page.head_dim, sequences = static_cast<int>(steps[0].size());
    std::mt19937 engine(static_cast<unsigned>(d + kv_heads));
    std::normal_distribution<float> normal;
    std::vector<int> total(sequences, 0), lengths(sequences, 0);
    int pages = 2, stride = 1;
    for (const auto& step : steps) {
        for (int b = 0; b < sequences; ++b) total[b] += step[b];
    }
    for (int n : total) {
        pages += (n + 63) / 64;
        stride = std::max(stride, n / 64 + 1);
    }
    std::vector<int> order(pages);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), engine);
    std::vector<std::int32_t> table(static_cast<std::size_t>(sequences) * stride, -7);
    for (int b = 0, next = 0; b < sequences; ++b) {
        for (int i = 0; i < (total[b] + 63) / 64; ++i) table[static_cast<std::size_t>(b) * stride + i] = order[next++];
    }
    const std::size_t blob = cuda::blob_bytes(page);
    std::vector<std::uint8_t> start(static_cast<std::size_t>(pages) * kv_heads * blob);
    for (auto& byte : start) byte = static_cast<std::uint8_t>(engine());
    RecordAppender wanted(page, kv_heads, start);
    DeviceBuffer<std::uint8_t> pool(start);
    DeviceBuffer<std::int32_t> table_device(table);
    std::vector<float> sketch(cuda::sketch_table_bytes(page) / sizeof(float));
    DeviceBuffer<float> sketch_device;
    if (!sketch.empty()) {
        expect_ok(cuda::fill_sketch_table(page, sketch.data()));
        sketch_device = DeviceBuffer<float>(sketch);
    }
    cuda::PagedCache cache;
    cache.spec = page;
    cache.kv_heads = kv_heads;
    cache.pages = pool.get();
    cache.head_stride = static_cast<std::int64_t>(blob);
    cache.page_stride = cache.head_stride * kv_heads;
    cache.sketch_table = sketch_device.get();
    for (const auto& step : steps) {
        std::vector<std::int64_t> slots;
        std::vector<int> previous;
        std::vector<std::int32_t> first{0};
        for (int b = 0; b < sequences; ++b) {
            for (int i = 0; i < step[b]; ++i) {
                const int position = lengths[b] + i, at = position / 64;
                const bool skip = skip_every && slots.size() % skip_every == static_cast<std::size_t>(skip_every) - 1;
                slots.push_back(skip ? -1 : table[static_cast<std::size_t>(b) * stride + at] * 64ll + position % 64);
                previous.push_back(at > 0 ? table[static_cast<std::size_t>(b) * stride + at - 1] : -1);
            }
            lengths[b] += step[b];
            first.push_back(static_cast<std::int32_t>(slots.size()));
        }
        const std::size_t num = slots.size() * kv_heads * d;
        std::vector<std::uint16_t> half[2];
        DeviceBuffer<std::uint8_t> rows[2];
        for (int side = 0; side < 2; ++side) {
            half[side].resize(num);
            std::vector<std::uint8_t> bytes(num * (number == cuda::Number::fp32 ? 4 : 2));
            for (std::size_t i = 0; i < num; ++i) {
                float x = normal(engine) * (i % 7 == 0 ? 5.0f : 1.0f) + (side == 0 ? static_cast<float>(i % d % 11) : 0.0f);
                if (engine() % 2000 == 0) x = std::vector<float>{INFINITY, -INFINITY, 0.0f, -0.0f, 1e30f, 1e-7f}[engine() % 6];
                if (number == cuda::Number::fp32) {
                    std::memcpy(&bytes[4 * i], &x, 4);
                } else {
                    const std::uint16_t bits = number_bits(number, x);
                    std::memcpy(&bytes[2 * i], &bits, 2);
                    x = number_value(number, bits);
                }
                half[side][i] = float_to_half(x);
            }
            rows[side] = DeviceBuffer<std::uint8_t>(bytes);
        }
        DeviceBuffer<std::int64_t> slots_device(slots);
        DeviceBuffer<std::int32_t> first_device(first), lengths_device(std::vector<std::int32_t>(lengths.begin(), lengths.end()));
        cuda::AppendArgs args;
        args.tokens = static_cast<int>(slots.size());
        args.keys = rows[0].get();
        args.values = rows[1].get();
        args.number = number;
        args.key_token_stride = args.value_token_stride = static_cast<std::int64_t>(kv_heads) * d;
        args.key_head_stride = args.value_head_stride = d;
        args.slots = slots_device.get();
        args.batch = sequences;
        args.query_start = first_device.get();
        args.lengths = lengths_device.get();
        args.block_table = table_device.get();
        args.table_stride = stride;
        expect_ok(cuda::append(cache, args, nullptr));
        TQ_CUDA_OK(cudaDeviceSynchronize());
        wanted.append(half[0], half[1], slots, previous);
        const std::vector<std::uint8_t> got = pool.host();
        const auto at = static_cast<std::size_t>(std::mismatch(got.begin(), got.end(), wanted.pool().begin()).first - got.begin());
        ASSERT_EQ(at, got.size()) << describe(RecordCase{.page = page}) << ": first wrong byte is " << at % blob << " of blob " << at / blob;
    }
}

TEST(PlainAppend, EverySpecAndHeadSize) {
    for (int d : kHeadDims) {
        for (const cuda::PageSpec& page : record_specs(d)) check_append(page, 2, cuda::Number::bf16, {{100, 5, 20}, {1, 60, 45}, {3, 1, 1}});
    }
}

TEST(PlainAppend, StepsNumbersAndSkippedSlots) {
    const std::vector<std::vector<int>> steps = {{130, 5, 64, 16, 15, 1}, {1, 1, 1, 1, 1, 1}, {70, 0, 3, 48, 60, 63}, {5, 58, 1, 1, 1, 1}, {1, 1, 200, 90, 2, 64}};
    for (cuda::PageSpec page : {record_specs(128)[0], record_specs(64)[4], record_specs(128)[7]}) {
        for (cuda::Number number : {cuda::Number::bf16, cuda::Number::fp16, cuda::Number::fp32}) check_append(page, 3, number, steps);
        check_append(page, 1, cuda::Number::fp16, {{100, 64, 7}, {100, 1, 60}}, 9);
        page.gain_search = false;
        check_append(page, 1, cuda::Number::bf16, {{70}});
    }
}

TEST(Plain, CopiesPages) {
    OnDevice problem({.page = record_specs(80)[0], .kv_heads = 2, .lengths = {200, 70}});
    DeviceBuffer<std::uint8_t> other(problem.host.pool.size());
    other.fill(0);
    cuda::PagedCache to = problem.cache;
    to.pages = other.get();
    cuda::PageList list;
    list.num = problem.host.num_pages;
    expect_ok(cuda::copy_pages(problem.cache, to, list, nullptr));
    TQ_CUDA_OK(cudaDeviceSynchronize());
    EXPECT_EQ(other.host(), problem.host.pool);
}

TEST(Plain, ThroughTheCInterface) {
    OnDevice problem({.page = record_specs(128)[0], .kv_heads = 2, .group = 4, .lengths = {100, 300, 0}});
    const std::vector<float> want = problem.run();
    char message[200];
    tq_page_spec spec{};
    spec.size = sizeof spec;
    spec.head_dim = 128;
    spec.key_bits = 3;
    spec.value_bits = 2;
    spec.gain_search = 1;
    spec.key_estimator = TQ_PROD;
    spec.sketch = TQ_GAUSSIAN;
    spec.value_scheme = TQ_GROUP;
    size_t bytes = 0, zeroed = 0;
    ASSERT_EQ(tq_blob_bytes(&spec, &bytes, message, sizeof message), TQ_OK) << message;
    EXPECT_EQ(bytes, 6400u);
    ASSERT_EQ(tq_sketch_table_bytes(&spec, &bytes, message, sizeof message), TQ_OK) << message;
    ASSERT_EQ(bytes, 128u * 128 * 4);
    std::vector<float> table(128 * 128);
    ASSERT_EQ(tq_fill_sketch_table(&spec, table.data(), message, sizeof message), TQ_OK) << message;
    EXPECT_EQ(table, problem.host.sketch_table);
    ASSERT_EQ(tq_attend_workspace(&spec, 2, 8, 1, &bytes, &zeroed, message, sizeof message), TQ_OK) << message;
    EXPECT_EQ(bytes, problem.args.workspace_bytes);
    tq_paged_cache cache{};
    cache.size = sizeof cache;
    cache.spec = &spec;
    cache.pages = problem.cache.pages;
    cache.page_stride = problem.cache.page_stride;
    cache.head_stride = problem.cache.head_stride;
    cache.kv_heads = 2;
    cache.sketch_table = problem.cache.sketch_table;
    tq_attend_args args{};
    args.size = sizeof args;
    args.batch = 3;
    args.query_heads = 8;
    args.num_queries = 1;
    args.query = problem.args.query;
    args.output = problem.args.output;
    args.output_number = TQ_FP32;
    args.query_token_stride = args.output_token_stride = 8 * 128;
    args.query_head_stride = args.output_head_stride = 128;
    args.lengths = problem.args.lengths;
    args.block_table = problem.args.block_table;
    args.table_stride = problem.args.table_stride;
    args.scale = problem.args.scale;
    args.workspace = problem.args.workspace;
    args.workspace_bytes = bytes;
    problem.output.fill(0xff);
    ASSERT_EQ(tq_attend(&cache, &args, nullptr, message, sizeof message), TQ_OK) << message;
    TQ_CUDA_OK(cudaDeviceSynchronize());
    const std::vector<float> got = problem.host.widened(problem.output.host());
    EXPECT_EQ(std::memcmp(got.data(), want.data(), 4 * want.size()), 0);
    cache.sketch_table = nullptr;
    EXPECT_EQ(tq_attend(&cache, &args, nullptr, message, sizeof message), TQ_INVALID_ARGUMENT);
    EXPECT_EQ(std::string(message), "sketch_table is null");
    EXPECT_EQ(tq_prefill(&cache, &args, nullptr, message, sizeof message), TQ_UNSUPPORTED);
}

}  // namespace
}  // namespace turboquant::test

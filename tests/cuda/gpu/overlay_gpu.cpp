// The exact overlay on the device: after every append the slots are those that the CPU's twin decides on, sealed pages have the codes of the
// definition bit for bit, and attention is that over exact rows of exact pages and decoded values of the others.
#include <numeric>

#include "overlay_engine.hpp"

namespace turboquant::test {
namespace {

bool built(const cuda::PageSpec& page) { return cuda::attend_workspace(page, 1, 1, 1).ok(); }

std::vector<std::vector<std::int32_t>> random_tables(int sequences, int each, unsigned seed) {
    std::vector<std::int32_t> order(static_cast<std::size_t>(sequences) * each);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    std::vector<std::vector<std::int32_t>> tables;
    for (int b = 0; b < sequences; ++b) tables.emplace_back(order.begin() + b * each, order.begin() + (b + 1) * each);
    return tables;
}

std::vector<Part> with_queries(std::vector<Part> parts, int queries) {
    for (Part& part : parts) part.count = std::min(queries, part.length);
    return parts;
}

// Chunks and single tokens of several sequences, attended to on the way.
void check_steps(const Setup& setup, int steps) {
    if (!built(setup.page)) return;
    Engine engine(setup);
    const auto tables = random_tables(5, setup.pages / 5, setup.seed);
    std::vector<Part> parts;
    const int first[] = {130, 5, 63, 700, 1};
    for (int b = 0; b < 5; ++b) parts.push_back({tables[b], first[b], first[b]});
    engine.append(parts);
    engine.attend(with_queries(parts, 1));
    for (int step = 0; step < steps; ++step) {
        for (int b = 0; b < 5; ++b) parts[b].length += parts[b].count = step % 40 == 20 && b == 2 ? 150 : step % 7 == 3 && b == 1 ? 0 : 1;
        engine.append(parts);
        if (step % 9 == 0) engine.attend(with_queries(parts, 1));
        if (testing::Test::HasFailure()) return;
    }
    engine.attend(with_queries(parts, 1), {.sinks = true});
    engine.attend(with_queries(parts, 4));
    engine.attend(with_queries(parts, 7), {.window = 100, .softcap = 8, .sinks = true});
    engine.attend(with_queries(parts, 3), {.window = 3});
}

TEST(Overlay, ExactPagesAmongCodedOnes) { check_steps({.slots = 15}, 140); }
TEST(Overlay, FewSlots) {
    check_steps({.slots = 4, .seed = 2}, 140);
    check_steps({.slots = 1, .seed = 3}, 70);
}
TEST(Overlay, ManySlots) { check_steps({.slots = 1500, .seed = 4}, 70); }
TEST(Overlay, OverlappedStarts) {
    check_steps({.slots = 15, .start = cuda::Start::overlapped, .seed = 5}, 70);
    check_steps({.slots = 15, .start = cuda::Start::overlapped_tables, .seed = 6}, 70);
}
TEST(Overlay, OtherShapes) {
    cuda::PageSpec page;
    for (int d : {64, 80, 96, 112, 192, 256}) {
        page.head_dim = d;
        check_steps({.page = page, .group = d == 64 ? 16 : 1, .slots = 15, .seed = 7}, 70);
    }
    page = {};
    page.key_bits = 3;
    page.value_bits = 2;
    check_steps({.page = page, .group = 8, .slots = 15, .seed = 8}, 70);
}

TEST(Overlay, ShortSequencesAreExactAltogether) {
    Engine engine({.slots = 12});
    const auto tables = random_tables(4, 16, 9);
    std::vector<Part> parts{{tables[0], 192, 192}, {tables[1], 65, 65}, {tables[2], 1, 1}, {tables[3], 64, 64}};
    engine.append(parts);
    engine.attend(with_queries(parts, 1), {.limit = 1e-5});
    engine.attend(with_queries(parts, 16), {.softcap = 5, .sinks = true, .limit = 1e-5});
    parts[2].length = 0;
    parts = with_queries(parts, 2);
    parts[2].count = 2;  // queries of an empty sequence
    engine.attend(parts, {.limit = 1e-5});
    engine.attend(parts, {.sinks = true, .limit = 1e-5});
}

TEST(Overlay, ReusedPagesAndSharedPrefixes) {
    Engine engine({.slots = 9});
    const auto tables = random_tables(4, 16, 10);
    engine.append({{tables[0], 400, 400}, {tables[1], 100, 100}});
    std::vector<std::int32_t> shared(tables[0].begin(), tables[0].begin() + 6), mixed = tables[1];
    shared.insert(shared.end(), tables[2].begin(), tables[2].end());
    std::reverse(mixed.begin(), mixed.begin() + 2);
    std::vector<Part> parts{{shared, 500, 116}, {mixed, 170, 170}};  // the first continues a prefix of 384 tokens, the second takes a freed sequence's pages
    engine.append(parts);
    engine.attend(with_queries(parts, 1));
    for (int i = 0; i < 80; ++i) {
        for (Part& part : parts) part.length += part.count = 1;
        for (Part& part : parts) {
            if (i % 20 == 10) part.length -= 4, part.count = 3;  // rewound: rejected proposals
        }
        engine.append(parts);
    }
    engine.attend(with_queries(parts, 2));
    // Copies and foreign writes lose the slot and nothing else.
    const int last = parts[0].table[(parts[0].length - 1) / kPageTokens], unused = tables[3][15];
    EXPECT_TRUE(engine.exact(last));
    engine.copy(last, unused);
    EXPECT_TRUE(engine.exact(last));
    engine.forget({last});
    EXPECT_FALSE(engine.exact(last));
    engine.attend(with_queries(parts, 1));
    for (Part& part : parts) part.length += part.count = 1;
    engine.append(parts);
    engine.attend(with_queries(parts, 1));
}

TEST(Overlay, GraphsFollow) {
    Engine engine({.slots = 9});
    const auto tables = random_tables(3, 20, 11);
    std::vector<Part> parts{{tables[0], 250, 250}, {tables[1], 62, 62}, {tables[2], 500, 500}};
    engine.append(parts);
    for (Part& part : parts) part.length += part.count = 1;
    cudaStream_t stream;
    TQ_CUDA_OK(cudaStreamCreate(&stream));
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    TQ_CUDA_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    expect_ok(engine.enqueue_append(stream, 3, 3));
    expect_ok(engine.enqueue_attend(stream, {}, 3, 1));
    TQ_CUDA_OK(cudaStreamEndCapture(stream, &graph));
    TQ_CUDA_OK(cudaGraphInstantiate(&executable, graph, 0));
    for (int step = 0; step < 70; ++step) {
        engine.prepare(parts);
        engine.prepare_queries(with_queries(parts, 1));
        TQ_CUDA_OK(cudaGraphLaunch(executable, stream));
        TQ_CUDA_OK(cudaStreamSynchronize(stream));
        engine.follow(parts);
        engine.check_output(with_queries(parts, 1), {});
        if (testing::Test::HasFailure()) break;
        for (Part& part : parts) part.length += part.count = 1;
    }
    TQ_CUDA_OK(cudaGraphExecDestroy(executable));
    TQ_CUDA_OK(cudaGraphDestroy(graph));
    TQ_CUDA_OK(cudaStreamDestroy(stream));
}

TEST(Overlay, Prefill) {
    for (int d : {128, 64, 256}) {
        cuda::PageSpec page;
        page.head_dim = d;
        if (!prefill_workspace_of(page).ok()) continue;
        for (int slots : {15, 4}) {
            Engine engine({.page = page, .group = 2, .slots = slots});
            const auto tables = random_tables(5, 16, 12);
            std::vector<Part> parts{{tables[0], 300, 300}, {tables[1], 64, 64}, {tables[2], 1, 1}, {tables[3], 130, 130}, {tables[4], 0, 0}};
            engine.append(parts);
            engine.attend(parts, {.prefill = true});
            const int more[] = {260, 190, 500, 40, 128};
            for (int b = 0; b < 5; ++b) parts[b].length += parts[b].count = more[b];
            engine.append(parts);
            engine.attend(parts, {.prefill = true});
            engine.attend(parts, {.window = 90, .sinks = true, .prefill = true});
            engine.attend(parts, {.softcap = 6, .prefill = true});
            engine.attend(with_queries(parts, 20), {.prefill = true});
        }
    }
}

}  // namespace
}  // namespace turboquant::test

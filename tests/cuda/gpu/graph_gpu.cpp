// A captured graph follows lengths and tables that change in device memory between replays.
#include "problem.hpp"

namespace turboquant::test {
namespace {

TEST(Graph, FollowsLengthsAndTables) {
    Problem problem({.page = {}, .kv_heads = 4, .group = 4, .lengths = {900, 1024, 70, 3000, 64}});
    cudaStream_t stream;
    TQ_CUDA_OK(cudaStreamCreate(&stream));
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    TQ_CUDA_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    expect_ok(problem.enqueue(stream));
    expect_ok(problem.enqueue(stream));
    TQ_CUDA_OK(cudaStreamEndCapture(stream, &graph));
    TQ_CUDA_OK(cudaGraphInstantiate(&executable, graph, 0));
    unsigned seed = 10;
    for (const std::vector<int>& lengths : {std::vector<int>{900, 1024, 70, 3000, 64}, {901, 1000, 0, 2999, 1}, {1, 1, 1, 1, 1}, {0, 0, 0, 0, 0}, {64, 64, 64, 64, 64}, {850, 1024, 69, 1, 63}}) {
        problem.change(lengths, seed++);
        TQ_CUDA_OK(cudaGraphLaunch(executable, stream));
        TQ_CUDA_OK(cudaStreamSynchronize(stream));
        const std::vector<float> replayed = problem.output();
        EXPECT_LT(problem.error(replayed), 2e-3) << describe(problem.spec);
        const std::vector<float> direct = problem.run();
        EXPECT_EQ(std::memcmp(replayed.data(), direct.data(), 4 * direct.size()), 0);
        EXPECT_TRUE(problem.zeroed_is_zero());
    }
    TQ_CUDA_OK(cudaGraphExecDestroy(executable));
    TQ_CUDA_OK(cudaGraphDestroy(graph));
    TQ_CUDA_OK(cudaStreamDestroy(stream));
}

}  // namespace
}  // namespace turboquant::test

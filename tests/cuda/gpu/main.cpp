// Skips (exit code 77) where there is no GPU, unless TQ_REQUIRE_GPU says that there must be one.
//   --target=80|86|120   attention and prefill with the kernels for these devices, which the build must have (TQ_CUDA_FORCED_TARGETS)
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "problem.hpp"

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    for (int i = 1; i < argc; ++i) {
        int number = 0;
        if (std::sscanf(argv[i], "--target=%d", &number) != 1) continue;
        for (turboquant::cuda::Target target : turboquant::cuda::kTargets) {
            if (static_cast<int>(target) == number) turboquant::test::forced_target = target;
        }
        if (!turboquant::test::forced_target) {
            std::fprintf(stderr, "%s: supported are 80, 86, 90, 120\n", argv[i]);
            return 2;
        }
    }
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        const char* required = std::getenv("TQ_REQUIRE_GPU");
        const bool must = required && std::strcmp(required, "1") == 0;
        std::fprintf(stderr, "%s: no CUDA device\n", must ? "failed" : "skipped");
        return must ? 1 : 77;
    }
    return RUN_ALL_TESTS();
}

// Skips (exit code 77) where there is no GPU, unless TQ_REQUIRE_GPU says that there must be one.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        const char* required = std::getenv("TQ_REQUIRE_GPU");
        const bool must = required && std::strcmp(required, "1") == 0;
        std::fprintf(stderr, "%s: no CUDA device\n", must ? "failed" : "skipped");
        return must ? 1 : 77;
    }
    return RUN_ALL_TESTS();
}

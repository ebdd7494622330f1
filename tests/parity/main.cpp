// Runs the parity tests on the kernels that TQ_FORCE_ISA names. A name that this build or processor cannot serve is no
// failure and no success: exit code 77, which ctest reports as skipped.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "turboquant/cpu.hpp"

int main(int argc, char** argv) {
    ::testing::InitGoogleTest(&argc, argv);
    const char* forced = std::getenv("TQ_FORCE_ISA");
    const std::string chosen = turboquant::isa_name();
    if (forced && chosen != forced) {
        std::printf("TQ_FORCE_ISA=%s cannot be served here: nothing was tested\n", forced);
        return 77;
    }
    std::printf("kernels under test: %s\n", chosen.c_str());
    return RUN_ALL_TESTS();
}

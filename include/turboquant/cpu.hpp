// Which instruction set the CPU kernels use, and why.
#pragma once

#include <string>
#include <vector>

namespace turboquant {

struct IsaCandidate {
    std::string name;    // "avx512vnni", "avx2", "scalar"
    bool compiled = false;
    bool supported = false;  // by this processor
    bool chosen = false;
    std::string reason;  // why chosen, or why not
};

// The candidates, fastest first, exactly one of them chosen. TQ_FORCE_ISA is read at the first use of any kernel.
std::vector<IsaCandidate> explain_isa();

// The name of the chosen one.
std::string isa_name();

}  // namespace turboquant

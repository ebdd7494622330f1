// Which instruction set the CPU kernels use, and why.
#pragma once

#include <string>
#include <vector>

namespace turboquant {

struct IsaCandidate {
    std::string name;    // "avx512vbmi", "avx512vnni", "avxvnni", "avx2", "neon", "scalar"
    bool compiled = false;
    bool supported = false;  // by this processor
    bool chosen = false;
    std::string reason;  // why chosen, or why not
};

// The candidates, fastest first, exactly one of them chosen. TQ_FORCE_ISA is read at the first use of any kernel.
std::vector<IsaCandidate> explain_isa();

// What is wrong with TQ_FORCE_ISA: empty when it is not set or is served.
std::string forced_isa_problem();

// The name of the chosen one.
std::string isa_name();

}  // namespace turboquant

// Claims of the paper (arXiv 2504.19874) and of the original project (0xSero/turboquant), each with what a measurement of this
// run says about it.
#pragma once

#include <string>
#include <vector>

#include "validation/row.hpp"

namespace turboquant::validation {

enum class Verdict { holds, only_if, does_not_hold, not_tested };
const char* text_of(Verdict verdict);

struct Claim {
    std::string source;    // "paper" or "original"
    std::string id;        // a short name, unique
    std::string claim;     // what is said, and where
    std::string measured;  // what was found; rounded, so that it is the same on every machine
    Verdict verdict = Verdict::not_tested;
    std::string because;  // the condition, the reason, or what was not possible here
};
using Claims = std::vector<Claim>;

Claims paper_claims(const Options& options);
Claims original_claims(const Options& options);
// Both, with the sample sizes of the quick validation whatever options say: the page must not depend on them.
Claims all_claims(int threads);

// docs/audit.md.
std::string audit_page(const Claims& claims);

}  // namespace turboquant::validation

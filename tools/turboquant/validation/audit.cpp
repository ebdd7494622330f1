#include "validation/audit.hpp"

#include <fmt/format.h>

namespace turboquant::validation {

const char* text_of(Verdict verdict) {
    switch (verdict) {
        case Verdict::holds: return "holds";
        case Verdict::only_if: return "holds only if";
        case Verdict::does_not_hold: return "does not hold";
        case Verdict::not_tested: return "not tested here";
    }
    return "";
}

Claims all_claims(int threads) {
    const Options options{threads, true};
    Claims claims = paper_claims(options);
    for (Claim& claim : original_claims(options)) claims.push_back(std::move(claim));
    return claims;
}

std::string audit_page(const Claims& claims) {
    std::string page =
        "# What is claimed, and what is found\n\n"
        "Written by `turboquant audit --markdown`; a test fails when it is not what the program writes today. Each verdict is "
        "computed\n"
        "from what that run measures, on data that it makes, except where nothing could be measured. Figures are rounded to what "
        "is the\n"
        "same on every machine. `turboquant validate` has the same measurements with intervals, and more of them.\n";
    std::string source;
    for (const Claim& claim : claims) {
        if (claim.source != source) {
            source = claim.source;
            page += source == "paper" ? "\n## The paper: arXiv 2504.19874\n" : "\n## The original project: 0xSero/turboquant\n";
            page += "\n| claim | found | verdict | |\n|---|---|---|---|\n";
        }
        page += fmt::format("| {} | {} | **{}** | {} |\n", claim.claim, claim.measured, text_of(claim.verdict), claim.because);
    }
    return page;
}

}  // namespace turboquant::validation

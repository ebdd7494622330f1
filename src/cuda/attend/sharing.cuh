// Which CTAs have pieces of a unit, as the plan has it, and where each leaves its own. No order but that of the CTAs, which is that of the pages.
#pragma once

#include "cuda/attend/plan.cuh"

namespace turboquant::cuda {

// Who shares a unit with whom: CTAs first .. last in order.
struct Sharing {
    std::uint32_t start;           // of the unit
    std::uint32_t first, last;
    bool shared, begins_first;     // the unit is the first CTA's own first unit too

    // Which of its two pieces CTA c keeps it in.
    __device__ std::uint32_t part_of(std::uint32_t cta) const { return 2 * cta + (cta == first && !begins_first ? 1 : 0); }
};

// Of the CTA's unit that holds `item`. A warp: lanes look for several cuts at once.
template <int kRows>
__device__ Sharing sharing_of(const AttendParams& p, const Plan& plan, std::uint32_t item, std::uint32_t begin, std::uint32_t end) {
    Sharing s{};
    const Unit unit = unit_at<kRows>(plan, p, item);
    s.start = unit.start;
    s.shared = unit.start < begin || unit.end() > end;
    if (!s.shared) return s;
    const std::uint32_t owner = plan.owner((threadIdx.x & 31) == 0 ? unit.start : unit.end() - 1);
    s.first = __shfl_sync(~0u, owner, 0);
    s.last = __shfl_sync(~0u, owner, 1);
    s.begins_first = plan.cut(s.first) == unit.start;
    return s;
}

}  // namespace turboquant::cuda

// Putting a unit's pieces together: those of a CTA's warps, then those of CTAs that share the unit. The CTA that arrives last does it,
// in the order of the pages: the result does not depend on who that is.
#pragma once

#include "cuda/attend/rows.cuh"

namespace turboquant::cuda {

// A running sum of pieces {x, m, l}, m being the reference (log2) of x and l.
template <int kNum>
struct Piece {
    float x[kNum], m = device::kNothing, l = 0;

    __device__ __forceinline__ Piece() {
#pragma unroll
        for (int k = 0; k < kNum; ++k) x[k] = 0;
    }
    __device__ __forceinline__ void rescale(float top) {
        const float factor = device::exp2_fast(m - top);
        m = top;
        l *= factor;
#pragma unroll
        for (int k = 0; k < kNum; ++k) x[k] *= factor;
    }
    __device__ __forceinline__ void add(const float* other, float other_m, float other_l) {
        const float weight = device::exp2_fast(other_m - m);
        l = fmaf(weight, other_l, l);
#pragma unroll
        for (int k = 0; k < kNum; ++k) x[k] = fmaf(weight, other[k], x[k]);
    }
};

// Which unit a warp's last (and first) segment belongs to, and its sums; in shared memory.
template <int kWarps, int kRows>
struct Segments {
    std::uint32_t last_start[kWarps], first_start[kWarps];  // first item of the unit; kNone: no such segment
    Unit last_unit[kWarps], first_unit[kWarps];
    float last_m[kRows][kWarps], last_l[kRows][kWarps], first_m[kRows][kWarps], first_l[kRows][kWarps];
    int arrived_last[2];
};
inline constexpr std::uint32_t kNone = ~0u;

// Who shares a unit with whom: CTAs first .. last in order; part_of(c): which of its two partial results CTA c keeps it in.
struct Sharing {
    bool shared = false;
    std::uint32_t first = 0, last = 0;
    bool begins_first = false;     // the unit is the first one's own first unit too

    __device__ Sharing() {}
    __device__ Sharing(const Plan& plan, const Unit& unit, std::uint32_t begin, std::uint32_t end) {
        shared = unit.start < begin || unit.start + unit.pages > end;
        if (!shared) return;
        first = plan.owner(unit.start);
        last = plan.owner(unit.start + unit.pages - 1);
        begins_first = plan.cut(first) == unit.start;
    }
    __device__ std::uint32_t part_of(std::uint32_t cta) const { return 2 * cta + (cta == first && !begins_first ? 1 : 0); }
};

template <class Shape, int kRows, int kHeadDim>
__device__ void store_partial(float* partial, int r, const Piece<Shape::D / 32>& sum) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int k = 0; k < Shape::D / 32; ++k) __stcg(partial + r * Shape::D + lane + 32 * k, sum.x[k]);
    if (lane == 0) __stcg(reinterpret_cast<float2*>(partial + kRows * Shape::D) + r, make_float2(sum.m, sum.l));
}

// One row of a unit that `sharing` says who has pieces of. A warp.
template <class Shape, int kRows, int kHeadDim>
__device__ void merge_shared_row(const AttendParams& p, const Sharing& sharing, const Row& row, int r) {
    constexpr int kNum = Shape::D / 32, kAtOnce = kNum <= 4 ? 16 : 8;
    const int lane = threadIdx.x & 31;
    Piece<kNum> sum;
    for (std::uint32_t c = sharing.first; c <= sharing.last; c += kAtOnce) {
        float x[kAtOnce][kNum];
        float2 ml[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            ml[i] = make_float2(device::kNothing, 0.0f);
            if (c + i > sharing.last) continue;
            const float* partial = p.partials + sharing.part_of(c + i) * Shape::kPartial;
            ml[i] = __ldcg(reinterpret_cast<const float2*>(partial + kRows * Shape::D) + r);
#pragma unroll
            for (int k = 0; k < kNum; ++k) x[i][k] = __ldcg(partial + r * Shape::D + lane + 32 * k);
        }
        float top = sum.m;
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) top = fmaxf(top, ml[i].x);
        sum.rescale(top);
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            if (c + i <= sharing.last) sum.add(x[i], ml[i].x, ml[i].y);
        }
    }
    write_row<kHeadDim>(p, row, sum.x, sum.m, sum.l);
}

// All threads of a CTA, after a barrier. memory: the warps' shared memory (a last segment lies at its start), stride bytes apart.
template <class Shape, int kRows, int kHeadDim>
__device__ void merge_segments(const AttendParams& p, const std::uint8_t* memory, const Segments<Shape::kWarps, kRows>& segments, const Unit& first_unit,
                               std::uint32_t begin, std::uint32_t end) {
    constexpr int kNum = Shape::D / 32, kWarps = Shape::kWarps;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const std::uint32_t last_start = lane < kWarps ? segments.last_start[lane] : kNone, first_start = lane < kWarps ? segments.first_start[lane] : kNone;
    std::uint32_t done = kNone;
    int turn = warp;
    // Downwards; at the end the unit of which this CTA has only a first segment, if there is one.
    for (int w = kWarps - 1; w >= -1; --w) {
        std::uint32_t start;
        const Unit* unit;
        if (w >= 0) {
            start = segments.last_start[w];
            unit = &segments.last_unit[w];
        } else {
            bool alone = first_start != kNone;
            for (int k = 0; k < kWarps; ++k) alone = alone && segments.last_start[k] != first_start;
            const unsigned who = __ballot_sync(~0u, alone);
            start = who ? __shfl_sync(~0u, first_start, __ffs(who) - 1) : kNone;
            unit = &segments.first_unit[who ? __ffs(who) - 1 : 0];
        }
        if (start == kNone || start == done) continue;
        done = start;
        const unsigned lasts = __ballot_sync(~0u, last_start == start), firsts = __ballot_sync(~0u, first_start == start);
        const Unit own = *unit;
        const bool whole = own.start >= begin && own.start + own.pages <= end;
        float* partial = p.partials + (2 * blockIdx.x + (start == first_unit.start ? 0 : 1)) * Shape::kPartial;
        for (; turn < kRows; turn += kWarps) {
            const int r = turn;
            Piece<kNum> sum;
            float x[kWarps][kNum], m[kWarps], l[kWarps], first_x[kNum], first_m = device::kNothing, first_l = 0;
            if (firsts) {
                const int k = __ffs(firsts) - 1;
                const float* from = p.scratch + (static_cast<std::size_t>(blockIdx.x) * kWarps + k) * 2 * Shape::kScratch + r * Shape::kRow;
#pragma unroll
                for (int i = 0; i < kNum; ++i) first_x[i] = from[lane + 32 * i];
                first_m = segments.first_m[r][k];
                first_l = segments.first_l[r][k];
            }
            float top = first_m;
#pragma unroll
            for (int k = 0; k < kWarps; ++k) {
                m[k] = device::kNothing;
                if (!(lasts >> k & 1)) continue;
                const float* from = reinterpret_cast<const float*>(memory + k * Shape::warp_bytes()) + r * Shape::kRow;
#pragma unroll
                for (int i = 0; i < kNum; ++i) x[k][i] = from[lane + 32 * i];
                m[k] = segments.last_m[r][k];
                l[k] = segments.last_l[r][k];
                top = fmaxf(top, m[k]);
            }
            sum.m = top;
            if (firsts) sum.add(first_x, first_m, first_l);
#pragma unroll
            for (int k = 0; k < kWarps; ++k) {
                if (lasts >> k & 1) sum.add(x[k], m[k], l[k]);
            }
            if (whole) write_row<kHeadDim>(p, row_of<kRows>(p, own, r), sum.x, sum.m, sum.l);
            else store_partial<Shape, kRows, kHeadDim>(partial, r, sum);
        }
        turn -= kRows;
    }
}

}  // namespace turboquant::cuda

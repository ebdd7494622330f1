// Decode attention over mma64 pages in one launch. Every CTA plans for itself (plan.cuh), every warp walks through a range of pages of its
// own (ring.cuh, device/page_math.cuh) or shares one page with another, pieces of a unit are put together at the end (merge.cuh).
#pragma once

#include <type_traits>

#include "cuda/attend/merge.cuh"
#include "cuda/attend/ring.cuh"
#include "cuda/attend/rows.cuh"
#include "cuda/device/page_math.cuh"

namespace turboquant::cuda {

// A lane's scales of the kM m-tiles from number kM * piece on, two to a word.
template <int kM>
__device__ __forceinline__ void load_scales(std::uint32_t at, int piece, std::uint32_t* scales) {
    if constexpr (kM == 4) {
        const uint4 four = device::load_shared16(at);
        scales[0] = four.x; scales[1] = four.y; scales[2] = four.z; scales[3] = four.w;
    } else {
        static_assert(kM == 2);
        const uint2 two = device::load_shared8(at + 8 * piece);
        scales[0] = two.x; scales[1] = two.y;
    }
}

template <int kKeyBits, int kValueBits, int kRows, int kHeadDim, Target kTarget>
__global__ void __launch_bounds__(AttendShape<kKeyBits, kValueBits, kRows, kHeadDim, kTarget>::kWarps * 32, 1) attend_kernel(const __grid_constant__ AttendParams p) {
    using Shape = AttendShape<kKeyBits, kValueBits, kRows, kHeadDim, kTarget>;
    using Math = device::PageMath<kKeyBits, kValueBits, kRows, kHeadDim>;
    constexpr int D = Shape::D, kWarps = Shape::kWarps, kColumns = Math::kColumns, kTiles = Math::kTiles;
    constexpr int kPairsAtOnce = Math::kFew ? 1 : 2;
    constexpr PageSide kKeys = Shape::kLayout.keys(), kValues = Shape::kLayout.values();
    extern __shared__ __align__(128) std::uint8_t memory[];
    __shared__ Segments<kWarps> segments;
    __shared__ Sharing sharing[2];  // of the CTA's first and last unit
    __shared__ __align__(16) std::uint32_t plan_scratch[4 * kWarps];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    start_early(p);
    std::uint8_t* own = memory + warp * Shape::warp_bytes();
    Ring<Shape, kRows>::init(device::shared_address(own));

    Sequence* sequences = reinterpret_cast<Sequence*>(memory + Shape::kPlan);
    const Plan plan = make_plan<kRows, kWarps * 32>(p, sequences, plan_scratch);
    if (lane == 0) segments.last_start[warp] = segments.first_start[warp] = kNone;
    const std::uint32_t cut = plan.cut(blockIdx.x, min(lane, kWarps)), begin = __shfl_sync(~0u, cut, 0), end = __shfl_sync(~0u, cut, kWarps), num = end - begin;
    std::uint32_t mine = min(max(__shfl_sync(~0u, cut, warp), begin), end), mine_end = min(max(__shfl_sync(~0u, cut, warp + 1), begin), end);
    // Few pages: one for each of the last warps, so that neighbours run on different quarters of the processor. Very few: two warps share a page, half of its
    // tokens each.
    const bool halves = Shape::kSharesPages && 2 * num <= kWarps;
    int half = 0;
    if (num <= kWarps) {
        const std::uint32_t idle = kWarps - (halves ? 2 * num : num), place = warp - idle;
        const bool idles = static_cast<std::uint32_t>(warp) < idle;
        half = static_cast<int>(place & (halves ? 1 : 0));
        mine = idles ? begin : begin + (halves ? place / 2 : place);
        mine_end = idles ? begin : mine + 1;
    }
    const bool busy = mine < mine_end;
    std::uint8_t* pairs = own + Shape::ring_bytes(Shape::kSlots);  // this lane's queries in binary16, 8 or 16 bytes at a time

    Unit unit{};
    uint4 raw[kTiles][Math::kBrought / 8];
    const auto fetch_query = [&] {
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
            const Row row = row_of<kRows>(p, unit, Math::row_of_lane(tile, g));
#pragma unroll
            for (int i = 0; i < Math::kBrought / 8; ++i) {
                const int first = Math::first_brought(g, t) + 8 * i;
                raw[tile][i] = first < kHeadDim ? load_query16(p, row, first) : make_uint4(0, 0, 0, 0);
            }
        }
    };
    Ring<Shape, kRows> ring(p, plan, mine, mine_end, device::shared_address(own));
    bool waited = p.early != 2;
    if (busy) {
        unit = unit_at<kRows>(plan, p, mine);
        ring.look_up(unit);
        if (!waited && !ring.starts_old()) {
            device::wait_for_predecessor();
            waited = true;
        }
        if (waited) fetch_query();  // before the ring is filled: a load issued after it waits behind all of it
        ring.fill();
    }
    if (num > 0 && (warp == 0 || warp == 2)) {  // worked out while the first pages are on their way
        const Sharing own_sharing = sharing_of<kRows>(p, plan, warp ? end - 1 : begin, begin, end);
        if (lane == 0) sharing[warp / 2] = own_sharing;
    }
    if (!waited) {
        device::wait_for_predecessor();
        if (busy) fetch_query();
    }
    write_empty<kHeadDim>(p, sequences);

    Math math;
    math.init();
    int last_position[kColumns];         // of each column's row
    int lowest = 0, highest = 0;         // of all rows
    std::uint32_t segment = mine;
    const auto start_unit = [&](std::uint32_t item) {
        segment = item;
        math.reset();
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
            float x[Math::kBrought];
#pragma unroll
            for (int i = 0; i < Math::kBrought / 8; ++i) {
#pragma unroll
                for (int k = 0; k < 4; ++k) widen(p, device::component(raw[tile][i], k), x + 8 * i + 2 * k);
            }
            uint2* keep = reinterpret_cast<uint2*>(pairs) + tile * Math::kPairs * 32;
            math.load_query(x, tile, p.scale, p.norm, p.keys.sign, p.keys.paley, [&](int of, int i, std::uint32_t w0, std::uint32_t w1) {
                keep[(i / kPairsAtOnce * 32 + of) * kPairsAtOnce + i % kPairsAtOnce] = make_uint2(w0, w1);
            });
        }
        if constexpr (Math::kShared) __syncwarp();
#pragma unroll
        for (int n = 0; n < kColumns; ++n) last_position[n] = row_of<kRows>(p, unit, Math::row_of_column(n, t)).position;
        lowest = row_of<kRows>(p, unit, 0).position;
        highest = row_of<kRows>(p, unit, kRows - 1).position;
    };
    // Items [segment, item) of the unit are in math.
    const auto end_segment = [&](std::uint32_t item) {
        math.finish();
        const bool last = item == mine_end, complete = !last && segment == unit.start;
        __syncwarp();  // every lane is done with the ring
        float* to = last ? reinterpret_cast<float*>(own) : complete && Shape::kStaged ? reinterpret_cast<float*>(own + Shape::kStage)
                         : p.scratch + ((static_cast<std::size_t>(blockIdx.x) * kWarps + warp) * 2 + (complete ? 1 : 0)) * Shape::kPartial;
#pragma unroll
        for (int n = 0; n < kColumns; ++n) {
            float* row = to + Math::row_of_column(n, t) * Shape::kRow;
#pragma unroll
            for (int i = 0; i < D / 32; ++i) {
                reinterpret_cast<float4*>(row + D / 8 * g)[i] = make_float4(math.out[4 * i][n], math.out[4 * i + 1][n], math.out[4 * i + 2][n], math.out[4 * i + 3][n]);
            }
            if (g == 0) *reinterpret_cast<float2*>(row + D) = make_float2(math.m[n], math.l[n]);
        }
        if (!complete) {
            if (lane == 0) {
                (last ? segments.last_start : segments.first_start)[warp] = unit.start;
                (last ? segments.last_unit : segments.first_unit)[warp] = unit;
            }
            return;
        }
        __syncwarp();
#pragma unroll 1
        for (int r = 0; r < kRows; ++r) {
            const float* row = to + r * Shape::kRow;
            float x[D / 32];
#pragma unroll
            for (int k = 0; k < D / 32; ++k) x[k] = row[lane + 32 * k];
            write_row<kHeadDim>(p, row_of<kRows>(p, unit, r), x, row[D], row[D + 1]);
        }
        __syncwarp();
    };

    // Adds the next part of the ring: a page, or its half `piece` where kPieces is 2.
    const auto add_page = [&](std::uint32_t item, auto pieces, int piece) {
        constexpr int kPieces = decltype(pieces)::value, kM = Math::kMTiles / kPieces;
        float scores[kM][2][kColumns], bias[kColumns], units[kColumns];
        std::uint32_t packed[Math::kParts][kM];
        {
            const std::uint32_t part = ring.take();
            LaneWords<Shape, Side::key, kPieces> words(part, piece);
            std::uint32_t key_scales[4];
            load_scales<kM>(part + kKeys.scales_offset() + 16 * g, piece, key_scales);
            math.score_keys([&](int n, std::uint32_t* w) {
#pragma unroll
                for (int i = 0; i < kKeyBits; ++i) w[i] = words(kKeys.group_word(n, i));
            }, key_scales, scores);
            uint4 two{};
            math.score_reference(
                [&](int i, std::uint32_t* a) {
                    const uint4 words16 = device::load_shared16(part + kKeys.reference_offset() + D / 2 * t + 16 * i);
                    a[0] = words16.x; a[1] = words16.y; a[2] = words16.z; a[3] = words16.w;
                },
                [&](int tile, int i, std::uint32_t* b) {
                    const uint2* kept = reinterpret_cast<const uint2*>(pairs) + tile * Math::kPairs * 32 + lane * kPairsAtOnce + i / kPairsAtOnce * 32 * kPairsAtOnce;
                    if (kPairsAtOnce == 1) {
                        b[0] = kept->x; b[1] = kept->y;
                    } else {
                        if (i % 2 == 0) two = *reinterpret_cast<const uint4*>(kept);
                        b[0] = i % 2 ? two.z : two.x; b[1] = i % 2 ? two.w : two.y;
                    }
                },
                bias);
            ring.release();
        }
        const std::uint32_t part = ring.take();
        std::uint32_t value_scales[4];
        load_scales<kM>(part + kValues.scales_offset() + 16 * g, piece, value_scales);
#pragma unroll
        for (int n = 0; n < kColumns; ++n) units[n] = math.unit[n];
        if (p.cap != 0) math.cap_scores(scores, bias, units, p.cap);
        const int token = (unit.first_page + static_cast<int>(item - unit.start)) * kPageTokens + 16 * kM * piece;
        const bool behind = p.window && token <= highest - p.window;
        if (token + 16 * kM - 1 > lowest || behind) {
            int first[kColumns], last[kColumns];
#pragma unroll
            for (int n = 0; n < kColumns; ++n) {
                last[n] = last_position[n] - token;
                first[n] = p.window ? last[n] - p.window + 1 : 0;
            }
            math.hide(scores, value_scales, first, last, p.window ? lowest - p.window + 1 - token : 0, highest - token);
        }
        math.soften(scores, value_scales, units, bias, packed);
        LaneWords<Shape, Side::value, kPieces> words(part, piece);
        math.add_values([&](int s, int j, std::uint32_t* w) {
#pragma unroll
            for (int i = 0; i < kValueBits; ++i) w[i] = words(kValues.group_word(s * (D / 32) + j, i));
        }, packed);
        ring.release();
    };

    if (Shape::kSharesPages && halves) {
        if (busy) {
            start_unit(mine);
            add_page(mine, std::integral_constant<int, Shape::kSharesPages ? 2 : 1>(), half);
            end_segment(mine_end);
        }
    } else {
        std::uint32_t item = mine;
#pragma unroll 1
        while (busy) {
            if (item != mine && (item == mine_end || item == unit.end())) {
                end_segment(item);
                if (item == mine_end) break;
                unit = unit_at<kRows>(plan, p, item);
                fetch_query();
            }
            if (item == mine || item == unit.start) start_unit(item);
            add_page(item, std::integral_constant<int, 1>(), 0);
            ++item;
        }
    }
    __syncthreads();
    if (num == 0) return;
    merge_segments<Shape, kRows, kHeadDim>(p, memory, segments, sharing);
}

}  // namespace turboquant::cuda

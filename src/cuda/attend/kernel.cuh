// Decode attention over mma64 pages in one launch. Every CTA plans for itself (plan.cuh), every warp walks through a range of pages of its
// own (ring.cuh, device/page_math.cuh), pieces of a unit are put together at the end (merge.cuh).
#pragma once

#include "cuda/attend/merge.cuh"
#include "cuda/attend/ring.cuh"
#include "cuda/attend/rows.cuh"
#include "cuda/device/page_math.cuh"

namespace turboquant::cuda {

template <int kKeyBits, int kValueBits, int kRows, int kHeadDim>
__global__ void __launch_bounds__(AttendShape<kKeyBits, kValueBits, kRows, kHeadDim>::kWarps * 32, 1) attend_kernel(const __grid_constant__ AttendParams p) {
    using Shape = AttendShape<kKeyBits, kValueBits, kRows, kHeadDim>;
    using Math = device::PageMath<kKeyBits, kValueBits, kRows, kHeadDim>;
    constexpr int D = Shape::D, kWarps = Shape::kWarps, kColumns = Math::kColumns, kTiles = Math::kTiles;
    constexpr PageSide kKeys = Shape::kLayout.keys(), kValues = Shape::kLayout.values();
    extern __shared__ __align__(128) std::uint8_t memory[];
    __shared__ Segments<kWarps, kRows> segments;
    __shared__ std::uint32_t plan_scratch[40];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    if (p.early) device::launch_dependents();
    if (p.early == 1) device::wait_for_predecessor();

    Sequence* sequences = reinterpret_cast<Sequence*>(memory + Shape::kPlan);
    const Plan plan = make_plan<kRows, kWarps * 32>(p, sequences, plan_scratch);
    if (lane == 0) segments.last_start[warp] = segments.first_start[warp] = kNone;
    const std::uint32_t begin = plan.cut(blockIdx.x), end = plan.cut(blockIdx.x + 1), num = end - begin;
    const std::uint32_t mine = begin + num * warp / kWarps, mine_end = begin + num * (warp + 1) / kWarps;
    const bool busy = mine < mine_end;
    std::uint8_t* own = memory + warp * Shape::warp_bytes();
    std::uint8_t* halves = own + Shape::ring_bytes(Shape::kSlots);  // this lane's queries in binary16, 16 bytes at a time

    Unit unit{};
    uint4 raw[kTiles][D / 32];
    const auto fetch_query = [&] {
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
            const Row row = row_of<kRows>(p, unit, Math::row_of_lane(tile, g));
#pragma unroll
            for (int i = 0; i < D / 32; ++i) {
                const int first = D / 4 * t + 8 * i;
                raw[tile][i] = first < kHeadDim ? load_query16(p, row, first) : make_uint4(0, 0, 0, 0);
            }
        }
    };
    Ring<Shape, kRows> ring(p, plan, mine, mine_end, device::shared_address(own), device::shared_address(memory + Shape::kBarriers + warp * 64));
    bool waited = p.early != 2;
    if (busy) {
        unit = unit_at<kRows>(plan, p, mine);
        ring.look_up();
        if (!waited && !ring.starts_old()) {
            device::wait_for_predecessor();
            waited = true;
        }
        if (waited) fetch_query();  // before the ring is filled: a load issued after it waits behind all of it
        ring.init();
        ring.fill();
    }
    Unit first_unit{}, last_unit{};
    Sharing first_sharing, last_sharing;
    if (num > 0) {  // worked out while the first pages are on their way
        first_unit = unit_at<kRows>(plan, p, begin);
        last_unit = unit_at<kRows>(plan, p, end - 1);
        first_sharing = Sharing(plan, first_unit, begin, end);
        if (last_unit.start != first_unit.start) last_sharing = Sharing(plan, last_unit, begin, end);
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
            float x[D / 4];
#pragma unroll
            for (int i = 0; i < D / 32; ++i) {
#pragma unroll
                for (int k = 0; k < 4; ++k) widen(p, device::component(raw[tile][i], k), x + 8 * i + 2 * k);
            }
            uint4* keep = reinterpret_cast<uint4*>(halves) + tile * (D / 32) * 32 + lane;
            std::uint32_t four[4];
            math.load_query(x, tile, p.scale, p.norm, p.keys.sign, p.keys.paley, [&](int i, std::uint32_t w) {
                four[i % 4] = w;
                if (i % 4 == 3) keep[i / 4 * 32] = make_uint4(four[0], four[1], four[2], four[3]);
            });
        }
#pragma unroll
        for (int n = 0; n < kColumns; ++n) last_position[n] = row_of<kRows>(p, unit, Math::row_of_column(n, t)).position;
        lowest = row_of<kRows>(p, unit, 0).position;
        highest = row_of<kRows>(p, unit, kRows - 1).position;
    };
    // Items [segment, item) of the unit are in math.
    const auto end_segment = [&](std::uint32_t item) {
        math.finish();
        const bool complete = segment == unit.start && item == unit.start + unit.pages, last = !complete && item == mine_end;
        float* scratch = p.scratch + (static_cast<std::size_t>(blockIdx.x) * kWarps + warp) * 2 * Shape::kScratch + (complete ? Shape::kScratch : 0);
        if (last) __syncwarp();  // every lane is done with the ring
        float* to = last ? reinterpret_cast<float*>(own) : scratch;
#pragma unroll
        for (int n = 0; n < kColumns; ++n) {
#pragma unroll
            for (int i = 0; i < D / 32; ++i) {
                reinterpret_cast<float4*>(to + Math::row_of_column(n, t) * Shape::kRow + D / 8 * g)[i] =
                    make_float4(math.out[4 * i][n], math.out[4 * i + 1][n], math.out[4 * i + 2][n], math.out[4 * i + 3][n]);
            }
        }
        if (complete) {
            __syncwarp();
#pragma unroll
            for (int r = 0; r < kRows; ++r) {
                // Row r's sums are in column n of the lanes with t = r % 4 (few) or r % 8 / 2.
                const int n = Math::kFew ? 0 : r / 8 * 2 + r % 2, from = Math::kFew ? r : r % 8 / 2;
                const float m = __shfl_sync(~0u, math.m[n], from), l = __shfl_sync(~0u, math.l[n], from);
                float x[D / 32];
#pragma unroll
                for (int k = 0; k < D / 32; ++k) x[k] = to[r * Shape::kRow + lane + 32 * k];
                write_row<kHeadDim>(p, row_of<kRows>(p, unit, r), x, m, l);
            }
            __syncwarp();
            return;
        }
        if (lane == 0) {
            (last ? segments.last_start : segments.first_start)[warp] = unit.start;
            (last ? segments.last_unit : segments.first_unit)[warp] = unit;
        }
        if (g == 0) {
#pragma unroll
            for (int n = 0; n < kColumns; ++n) {
                const int r = Math::row_of_column(n, t);
                (last ? segments.last_m : segments.first_m)[r][warp] = math.m[n];
                (last ? segments.last_l : segments.first_l)[r][warp] = math.l[n];
            }
        }
    };

#pragma unroll 1
    for (std::uint32_t item = mine; item < mine_end; ++item) {
        if (item == mine) {
            start_unit(item);
        } else if (item == unit.start + unit.pages) {
            end_segment(item);
            unit = unit_at<kRows>(plan, p, item);
            fetch_query();
            start_unit(item);
        }
        float scores[4][2][kColumns], bias[kColumns], units[kColumns];
        std::uint32_t packed[Math::kParts][4];
        {
            const std::uint32_t part = ring.take();
            LaneWords<kKeys.words_per_lane()> words(part);
            const uint4 scales = device::load_shared16(part + kKeys.scales_offset() + 16 * g);
            const std::uint32_t four[4] = {scales.x, scales.y, scales.z, scales.w};
            math.score_keys([&](int n, std::uint32_t* w) {
#pragma unroll
                for (int i = 0; i < kKeyBits; ++i) w[i] = words(kKeys.group_word(n, i));
            }, four, scores);
            uint4 reference{}, half[kTiles];
            math.score_reference(
                [&](int i) {
                    if (i % 4 == 0) reference = device::load_shared16(part + kKeys.reference_offset() + D / 2 * t + 4 * i);
                    return device::component(reference, i % 4);
                },
                [&](int tile, int i) {
                    if (i % 4 == 0) half[tile] = reinterpret_cast<const uint4*>(halves)[(tile * (D / 32) + i / 4) * 32 + lane];
                    return device::component(half[tile], i % 4);
                },
                bias);
            ring.release();
        }
        const std::uint32_t part = ring.take();
        const uint4 scales = device::load_shared16(part + kValues.scales_offset() + 16 * g);
        std::uint32_t value_scales[4] = {scales.x, scales.y, scales.z, scales.w};
#pragma unroll
        for (int n = 0; n < kColumns; ++n) units[n] = math.unit[n];
        if (p.cap != 0) math.cap_scores(scores, bias, units, p.cap);
        const int token = (unit.first_page + static_cast<int>(item - unit.start)) * kPageTokens;
        const bool behind = p.window && token <= highest - p.window;
        if (token + kPageTokens - 1 > lowest || behind) {
            int first[kColumns], last[kColumns];
#pragma unroll
            for (int n = 0; n < kColumns; ++n) {
                last[n] = last_position[n] - token;
                first[n] = p.window ? last[n] - p.window + 1 : 0;
            }
            math.hide(scores, value_scales, first, last, p.window ? lowest - p.window + 1 - token : 0, highest - token);
        }
        math.soften(scores, value_scales, units, bias, packed);
        LaneWords<kValues.words_per_lane()> words(part);
        math.add_values([&](int s, int j, std::uint32_t* w) {
#pragma unroll
            for (int i = 0; i < kValueBits; ++i) w[i] = words(kValues.group_word(s * (D / 32) + j, i));
        }, packed);
        ring.release();
    }
    if (busy) end_segment(mine_end);
    __syncthreads();
    if (num == 0) return;
    merge_segments<Shape, kRows, kHeadDim>(p, memory, segments, first_unit, begin, end);

    if (!first_sharing.shared && !last_sharing.shared) return;
    __syncthreads();
    if (lane == 0 && warp < 2) {
        const Sharing& sharing = warp ? last_sharing : first_sharing;
        bool last = false;
        if (sharing.shared) {
            last = device::add_acquire_release(p.counters + sharing.first) == sharing.last - sharing.first;
            if (last) p.counters[sharing.first] = 0;
        }
        segments.arrived_last[warp] = last;
    }
    __syncthreads();
#pragma unroll 1
    for (int j = 0; j < 2; ++j) {
        if (!segments.arrived_last[j]) continue;
        for (int r = warp; r < kRows; r += kWarps) {
            merge_shared_row<Shape, kRows, kHeadDim>(p, j ? last_sharing : first_sharing, row_of<kRows>(p, j ? last_unit : first_unit, r), r);
        }
    }
}

}  // namespace turboquant::cuda

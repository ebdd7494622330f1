// Attention of many query rows per (sequence, KV head): as kernel.cuh, but what walks through a range of pages is a team of four warps
// that multiplies with wgmma (wide_math.cuh), so that codes are looked up once for all rows.
//
// A team's turn of one page, with one meeting of its warps, in which they also agree whether a weight is too large:
//   keys from codes to registers; products with the queries
//   scores to weights, into shared memory; values from codes to registers
//   meet; products with the weights begin
// Other teams fill the waits.
#pragma once

#include "cuda/attend/merge.cuh"
#include "cuda/attend/wide_math.cuh"
#include "cuda/attend/wide_policy.hpp"
#include "cuda/attend/wide_ring.cuh"
#include "cuda/device/warpgroup.cuh"

namespace turboquant::cuda {

extern __shared__ __align__(1024) std::uint8_t wide_shared[];

// Four warps meet; the result is whether any thread said so.
__device__ __forceinline__ bool meet_and_ask(int name, bool mine) {
    std::uint32_t any;
    asm volatile("{.reg .pred p, q; setp.ne.b32 p, %1, 0; barrier.cta.red.or.pred q, %2, 128, p; selp.b32 %0, 1, 0, q;}"
                 : "=r"(any) : "r"(static_cast<std::uint32_t>(mine)), "r"(name) : "memory");
    return any != 0;
}
__device__ __forceinline__ void store_transposed2(std::uint32_t at, std::uint32_t a, std::uint32_t b) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1,%2};" ::"r"(at), "r"(a), "r"(b) : "memory");
}
__device__ __forceinline__ void store_transposed4(std::uint32_t at, std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(at), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}

// What a team keeps of its rows, beside operands; in shared memory at Shape::kState.
template <int kRows>
struct RowState {
    float unit[kRows], back[kRows];
    int position[kRows];
    float shift[kRows];                 // of products with keys, WideMath::shift_of
    float bias[16][kRows];              // q . reference in log2 units, of 16 pages in turn
    float other[kTeamWarps][kRows];     // what warps tell each other seldom
};

template <int kKeyBits, int kValueBits, int kRows, int kHeadDim, bool kCapped>
__global__ void __launch_bounds__(WideShape<kKeyBits, kValueBits, kRows, kHeadDim>::kThreads, 1) wide_attend_kernel(const __grid_constant__ AttendParams p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    using Shape = WideShape<kKeyBits, kValueBits, kRows, kHeadDim>;
    using Math = WideMath<kKeyBits, kValueBits, kRows, kHeadDim>;
    constexpr int D = Shape::D, kTeams = Shape::kWarps, kColumns = Math::kColumns, kTiles = Math::kTiles;
    constexpr PageSide kKeys = Shape::kLayout.keys(), kValues = Shape::kLayout.values();
    constexpr std::uint32_t kValuesAt = static_cast<std::uint32_t>(Shape::kLayout.offset(Side::value));
    __shared__ Segments<kTeams> segments;
    __shared__ Sharing sharing[2];  // of the CTA's first and last unit
    __shared__ __align__(16) std::uint32_t plan_scratch[4 * Shape::kMergeWarps];
    const int lane = device::own_lane(), g = lane >> 2, t = lane & 3, all_warps = __shfl_sync(~0u, static_cast<int>(threadIdx.x) >> 5, 0);
    const int team = all_warps / kTeamWarps, warp = all_warps % kTeamWarps, name = 1 + team;
    start_early(p);

    Sequence* sequences = reinterpret_cast<Sequence*>(wide_shared + Shape::kPlan);
    const Plan plan = make_plan<kRows, Shape::kThreads, kTeams>(p, sequences, plan_scratch);
    if (warp == 0 && lane == 0) segments.last_start[team] = segments.first_start[team] = kNone;
    const std::uint32_t cut = plan.cut(blockIdx.x, min(lane, kTeams)), begin = __shfl_sync(~0u, cut, 0), end = __shfl_sync(~0u, cut, kTeams), num = end - begin;
    std::uint32_t mine = min(max(__shfl_sync(~0u, cut, team), begin), end), mine_end = min(max(__shfl_sync(~0u, cut, team + 1), begin), end);
    if (num <= kTeams) {  // one page each
        mine = team + num < kTeams ? begin : begin + team + num - kTeams;
        mine_end = team + num < kTeams ? begin : mine + 1;
    }
    if (p.early == 2) device::wait_for_predecessor();
    std::uint8_t* own = wide_shared + team * Shape::warp_bytes();
    auto* rows = reinterpret_cast<RowState<kRows>*>(own + Shape::kState);
    static_assert(sizeof(RowState<kRows>) <= Shape::kBarriers - Shape::kState);
    const std::uint32_t memory = device::shared_address(own);
    WideRing<Shape, kRows> ring(p, plan, mine, mine_end, memory);
    if (mine < mine_end && warp == 0) ring.start();
    if (num > 0 && (all_warps == 1 || all_warps == 2)) {  // worked out while the first pages are on their way
        const Sharing own_sharing = sharing_of<kRows>(p, plan, all_warps == 2 ? end - 1 : begin, begin, end);
        if (lane == 0) sharing[all_warps - 1] = own_sharing;
    }
    write_empty<kHeadDim>(p, sequences);

    Math math;
    math.init();
    std::uint32_t value_operands[16 * Math::kMTiles];
    const auto places = Math::places(warp, lane);
    const std::uint32_t query_tile = device::operand_low(memory);
    int turn = 0;  // of the two buffers

    // One warp: q . reference of the eight pages of batch n, in log2 units.
    const auto score_batch = [&](std::uint32_t n) {
        ring.wait_references(n);
#pragma unroll
        for (int tile = 0; tile < (kRows + 15) / 16; ++tile) {
            float sum[4];
            Math::score_references([&](int r, int i, std::uint32_t* four) { device::SharedPart{memory + static_cast<std::uint32_t>(Shape::kHalves) + 2 * D * (16 * tile + r)}.four(16 * i, four); },
                                   [&](int page, int i, std::uint32_t* four) { device::SharedPart{ring.references(8 * n + page)}.four(16 * i, four); }, sum);
#pragma unroll
            for (int i = 0; i < (kRows > 8 ? 4 : 2); ++i) {
                const int r = 16 * tile + g + 8 * (i / 2);
                rows->bias[(8 * n + 2 * t + i % 2) & 15][r] = sum[i] * rows->back[r];
            }
        }
    };
    // What each warp knows of its rows, for all; and they meet.
    const auto tell = [&](const float* x) {
        if (g == 0) {
#pragma unroll
            for (int n = 0; n < kColumns; ++n) rows->other[warp][Math::row_of_column(n, t)] = x[n];
        }
        device::meet_named(name, 128);
    };

    std::uint32_t item = mine;
#pragma unroll 1
    while (item < mine_end) {
        const std::uint32_t segment = item;
        Unit unit = unit_at<kRows>(plan, p, item);
        const std::uint32_t stop = device::uniform(min(unit.end(), mine_end));
        if (warp < kTiles) {  // eight rows of queries each
            const Row row = row_of<kRows>(p, unit, 8 * warp + g);
            float x[D / 4];
#pragma unroll
            for (int i = 0; i < D / 32; ++i) {
                const int first = D / 4 * t + 8 * i;
                const uint4 raw = first < kHeadDim ? load_query16(p, row, first) : make_uint4(0, 0, 0, 0);
#pragma unroll
                for (int k = 0; k < 4; ++k) widen(p, device::component(raw, k), x + 8 * i + 2 * k);
            }
            typename Math::Loader loader;
            std::uint32_t words[D / 8];
            loader.load_query(x, 0, p.scale, p.norm, p.keys.sign, p.keys.paley, [&](int, int i, std::uint32_t w0, std::uint32_t w1) {
                words[4 * (i / 2) + i % 2] = w0;
                words[4 * (i / 2) + 2 + i % 2] = w1;
            });
            const int r = 8 * warp + g;
#pragma unroll
            for (int i = 0; i < D / 32; ++i) device::store_shared16(memory + static_cast<std::uint32_t>(Shape::kHalves) + 2 * (r * D + D / 4 * t + 8 * i), words + 4 * i);
#pragma unroll
            for (int j = 0; j < D / 16; ++j) {
#pragma unroll
                for (int lower = 0; lower < 2; ++lower) {
                    const int n = r + lower * kRows;
                    const std::uint32_t at = memory + (j / 8 * 2 * kRows + n) * 128 + ((j % 8) ^ (n & 7)) * 16 + 4 * t;
                    asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(loader.query[lower][j / 2][j % 2]) : "memory");
                }
            }
            if (g == 0) {
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    rows->unit[8 * warp + 2 * t + e] = loader.unit[e];
                    rows->back[8 * warp + 2 * t + e] = loader.reference_unit[e];
                }
            }
            const float shift = Math::shift_of(loader);
            if (t == 0) {
                rows->position[r] = row.position;
                rows->shift[r] = shift;
            }
        }
        device::publish();
        const int lowest = row_of<kRows>(p, unit, 0).position, highest = row_of<kRows>(p, unit, kRows - 1).position;
        device::meet_named(name, 128);  // also: the ring's barriers are there
        math.reset();
#pragma unroll
        for (int n = 0; n < kColumns; ++n) {
            math.unit[n] = rows->unit[Math::row_of_column(n, t)];
        }
        std::uint32_t count = item - mine;  // pages of the team's before the present one
        if (warp == kTeamWarps - 1) score_batch(count / 8);
        device::meet_named(name, 128);

        int token = device::uniform((unit.first_page + static_cast<int>(item - unit.start)) * kPageTokens);
        // Pages that begin at these tokens and between are seen whole by all rows.
        const int plain_from = device::uniform(p.window ? max(0, highest - p.window + 1) : 0);
        const unsigned plain = static_cast<unsigned>(device::uniform(max(0, lowest - (kPageTokens - 2) - plain_from)));  // one more than the last of them
#pragma unroll 1
        do {
            ring.wait();
            const device::SharedPart page{ring.page()}, value_page{ring.page() + kValuesAt};
            int products[Math::kScores];
            const std::uint32_t scales_at = 2 * (8 * g + 2 * warp), key_scales = page.one(static_cast<unsigned>(kKeys.scales_offset()) + scales_at);
            std::uint32_t v_scales = value_page.one(static_cast<unsigned>(kValues.scales_offset()) + scales_at);
            {
                std::uint32_t a[4 * Math::kSteps];
                math.decode_keys(places, page, a);
                device::products_wait();  // of the page before
#pragma unroll
                for (int i = 0; i < Math::kMTiles; ++i) device::hold<4 * kTiles>(math.out[i]);
                device::products_begin();
#pragma unroll
                for (int s = 0; s < Math::kSteps; ++s) {
                    const std::uint64_t queries = device::tile_operand(query_tile + (s / 4 * 2 * kRows * 128 + s % 4 * 32) / 16);
                    if (s == 0) device::ByteProducts<2 * kRows, Math::kShifted>::start(products, a, queries);
                    else device::ByteProducts<2 * kRows, Math::kShifted>::add(products, a + 4 * s, queries);
                }
                device::products_commit();
            }
            ring.advance();
            const bool more = item + 1 < stop;
            if (warp == kTeamWarps - 1 && more && count % 8 == 7) score_batch((count + 1) / 8);
            device::products_wait();
            device::hold<Math::kScores>(products);
#pragma unroll
            for (int i = 0; i < Math::kMTiles; ++i) device::hold<4 * kTiles>(math.out[i]);

            float s[kColumns][2], v[2], sums[kColumns], bias[kColumns], shift[kColumns];
#pragma unroll
            for (int c = 0; c < kTiles; ++c) {
                const float2 two = *reinterpret_cast<const float2*>(&rows->bias[count & 15][8 * c + 2 * t]);
                bias[2 * c] = two.x;
                bias[2 * c + 1] = two.y;
                const float2 both = *reinterpret_cast<const float2*>(&rows->shift[8 * c + 2 * t]);
                shift[2 * c] = both.x;
                shift[2 * c + 1] = both.y;
            }
            math.to_scores(products, shift, key_scales, s);
            if constexpr (kCapped) math.cap_scores(s, bias, p.cap);
            if (static_cast<unsigned>(token - plain_from) >= plain) {
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                    const int at = token + 16 * warp + 8 * h + g;
#pragma unroll
                    for (int n = 0; n < kColumns; ++n) {
                        const int position = rows->position[Math::row_of_column(n, t)];
                        if (at > position || (p.window && at <= position - p.window)) s[n][h] = -INFINITY;
                    }
                    // Seen by no row: such a slot may hold anything.
                    if (at > highest || (p.window && at <= lowest - p.window)) v_scales &= h ? 0x0000ffffu : 0xffff0000u;
                }
            }
            math.value_scales(v_scales, v);
            const std::uint32_t weights = memory + static_cast<std::uint32_t>(Shape::kWeights + turn * Shape::kWeightBytes), weight_tile = query_tile + static_cast<std::uint32_t>(Shape::kWeights + turn * Shape::kWeightBytes) / 16;
            const auto weigh = [&] {
                std::uint32_t packed[kTiles][2];
                const bool large = math.template weigh<kCapped>(s, bias, v, packed, sums);
                const std::uint32_t at = weights + (8 * (lane >> 4) + (lane & 7)) * 128 + ((2 * warp + (lane >> 3 & 1)) ^ (lane & 7)) * 16;
                if constexpr (kTiles == 1) {
                    store_transposed2(at, packed[0][0], packed[0][1]);
                } else {
#pragma unroll
                    for (int c = 0; c < kTiles; c += 2) store_transposed4(at + c * 1024, packed[c][0], packed[c][1], packed[c + 1][0], packed[c + 1][1]);
                }
                return large;
            };
            const bool large = weigh();
            math.decode_values(places, value_page, value_operands);
            device::publish();
            if (meet_and_ask(name, large)) {
                float top[kColumns];
                math.template tops<kCapped>(s, bias, v, top);
                tell(top);
#pragma unroll
                for (int n = 0; n < kColumns; ++n) {
                    top[n] = rows->other[0][Math::row_of_column(n, t)];
#pragma unroll
                    for (int w = 1; w < kTeamWarps; ++w) top[n] = fmaxf(top[n], rows->other[w][Math::row_of_column(n, t)]);
                }
                device::products_wait();  // none is under way: for the compiler, which would see sums touched among products
#pragma unroll
                for (int i = 0; i < Math::kMTiles; ++i) device::hold<4 * kTiles>(math.out[i]);
                math.raise(top);
                weigh();
                device::publish();
                device::meet_named(name, 128);
            }
#pragma unroll
            for (int n = 0; n < kColumns; ++n) math.l[n] += sums[n];
#pragma unroll
            for (int i = 0; i < Math::kMTiles; ++i) device::hold<4 * kTiles>(math.out[i]);
            device::products_begin();
#pragma unroll
            for (int k = 0; k < 4; ++k) {
#pragma unroll
                for (int i = 0; i < Math::kMTiles; ++i) device::Products<kRows>::add(math.out[i], value_operands + 16 * i + 4 * k, device::tile_operand(weight_tile + 2 * k), 1);
            }
            device::products_commit();
            if (warp == 0) {  // all four have read the page
                ring.issue(ring.slot == 0 ? Shape::kSlots - 1 : ring.slot - 1);
                if (count % 8 == 0) ring.issue_references(count / 8 + 1);
            }
            ++count;
            turn ^= 1;
            token += kPageTokens;
        } while (++item < stop);

        device::products_wait();
#pragma unroll
        for (int i = 0; i < Math::kMTiles; ++i) device::hold<4 * kTiles>(math.out[i]);
        math.finish();
        tell(math.l);  // and nobody reads operands any more
        unit = unit_at<kRows>(plan, p, segment);  // again: kept, it would take registers in the loop
        const bool last = item == mine_end, complete = !last && segment == unit.start;
        float* to = last || complete ? reinterpret_cast<float*>(own) : p.scratch + (static_cast<std::size_t>(blockIdx.x) * kTeams + team) * 2 * Shape::kPartial;
#pragma unroll
        for (int n = 0; n < kColumns; ++n) {
            const int r = Math::row_of_column(n, t), at = 4 * (n / 2) + (n & 1);
            float* row = to + r * Shape::kRow;
#pragma unroll
            for (int jj = 0; jj < Math::kMTiles / 2; ++jj) {
                *reinterpret_cast<float4*>(row + D / 8 * g + 4 * (warp + 4 * jj)) =
                    make_float4(math.out[2 * jj][at] * device::kHalvesUnit, math.out[2 * jj][at + 2] * device::kHalvesUnit, math.out[2 * jj + 1][at] * device::kHalvesUnit,
                                math.out[2 * jj + 1][at + 2] * device::kHalvesUnit);
            }
            if (g == 0 && warp == 0) {
                const float l = (rows->other[0][r] + rows->other[1][r]) + (rows->other[2][r] + rows->other[3][r]);
                *reinterpret_cast<float2*>(row + D) = make_float2(math.m[n], l);
            }
        }
        if (!complete) {
            if (warp == 0 && lane == 0) {
                (last ? segments.last_start : segments.first_start)[team] = unit.start;
                (last ? segments.last_unit : segments.first_unit)[team] = unit;
            }
            if (!last) device::meet_named(name, 128);
            continue;
        }
        device::meet_named(name, 128);
#pragma unroll 1
        for (int r = warp; r < kRows; r += kTeamWarps) {
            const float* row = to + r * Shape::kRow;
            float x[D / 32];
#pragma unroll
            for (int k = 0; k < D / 32; ++k) x[k] = row[lane + 32 * k];
            write_row<kHeadDim>(p, row_of<kRows>(p, unit, r), x, row[D], row[D + 1]);
        }
        device::meet_named(name, 128);
    }
    __syncthreads();
    if (num == 0) return;
    merge_segments<Shape, kRows, kHeadDim>(p, wide_shared, segments, sharing);
#endif
}

}  // namespace turboquant::cuda

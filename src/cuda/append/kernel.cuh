// Codes new rows into their slots. A CTA takes `tile` neighbouring tokens of one KV head: it finds their runs, settles the references, its
// warps code rows, one or several at a time, and the codes go into the pages word by word. Compile with -fmad=false.
#pragma once

#include "cuda/append/means.cuh"
#include "cuda/append/write.cuh"
#include "cuda/device/dependent_launch.cuh"

namespace turboquant::cuda {

inline constexpr int kFewTokens = 16;      // of a tile: below, a warp has one vector at a time

// Lanes that share a vector where there are many: as few as leave them at most sixteen numbers each.
template <int kHeadDim>
constexpr int kGroupLanes = kHeadDim > 128 ? 16 : 8;

// What a CTA's warps have in common.
template <int kHeadDim>
struct AppendShared {
    static constexpr int D = device::RotationShape<kHeadDim>::kPadded;
    device::LevelTable levels[2];        // of keys, of values
    std::int64_t slots[kWindow];
    Links links;
    AppendToken tokens[kMaxTile];
    std::int32_t mean_run[kMeans], mean_length[kMeans];
    std::uint32_t mean_rows[kMeans][2];
    std::uint16_t means[kMeans][D], short_means[kAppendWarps][D];
    int num_means, num_runs;
    std::uint8_t run_from[kMaxTile + 1];
};

// The reference of a token's key that is stored or a long run's mean; null: it is zero.
template <int kHeadDim>
__device__ __forceinline__ const std::uint16_t* find_reference(const AppendParams& p, const PageSide& keys, const AppendShared<kHeadDim>& shared, const AppendToken& token, int head) {
    if (token.source == Source::none) return nullptr;
    if (token.source == Source::stored) return reinterpret_cast<const std::uint16_t*>(blob_of(p, token.page, head) + keys.reference_offset());
    int m = 0;
    while (shared.mean_run[m] != token.run) ++m;
    return shared.means[m];
}

// Codes one vector, held by kLanes lanes, into `row` of the codes; x: its numbers, already less their reference.
template <int kHeadDim, int kLanes>
__device__ __forceinline__ void code_row(const AppendParams& p, const PageLayout& layout, const device::LevelTable* levels, bool value, bool wanted, std::int64_t slot, int head, float* x,
                                         std::uint8_t* row) {
    constexpr int D = device::RotationShape<kHeadDim>::kPadded, kEncodes = device::kEncodeNumbers<kHeadDim, kLanes>;
    const AppendSide& side = p.sides[value];
    const int lane = threadIdx.x % kLanes;
    std::uint16_t scale = 0;
    with_bits(side.book.bits, [&](auto bits) {
        scale = device::encode_vector<kHeadDim, decltype(bits)::value, kLanes>(side.book, levels[value], x, p.norm, side.rotation.sign, side.rotation.paley, [&](int k, int code) {
            const int dim = lane + kLanes * k;
            if (wanted && (D == kLanes * kEncodes || dim < D)) row[dim] = static_cast<std::uint8_t>(D == kHeadDim || dim < kHeadDim ? code : 0);
        });
    });
    if (!wanted) return;
    if (lane == 0) {
        std::uint8_t* part = blob_of(p, page_of(slot), head) + (value ? layout.offset(Side::value) : 0);
        reinterpret_cast<std::uint16_t*>(part + layout.of(value ? Side::value : Side::key).scales_offset())[PageSide::scale_index(place_of(slot))] = scale;
    }
}

// Subtracts the reference from a key and, if the token is the page's first, stores it there.
template <int kHeadDim, int kLanes, class Reference>
__device__ __forceinline__ void centre(const AppendParams& p, const PageLayout& layout, bool wanted, std::int64_t slot, int head, float* x, Reference&& reference) {
    constexpr int D = device::RotationShape<kHeadDim>::kPadded;
    const int lane = threadIdx.x % kLanes;
    auto* kept = reinterpret_cast<std::uint16_t*>(blob_of(p, page_of(slot), head) + layout.keys().reference_offset());
#pragma unroll
    for (int k = 0; k < D / kLanes; ++k) {
        const std::uint16_t own = wanted ? reference(k) : 0;
        if (kLanes * k < kHeadDim && (kLanes * (k + 1) <= kHeadDim || lane + kLanes * k < kHeadDim)) x[k] = x[k] - device::half_value(own);
        if (wanted && place_of(slot) == 0) kept[lane + kLanes * k] = own;
    }
}

// The reference that a lane's numbers of a token most likely need: that of the token's own page.
template <int kHeadDim>
__device__ __forceinline__ void load_own_reference(const AppendParams& p, const PageSide& keys, std::int64_t slot, int head, std::uint16_t* reference) {
    const auto* from = reinterpret_cast<const std::uint16_t*>(blob_of(p, page_of(slot), head) + keys.reference_offset()) + (threadIdx.x & 31);
#pragma unroll
    for (int k = 0; k < device::RotationShape<kHeadDim>::kPadded / 32; ++k) reference[k] = from[32 * k];
}

// Codes one vector by a whole warp: the least time for one. x: its numbers; reference: of a key, load_own_reference()'s.
template <int kHeadDim>
__device__ __forceinline__ void code_by_warp(const AppendParams& p, const PageLayout& layout, AppendShared<kHeadDim>& shared, const AppendToken& token, bool value, int head, float* x,
                                             std::uint16_t* reference, std::uint8_t* row) {
    const int lane = threadIdx.x & 31;
    if (!value) {
        if (token.source != Source::stored || token.page != page_of(token.slot)) {
            const std::uint16_t* from = shared.short_means[threadIdx.x / 32];
            if (token.source != Source::mean || token.run_length >= kLongRun) from = find_reference(p, layout.keys(), shared, token, head);
            else mean_of_short_run<kHeadDim>(p, token.run, token.run_length, head, shared.short_means[threadIdx.x / 32]);
#pragma unroll
            for (int k = 0; k < device::RotationShape<kHeadDim>::kPadded / 32; ++k) reference[k] = from ? from[lane + 32 * k] : std::uint16_t{0};
        }
        centre<kHeadDim, 32>(p, layout, true, token.slot, head, x, [&](int k) { return reference[k]; });
    }
    code_row<kHeadDim, 32>(p, layout, shared.levels, value, true, token.slot, head, x, row);
}

// Codes the vectors of neighbouring tokens i, i + 1, ... of one side, kGroupLanes lanes each: the least work for many.
template <int kHeadDim>
__device__ __forceinline__ void code_by_groups(const AppendParams& p, const PageLayout& layout, const AppendShared<kHeadDim>& shared, int first, int i, int num, bool value, int head, std::uint8_t* row0) {
    constexpr int kLanes = kGroupLanes<kHeadDim>;
    const int lane = threadIdx.x % kLanes, own = i + (threadIdx.x & 31) / kLanes;
    const bool wanted = own < num && shared.tokens[min(own, num - 1)].slot >= 0;
    const AppendToken& token = shared.tokens[wanted ? own : i];
    const std::int64_t slot = wanted ? token.slot : 0;
    float x[device::kEncodeNumbers<kHeadDim, kLanes>];
    load_row<kHeadDim, kLanes>(p, value, wanted, first + own, head, x);
    if (!value) {
        const std::uint16_t* from = wanted ? find_reference(p, layout.keys(), shared, token, head) : nullptr;
        centre<kHeadDim, kLanes>(p, layout, wanted, slot, head, x, [&](int k) { return from ? from[lane + kLanes * k] : std::uint16_t{0}; });
    }
    code_row<kHeadDim, kLanes>(p, layout, shared.levels, value, wanted, slot, head, x, row0 + own * kCodeStride<kHeadDim>);
}

// [2][tile][kStride] codes; before, the rows of a run.
#ifdef __CUDACC__
extern __shared__ __align__(16) std::uint8_t append_codes[];
#else
extern std::uint8_t append_codes[];  // tests/cuda/append_test.cpp plays the kernel
#endif

template <int kHeadDim>
__global__ void __launch_bounds__(kAppendThreads, 2) append_kernel(const __grid_constant__ AppendParams p, const __grid_constant__ PageLayout layout) {
    constexpr int D = device::RotationShape<kHeadDim>::kPadded, kStride = kCodeStride<kHeadDim>;
    __shared__ AppendShared<kHeadDim> shared;
    std::uint8_t* codes = append_codes;
    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    const int head = blockIdx.x % p.kv_heads, first = blockIdx.x / p.kv_heads * p.tile, num = min(p.tile, p.tokens - first);
    if (p.early) {
        device::launch_dependents();
        device::wait_for_predecessor();
    }
    // Few tokens: a warp codes one vector at a time; the first one's numbers are on their way before it is known where they go.
    const bool by_warp = p.tile < kFewTokens;
    float x[device::kEncodeNumbers<kHeadDim, 32>] = {};
    if (by_warp && warp < 2 * num) load_row<kHeadDim, 32>(p, warp % 2, true, first + warp / 2, head, x);
    for (int i = thread; i < kWindow; i += kAppendThreads) {
        const int at = first - kBefore + i;
        shared.slots[i] = at >= 0 && at < p.tokens ? p.slots[at] : -1;
    }
    with_bits(p.sides[0].book.bits, [&](auto bits) {
        constexpr int kBits = decltype(bits)::value;
        if constexpr (kBits != 8) {
            if (lane < 8) device::fill_level_row<kBits>(shared.levels[0], warp, lane);
        }
    });
    with_bits(p.sides[1].book.bits, [&](auto bits) {
        constexpr int kBits = decltype(bits)::value;
        if constexpr (kBits != 8) {
            if (lane < 8) device::fill_level_row<kBits>(shared.levels[1], warp, lane);
        }
    });
    if (thread < 2 * kMeans) shared.mean_rows[thread / 2][thread % 2] = 0;
    if (thread < kWindow / 32 + 2) shared.links.words[thread] = 0;
    __syncthreads();
    const std::int64_t* slots = shared.slots;
    for (int i = thread; i < kWindow; i += kAppendThreads) {  // whole warps
        const bool linked = i > 0 && slots[i - 1] >= 0 && slots[i] == slots[i - 1] + 1 && place_of(slots[i]) != 0;
        const unsigned word = __ballot_sync(~0u, linked);
        if (lane == 0) shared.links.words[i / 32] = word;
    }
    std::uint16_t reference[D / 32] = {};
    if (by_warp && warp < 2 * num && warp % 2 == 0 && slots[kBefore + warp / 2] >= 0) load_own_reference<kHeadDim>(p, layout.keys(), slots[kBefore + warp / 2], head, reference);
    __syncthreads();
    bool wants_mean = false;
    if (thread < num) {
        const AppendToken token = describe_token(p, slots, shared.links, thread, first);
        shared.tokens[thread] = token;
        wants_mean = token.source == Source::mean;
    }
    if (warp == kAppendWarps - 1) {  // where neighbours in one page begin within the tile; skipped slots stand alone
        const std::uint64_t inside = shared.links.from(kBefore) & ~1ull, begins = ~inside & (~0ull >> (kMaxTile - num));
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int i = lane + 32 * half;
            if (begins >> i & 1) shared.run_from[__popcll(begins & ((1ull << i) - 1))] = static_cast<std::uint8_t>(i);
        }
        if (lane == 0) {
            shared.num_runs = __popcll(begins);
            shared.run_from[shared.num_runs] = static_cast<std::uint8_t>(num);
        }
    }
    if (__syncthreads_or(wants_mean)) {
        if (warp == 0) {  // the long runs whose means are needed, each once
            std::int32_t latest = -1;
            int count = 0;
            for (int half = 0; half < kMaxTile && half < num; half += 32) {
                const int i = half + lane;
                const bool wanted = i < num && shared.tokens[i].source == Source::mean && shared.tokens[i].run_length >= kLongRun;
                const std::int32_t run = wanted ? shared.tokens[i].run : -1;
                unsigned left = __ballot_sync(~0u, wanted && run > latest);
                while (left) {
                    const int who = __ffs(left) - 1;
                    latest = __shfl_sync(~0u, run, who);
                    if (lane == 0) shared.mean_run[count] = latest;
                    if (lane == who) shared.mean_length[count] = shared.tokens[i].run_length;
                    ++count;
                    left = __ballot_sync(~0u, wanted && run > latest);
                }
            }
            if (lane == 0) shared.num_means = count;
        }
        __syncthreads();
        for (int m = 0; m < shared.num_means; ++m) mean_of_long_run<kHeadDim>(p, shared.mean_run[m], shared.mean_length[m], head, shared.mean_rows[m], shared.means[m],
                                                                                 reinterpret_cast<std::uint16_t*>(codes));
        __syncthreads();
    }

    constexpr int kTogether = 32 / kGroupLanes<kHeadDim>;
    const int together = by_warp ? 1 : kTogether, batches = (num + together - 1) / together;
    for (int job = warp; job < 2 * batches; job += kAppendWarps) {
        const bool value = job % 2;
        const int i = job / 2 * together;
        std::uint8_t* row0 = codes + (value ? p.tile : 0) * kStride;
        if (!by_warp) {
            const AppendToken& token = shared.tokens[min(i + lane % kTogether, num - 1)];
            if (!__any_sync(~0u, !value && token.slot >= 0 && token.source == Source::mean && token.run_length < kLongRun)) {
                code_by_groups<kHeadDim>(p, layout, shared, first, i, num, value, head, row0);
                continue;
            }
        }
        for (int n = i; n < min(i + together, num); ++n) {
            if (shared.tokens[n].slot < 0) continue;
            if (!by_warp || job != warp) {
                load_row<kHeadDim, 32>(p, value, true, first + n, head, x);
                if (!value) load_own_reference<kHeadDim>(p, layout.keys(), shared.tokens[n].slot, head, reference);
            }
            code_by_warp<kHeadDim>(p, layout, shared, shared.tokens[n], value, head, x, reference, row0 + n * kStride);
            if (!by_warp) continue;
            __syncwarp();
            if constexpr (kTokensStandAlone<kHeadDim>) write_one<kHeadDim>(p, layout, value, shared.tokens[n].slot, head, row0 + n * kStride);
            else write_run<kHeadDim>(p, layout, value, shared.tokens[n].slot, 1, head, row0 + n * kStride, 0, 1);
        }
    }
    if (by_warp) return;
    __syncthreads();
    for (int run = 0; run < shared.num_runs; ++run) {
        const int from = shared.run_from[run], length = shared.run_from[run + 1] - from;
        const std::int64_t slot = shared.tokens[from].slot;
        if (slot < 0) continue;
#pragma unroll 1
        for (int value = 0; value < 2; ++value) {  // which warp begins goes round, for runs that have few groups
            write_run<kHeadDim>(p, layout, value, slot, length, head, codes + (value * p.tile + from) * kStride, (warp + run) % kAppendWarps, kAppendWarps);
        }
    }
}

}  // namespace turboquant::cuda

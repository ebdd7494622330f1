// Codes new rows into their slots. A CTA takes `tile` neighbouring tokens of one KV head: it finds their runs, settles the references, its
// warps code rows, one or several at a time, and the codes go into the pages word by word. Compile with -fmad=false.
#pragma once

#include "core/page.hpp"
#include "cuda/append/policy.hpp"
#include "cuda/append/rows.cuh"
#include "cuda/device/dependent_launch.cuh"
#include "cuda/device/encode.cuh"
#include "cuda/device/pack.cuh"

namespace turboquant::cuda {

inline constexpr int kMaxTile = 64, kBefore = 3 * kPageTokens, kWindow = kBefore + kMaxTile + kPageTokens;
inline constexpr int kLongRun = 16;       // rows whose mean may be a reference although there is a page before
inline constexpr int kFewTokens = 16;      // of a tile: below, a warp has one vector at a time
inline constexpr int kMeans = 8;          // long runs that rows of one tile may refer to: at most six

enum class Source : std::int32_t { none, stored, mean };

struct AppendToken {
    std::int64_t slot;                    // negative: skipped
    std::int32_t page;                    // whose stored reference counts (Source::stored)
    std::int32_t run, run_length;         // first token of the run whose mean counts (Source::mean)
    Source source;
    bool starts_page;                     // the run begins with the page's first slot
};

__device__ inline bool is_finite(std::uint16_t half) { return (half & 0x7c00) != 0x7c00; }

// The page before the one that token `token` begins; negative: none.
__device__ inline std::int32_t page_before(const AppendParams& p, std::int32_t token) {
    if (p.query_start == nullptr || p.batch == 0 || token < p.query_start[0] || token >= p.query_start[p.batch]) return -1;
    int low = 0, high = p.batch;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (p.query_start[middle] <= token) low = middle; else high = middle;
    }
    const int position = p.lengths[low] - (p.query_start[low + 1] - token);
    return position < kPageTokens ? -1 : p.block_table[static_cast<std::int64_t>(low) * p.table_stride + position / kPageTokens - 1];
}

// Which slots follow the one before them in the same page: bit i % 32 of word i / 32 for entry i of the window.
struct Links {
    std::uint32_t words[kWindow / 32 + 2];  // the last ones are zero

    __device__ std::uint64_t from(int i) const {  // bits i .. i + 63
        const std::uint32_t a = words[i / 32], b = words[i / 32 + 1], c = words[i / 32 + 2];
        return static_cast<std::uint64_t>(__funnelshift_r(b, c, i)) << 32 | __funnelshift_r(a, b, i);
    }
    __device__ int begin_of_run(int i) const { return i - __clzll(~from(i - 63)); }
    __device__ int end_of_run(int i) const { return i + __ffsll(static_cast<long long>(~from(i + 1))); }  // i: any of the run
};
static_assert(kBefore >= 2 * kPageTokens + 63, "runs are looked for backwards");

// slots: those of tokens [first - kBefore, first + kMaxTile + 64), -1 outside.
__device__ inline AppendToken describe_token(const AppendParams& p, const std::int64_t* slots, const Links& links, int i, int first) {
    AppendToken token{};
    const int at = kBefore + i;
    token.slot = slots[at];
    token.source = Source::none;
    if (token.slot < 0) return token;
    int begin = links.begin_of_run(at), end = links.end_of_run(at);
    // Where slots of the page were skipped in this call, the run that begins the page counts, if it is in this call.
    const int place = static_cast<int>(slots[begin] % kPageTokens);
    if (place != 0 && slots[begin - place] == slots[begin] - place) {
        begin -= place;
        end = links.end_of_run(begin);
    }
    token.starts_page = slots[begin] % kPageTokens == 0;
    token.page = static_cast<std::int32_t>(token.slot / kPageTokens);
    if (!p.centred) return token;
    token.source = Source::stored;
    if (!token.starts_page) return token;
    token.source = Source::mean;
    token.run = first - kBefore + begin;
    token.run_length = end - begin;
    if (token.run_length >= kLongRun) return token;
    const std::int32_t before = page_before(p, token.run);
    if (before < 0) return token;
    // The page before may begin in this very call: then its reference is the mean of its 64 rows, not what the page holds; or, if some of
    // these are skipped, whatever another CTA is about to settle: the run takes its own mean.
    if (slots[begin - kPageTokens] == static_cast<std::int64_t>(before) * kPageTokens) {
        const int other = links.begin_of_run(begin - 1);
        if (slots[begin - 1] != static_cast<std::int64_t>(before) * kPageTokens + kPageTokens - 1 || begin - other != kPageTokens) return token;
        token.run = first - kBefore + other;
        token.run_length = kPageTokens;
        return token;
    }
    token.source = Source::stored;
    token.page = before;
    return token;
}

// A long run's mean, by all threads of the CTA, with barriers. counted: [2] words in shared memory, zero before. staged: shared memory for the
// run's rows. It is done once per CTA, so its loops stay loops: fetching instructions takes longer than they do.
template <int kHeadDim>
__device__ __forceinline__ void mean_of_long_run(const AppendParams& p, std::int32_t run, int length, int head, std::uint32_t* counted, std::uint16_t* mean, std::uint16_t* staged) {
    constexpr int D = device::RotationShape<kHeadDim>::kPadded, kNum = D / 32, kRowsAtOnce = 4;
    static_assert(D <= kAppendThreads);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, dim = threadIdx.x;
    __syncthreads();  // the run before is read
    const auto stage = [&](auto&& half_at) {
#pragma unroll 1
        for (int first = warp; first < length; first += kRowsAtOnce * kAppendWarps) {
            std::uint16_t half[kRowsAtOnce][kNum];  // all loads before the first store
#pragma unroll
            for (int i = 0; i < kRowsAtOnce; ++i) {
                const int t = first + kAppendWarps * i;
#pragma unroll
                for (int k = 0; k < kNum; ++k) {
                    half[i][k] = t < length && (32 * (k + 1) <= kHeadDim || lane + 32 * k < kHeadDim) ? half_at(run + t, lane + 32 * k) : std::uint16_t{0};
                }
            }
#pragma unroll
            for (int i = 0; i < kRowsAtOnce; ++i) {
                const int t = first + kAppendWarps * i;
                bool finite = t < length;
#pragma unroll
                for (int k = 0; k < kNum; ++k) {
                    finite = finite && is_finite(half[i][k]);
                    if (t < length) staged[t * D + lane + 32 * k] = half[i][k];
                }
                if (__all_sync(~0u, finite) && lane == 0) atomicOr(counted + t / 32, 1u << (t % 32));
            }
        }
    };
    with_number(p.number, [&](auto number) {
        constexpr Number kNumber = decltype(number)::value;
        if (p.rope.half != 0) stage([&](std::int32_t token, int at) { return TurnedRow<kNumber>(p, token, head).half(at); });
        else stage([&](std::int32_t token, int at) { return RawRow<kNumber>(p.sides[0], token, head).half(at); });
    });
    __syncthreads();
    if (dim >= D) return;
    // The tree sum over 64 rows, of which those that do not count are zero: eight rows a turn, turns in the order in which the tree takes them.
    const std::uint64_t rows = static_cast<std::uint64_t>(counted[1]) << 32 | counted[0];
    float pair = 0, quarter = 0, half = 0;
#pragma unroll 1
    for (int turn = 0; turn < 8; ++turn) {
        const int first = turn >> 2 | (turn & 2) | (turn & 1) << 2;  // 0, 4, 2, 6, 1, 5, 3, 7
        const float sum = device::lane_sum<8>([&](auto n) {
            const int t = first + 8 * n;
            return rows >> t & 1 ? device::half_value(staged[t * D + dim]) : 0.0f;
        });
        pair = turn & 1 ? pair + sum : sum;
        if ((turn & 1) == 0) continue;
        quarter = turn & 2 ? quarter + pair : pair;
        if ((turn & 2) == 0) continue;
        half = turn & 4 ? half + quarter : quarter;
    }
    const int count = __popcll(rows);
    mean[dim] = count == 0 ? 0 : device::half_bits(half / static_cast<float>(count));
}

// A short run's mean, by a warp.
template <int kHeadDim>
__device__ __forceinline__ void mean_of_short_run(const AppendParams& p, std::int32_t run, int length, int head, std::uint16_t* mean) {
    constexpr int D = device::RotationShape<kHeadDim>::kPadded;
    const int lane = threadIdx.x & 31;
    with_number(p.number, [&](auto number) {
        constexpr Number kNumber = decltype(number)::value;
        std::uint32_t counted = 0;  // rows that have only finite numbers
#pragma unroll 1
        for (int t = 0; t < length; ++t) {
            bool finite = true;
            for (int dim = lane; dim < kHeadDim; dim += 32) finite = finite && is_finite(load_key<kNumber>(p, run + t, head, dim));
            if (__all_sync(~0u, finite)) counted |= 1u << t;
        }
        const int count = __popc(counted);
#pragma unroll 1
        for (int dim = lane; dim < D; dim += 32) {
            // The tree sum over 64 rows of which the first 16 may count: quarters of them in the order in which the tree takes them.
            float sum[2] = {0, 0};
#pragma unroll 1
            for (int i = 0; i < 4; ++i) {
                const int from = i >> 1 | (i & 1) << 1;  // 0, 2, 1, 3
                float row[4];
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    const bool counts = dim < kHeadDim && (counted >> (from + 4 * j) & 1);
                    row[j] = (counts ? device::half_value(load_key<kNumber>(p, run + from + 4 * j, head, dim)) : 0.0f) + 0.0f;
                }
                const float quarter = (row[0] + row[2]) + (row[1] + row[3]);
                if (i < 2) sum[0] = i == 0 ? quarter : sum[0] + quarter;
                else sum[1] = i == 2 ? quarter : sum[1] + quarter;
            }
            mean[dim] = count == 0 ? 0 : device::half_bits((sum[0] + sum[1]) / static_cast<float>(count));
        }
    });
    __syncwarp();
}

// Rows of codes in shared memory are so far apart that lanes find theirs in different banks.
template <int kHeadDim>
constexpr int kCodeStride = device::RotationShape<kHeadDim>::kPadded + 4;

// The groups that hold codes of a page's tokens [place, place + length), one after another.
template <int kHeadDim>
struct Groups {
    static constexpr int D = device::RotationShape<kHeadDim>::kPadded;
    int first, last;

    __device__ Groups(bool value, int place, int length) {
        const int end = place + length - 1;
        first = value ? place / 32 * (D / 32) : place / 8 * (D / 4) / 32;
        last = value ? end / 32 * (D / 32) + D / 32 - 1 : (end / 8 * (D / 4) + D / 4 - 1) / 32;
    }
};

// Which tokens of a page have codes in a group, of any lane.
template <int kHeadDim, Side kSide>
__device__ __forceinline__ std::uint64_t tokens_of_group(int group) {
    constexpr int D = device::RotationShape<kHeadDim>::kPadded;
    if (kSide == Side::value) return 0xffffffffull << (group < D / 32 ? 0 : 32);
    const int first = 32 * group / (D / 4), last = (32 * group + 31) / (D / 4);  // rows of eight tokens
    return (~0ull >> (56 - 8 * (last - first))) << (8 * first);
}

// Writes one group of every lane, of the page's tokens that are present. row0: codes of the page's token 0. A warp.
template <int kHeadDim, int kBits, Side kSide>
__device__ __forceinline__ void write_group(std::uint8_t* part, const std::uint8_t* row0, std::uint64_t present, int group) {
    constexpr int D = device::RotationShape<kHeadDim>::kPadded, kStride = kCodeStride<kHeadDim>;
    constexpr PageSide kLayout{kSide, kHeadDim, kBits};
    const std::uint64_t own = tokens_of_group<kHeadDim, kSide>(group);
    std::uint32_t codes[8], words[kBits] = {};
    const auto word_at = [&](int w) { return reinterpret_cast<std::uint32_t*>(part + kLayout.word_offset(threadIdx.x & 31, kLayout.group_word(group, w))); };
    const auto code_at = [&](int token, int word) { return *reinterpret_cast<const std::uint32_t*>(row0 + token * kStride + 4 * word); };
    if ((present & own) == own) {
        device::group_codes<D, kSide>(group, code_at, codes);
        device::pack_group<kBits>(codes, words);
#pragma unroll
        for (int w = 0; w < kBits; ++w) *word_at(w) = words[w];
        return;
    }
    std::uint32_t covered[kBits];  // bits of the words that belong to tokens that are present
#pragma unroll 1
    for (int pass = 0; pass < 2; ++pass) {  // one code for both: it is run once, and what is fetched costs more than what is done
#pragma unroll
        for (int w = 0; w < kBits; ++w) covered[w] = words[w];
        device::group_codes<D, kSide>(
            group, [&](int token, int word) { return present >> token & 1 ? (pass == 0 ? 0x01010101u * ((1u << kBits) - 1) : code_at(token, word)) : 0u; }, codes);
        device::pack_group<kBits>(codes, words);
    }
#pragma unroll
    for (int w = 0; w < kBits; ++w) {
        if (covered[w] == ~0u) {
            *word_at(w) = words[w];
        } else if (covered[w]) {  // other bits belong to other tokens, which another CTA may be writing
            atomicAnd(word_at(w), ~covered[w]);
            if (words[w]) atomicOr(word_at(w), words[w]);
        }
    }
}

// Calls work(std::integral_constant) with the number of bits.
template <class Work>
__device__ __forceinline__ void with_bits(int bits, Work&& work) {
    if (bits == 4) work(std::integral_constant<int, 4>());
    else if (bits == 3) work(std::integral_constant<int, 3>());
    else if (bits == 2) work(std::integral_constant<int, 2>());
    else work(std::integral_constant<int, 8>());
}

__device__ __forceinline__ std::uint8_t* blob_of(const AppendParams& p, std::int64_t page, int head) {
    return p.pool + 128ull * (static_cast<std::uint64_t>(page) * p.page_units + static_cast<std::uint64_t>(head) * p.head_units);
}

// Writes every num_warps-th group of neighbouring tokens of one page, from slot on. row: codes of the first. A warp.
template <int kHeadDim>
__device__ __forceinline__ void write_run(const AppendParams& p, const PageLayout& layout, bool value, std::int64_t slot, int length, int head, const std::uint8_t* row, int warp, int num_warps) {
    const int place = static_cast<int>(slot % kPageTokens);
    const std::uint64_t present = (~0ull >> (kPageTokens - length)) << place;
    std::uint8_t* part = blob_of(p, slot / kPageTokens, head) + (value ? layout.offset(Side::value) : 0);
    const std::uint8_t* row0 = row - place * kCodeStride<kHeadDim>;
    const Groups<kHeadDim> groups(value, place, length);
#pragma unroll 1
    for (int group = groups.first + warp; group <= groups.last; group += num_warps) {
        with_bits(p.sides[value].book.bits, [&](auto bits) {
            if (value) write_group<kHeadDim, decltype(bits)::value, Side::value>(part, row0, present, group);
            else write_group<kHeadDim, decltype(bits)::value, Side::key>(part, row0, present, group);
        });
    }
}

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
        std::uint8_t* part = blob_of(p, slot / kPageTokens, head) + (value ? layout.offset(Side::value) : 0);
        reinterpret_cast<std::uint16_t*>(part + layout.of(value ? Side::value : Side::key).scales_offset())[PageSide::scale_index(static_cast<int>(slot % kPageTokens))] = scale;
    }
}

// Subtracts the reference from a key and, if the token is the page's first, stores it there.
template <int kHeadDim, int kLanes, class Reference>
__device__ __forceinline__ void centre(const AppendParams& p, const PageLayout& layout, bool wanted, std::int64_t slot, int head, float* x, Reference&& reference) {
    constexpr int D = device::RotationShape<kHeadDim>::kPadded;
    const int lane = threadIdx.x % kLanes;
    auto* kept = reinterpret_cast<std::uint16_t*>(blob_of(p, slot / kPageTokens, head) + layout.keys().reference_offset());
#pragma unroll
    for (int k = 0; k < D / kLanes; ++k) {
        const std::uint16_t own = wanted ? reference(k) : 0;
        if (kLanes * k < kHeadDim && (kLanes * (k + 1) <= kHeadDim || lane + kLanes * k < kHeadDim)) x[k] = x[k] - device::half_value(own);
        if (wanted && slot % kPageTokens == 0) kept[lane + kLanes * k] = own;
    }
}

// Codes one vector by a whole warp: the least time for one. x: its numbers.
template <int kHeadDim>
__device__ __forceinline__ void code_by_warp(const AppendParams& p, const PageLayout& layout, AppendShared<kHeadDim>& shared, const AppendToken& token, bool value, int head, float* x, std::uint8_t* row) {
    const int lane = threadIdx.x & 31;
    if (!value) {
        const std::uint16_t* from = shared.short_means[threadIdx.x / 32];
        if (token.source != Source::mean || token.run_length >= kLongRun) from = find_reference(p, layout.keys(), shared, token, head);
        else mean_of_short_run<kHeadDim>(p, token.run, token.run_length, head, shared.short_means[threadIdx.x / 32]);
        centre<kHeadDim, 32>(p, layout, true, token.slot, head, x, [&](int k) { return from ? from[lane + 32 * k] : std::uint16_t{0}; });
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
        const bool linked = i > 0 && slots[i - 1] >= 0 && slots[i] == slots[i - 1] + 1 && slots[i] % kPageTokens != 0;
        const unsigned word = __ballot_sync(~0u, linked);
        if (lane == 0) shared.links.words[i / 32] = word;
    }
    if (by_warp && warp < 2 * num && warp % 2 == 0 && lane < D / 16) {  // the reference that most likely counts, on its way too
        const std::int64_t slot = slots[kBefore + warp / 2];
        if (slot >= 0) device::prefetch_l2(blob_of(p, slot / kPageTokens, head) + layout.keys().reference_offset() + 32 * lane);
    }
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
            if (!by_warp || job != warp) load_row<kHeadDim, 32>(p, value, true, first + n, head, x);
            code_by_warp<kHeadDim>(p, layout, shared, shared.tokens[n], value, head, x, row0 + n * kStride);
            if (!by_warp) continue;
            __syncwarp();
            write_run<kHeadDim>(p, layout, value, shared.tokens[n].slot, 1, head, row0 + n * kStride, 0, 1);
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

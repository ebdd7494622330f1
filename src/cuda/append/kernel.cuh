// Codes new rows into their slots. A CTA takes `tile` neighbouring tokens of one KV head: it finds their runs, settles the references, its
// warps code one row after another, and the codes go into the pages word by word. Compile with -fmad=false.
#pragma once

#include "core/page.hpp"
#include "cuda/append/params.hpp"
#include "cuda/device/bulk_copy.cuh"
#include "cuda/device/encode.cuh"

namespace turboquant::cuda {

inline constexpr int kAppendThreads = 256, kAppendWarps = kAppendThreads / 32;
inline constexpr int kMaxTile = 64, kBefore = 3 * kPageTokens, kWindow = kBefore + kMaxTile + kPageTokens;
inline constexpr int kLongRun = 16;       // rows whose mean may be a reference although there is a page before
inline constexpr int kMeans = 8;          // long runs that rows of one tile may refer to: at most six

enum class Source : std::int32_t { none, stored, mean };

struct AppendToken {
    std::int64_t slot;                    // negative: skipped
    std::int32_t page;                    // whose stored reference counts (Source::stored)
    std::int32_t run, run_length;         // first token of the run whose mean counts (Source::mean)
    Source source;
    bool starts_page;                     // the run begins with the page's first slot
};

// Number of a row as binary16 bits.
__device__ inline std::uint16_t load_half(const AppendSide& side, Number number, std::int64_t token, int head, int dim) {
    const std::int64_t at = token * side.token_stride + head * side.head_stride + dim;
    if (number == Number::bf16) return device::half_bits(__uint_as_float(static_cast<std::uint32_t>(static_cast<const std::uint16_t*>(side.rows)[at]) << 16));
    if (number == Number::fp16) return static_cast<const std::uint16_t*>(side.rows)[at];
    return device::half_bits(static_cast<const float*>(side.rows)[at]);
}

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

// slots: those of tokens [first - kBefore, first + kMaxTile + 64), -1 outside.
__device__ inline AppendToken describe_token(const AppendParams& p, const std::int64_t* slots, int i, int first) {
    AppendToken token{};
    const int at = kBefore + i;
    token.slot = slots[at];
    token.source = Source::none;
    if (token.slot < 0) return token;
    const auto linked = [&](int k) { return slots[k] == slots[k - 1] + 1 && slots[k] % kPageTokens != 0 && slots[k - 1] >= 0; };
    int begin = at, end = at + 1;
    while (begin > 1 && linked(begin)) --begin;
    while (end < kWindow && linked(end)) ++end;
    // Where slots of the page were skipped in this call, the run that begins the page counts, if it is in this call.
    const int place = static_cast<int>(slots[begin] % kPageTokens);
    if (place != 0 && slots[begin - place] == slots[begin] - place) {
        begin -= place;
        end = begin + 1;
        while (linked(end)) ++end;
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
    int other = begin - 1;
    while (other > 1 && linked(other)) --other;
    if (slots[begin - kPageTokens] == static_cast<std::int64_t>(before) * kPageTokens) {
        if (slots[begin - 1] != static_cast<std::int64_t>(before) * kPageTokens + kPageTokens - 1 || begin - other != kPageTokens) return token;
        token.run = first - kBefore + other;
        token.run_length = kPageTokens;
        return token;
    }
    token.source = Source::stored;
    token.page = before;
    return token;
}

// Mean of a run's rows, number `dim`, in binary16: the tree sum over 64 rows, rows that do not count being zero.
__device__ inline std::uint16_t mean_of_run(const AppendParams& p, std::int32_t run, int length, std::uint64_t counted, int head, int dim) {
    float column[kPageTokens];
#pragma unroll
    for (int t = 0; t < kPageTokens; ++t) {
        column[t] = t < length && counted >> t & 1 ? device::half_value(load_half(p.keys, p.number, run + t, head, dim)) : 0.0f;
    }
#pragma unroll
    for (int h = kPageTokens / 2; h >= 1; h /= 2) {
#pragma unroll
        for (int t = 0; t < h; ++t) column[t] = column[t] + column[t + h];
    }
    const int count = __popcll(counted);
    return count == 0 ? 0 : device::half_bits(column[0] / static_cast<float>(count));
}

// Which of a run's rows have only finite numbers. A warp.
template <int kHeadDim>
__device__ std::uint64_t finite_rows(const AppendParams& p, std::int32_t run, int length, int head, int first, int step) {
    std::uint64_t counted = 0;
    for (int t = first; t < length; t += step) {
        bool finite = true;
        for (int dim = threadIdx.x & 31; dim < kHeadDim; dim += 32) finite = finite && is_finite(load_half(p.keys, p.number, run + t, head, dim));
        if (__all_sync(~0u, finite)) counted |= 1ull << t;
    }
    return counted;
}

// Writes the codes of the tile's tokens [from, to), which are neighbours in one page, of one side. codes: [kMaxTile][d] bytes.
template <int kHeadDim>
__device__ void write_codes(const PageSide& layout, std::uint8_t* part, const std::uint8_t* codes, int from, int to, int place) {
    constexpr int D = device::RotationShape<kHeadDim>::kPadded;
    const std::uint64_t present = (to - from == kPageTokens ? ~0ull : (1ull << (to - from)) - 1) << place;
    const std::uint8_t* row0 = codes + (from - place) * D;  // of the page's token 0
    for (int job = threadIdx.x; job < kWarpLanes * D / 16; job += kAppendThreads) {
        const int lane = job % kWarpLanes, group = job / kWarpLanes, g = lane / 4, t = lane % 4;
        std::uint32_t words[8] = {}, masks[8] = {};
        bool any = false;
#pragma unroll 8
        for (int n = 0; n < 32; ++n) {
            int token, dim;
            if (layout.side == Side::key) {
                const int position = 32 * group + n;
                token = 8 * (position / (D / 4)) + g;
                dim = D / 4 * t + position % (D / 4);
            } else {
                const int s = group / (D / 32), j = group % (D / 32), b = n & 3;
                token = 32 * s + 16 * (n >> 4) + 8 * (b / 2) + 2 * t + b % 2;
                dim = D / 8 * g + 4 * j + 2 * (n >> 3 & 1) + (n >> 2 & 1);
            }
            if (!(present >> token & 1)) continue;
            any = true;
            const std::uint32_t code = row0[token * D + dim];
            for (int i = 0; i < layout.num_pieces(n); ++i) {
                const auto piece = layout.piece(n, i);
                words[piece.word] |= (code >> piece.from & ((1u << piece.width) - 1)) << piece.shift;
                masks[piece.word] |= ((1u << piece.width) - 1) << piece.shift;
            }
        }
        if (!any) continue;
        for (int w = 0; w < layout.bits; ++w) {
            auto* to_word = reinterpret_cast<std::uint32_t*>(part + layout.word_offset(lane, layout.group_word(group, w)));
            if (masks[w] == ~0u) {
                *to_word = words[w];
            } else if (masks[w]) {  // other bits belong to other tokens, which another CTA may be writing
                atomicAnd(to_word, ~masks[w]);
                if (words[w]) atomicOr(to_word, words[w]);
            }
        }
    }
}

template <int kHeadDim>
__global__ void __launch_bounds__(kAppendThreads) append_kernel(const __grid_constant__ AppendParams p, const __grid_constant__ PageLayout layout) {
    constexpr int D = device::RotationShape<kHeadDim>::kPadded, kNum = D / 32;
    __shared__ std::int64_t slots[kWindow];
    __shared__ AppendToken tokens[kMaxTile];
    __shared__ std::int32_t mean_run[kMeans];
    __shared__ std::uint32_t mean_rows[kMeans][2];
    __shared__ std::uint16_t means[kMeans][D];
    __shared__ int num_means;
    extern __shared__ std::uint8_t codes[];  // [2][tile][D]
    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    const int head = blockIdx.x % p.kv_heads, first = blockIdx.x / p.kv_heads * p.tile, num = min(p.tile, p.tokens - first);
    if (p.early) {
        device::launch_dependents();
        device::wait_for_predecessor();
    }
    for (int i = thread; i < kWindow; i += kAppendThreads) {
        const int at = first - kBefore + i;
        slots[i] = at >= 0 && at < p.tokens ? p.slots[at] : -1;
    }
    if (thread == 0) num_means = 0;
    __syncthreads();
    if (thread < num) tokens[thread] = describe_token(p, slots, thread, first);
    __syncthreads();
    if (thread == 0) {  // the long runs whose means are needed, each once
        int count = 0;
        std::int32_t latest = -1;
        for (int i = 0; i < num; ++i) {
            if (tokens[i].source != Source::mean || tokens[i].run_length < kLongRun || tokens[i].run <= latest) continue;
            latest = mean_run[count++] = tokens[i].run;
        }
        num_means = count;
    }
    if (thread < 2 * kMeans) mean_rows[thread / 2][thread % 2] = 0;
    __syncthreads();
    for (int m = 0; m < num_means; ++m) {
        const std::int32_t run = mean_run[m];
        int length = 0;
        for (int i = 0; i < num; ++i) {
            if (tokens[i].source == Source::mean && tokens[i].run == run) length = tokens[i].run_length;
        }
        const std::uint64_t mine = finite_rows<kHeadDim>(p, run, length, head, warp, kAppendWarps);
        if (lane == 0) {
            atomicOr(&mean_rows[m][0], static_cast<std::uint32_t>(mine));
            atomicOr(&mean_rows[m][1], static_cast<std::uint32_t>(mine >> 32));
        }
        __syncthreads();
        const std::uint64_t counted = static_cast<std::uint64_t>(mean_rows[m][1]) << 32 | mean_rows[m][0];
        for (int dim = thread; dim < D; dim += kAppendThreads) means[m][dim] = dim < kHeadDim ? mean_of_run(p, run, length, counted, head, dim) : 0;
    }
    __syncthreads();

    for (int job = warp; job < 2 * num; job += kAppendWarps) {
        const int i = job / 2;
        const bool value = job % 2;
        const AppendToken token = tokens[i];
        if (token.slot < 0) continue;
        const AppendSide& side = value ? p.values : p.keys;
        const PageSide part = layout.of(value ? Side::value : Side::key);
        std::uint8_t* blob = p.pool + 128ull * (static_cast<std::uint64_t>(token.slot / kPageTokens) * p.page_units + static_cast<std::uint64_t>(head) * p.head_units);
        std::uint8_t* to = blob + (value ? layout.offset(Side::value) : 0);
        float x[kNum];
        std::uint16_t reference[kNum];
#pragma unroll
        for (int k = 0; k < kNum; ++k) {
            const int dim = lane + 32 * k;
            x[k] = dim < kHeadDim ? device::half_value(load_half(side, p.number, first + i, head, dim)) : 0.0f;
            reference[k] = 0;
        }
        if (!value) {
            if (token.source == Source::stored) {
                const auto* stored = reinterpret_cast<const std::uint16_t*>(
                    p.pool + 128ull * (static_cast<std::uint64_t>(token.page) * p.page_units + static_cast<std::uint64_t>(head) * p.head_units) + part.reference_offset());
#pragma unroll
                for (int k = 0; k < kNum; ++k) reference[k] = stored[lane + 32 * k];
            } else if (token.source == Source::mean && token.run_length >= kLongRun) {
                int m = 0;
                while (mean_run[m] != token.run) ++m;
#pragma unroll
                for (int k = 0; k < kNum; ++k) reference[k] = means[m][lane + 32 * k];
            } else if (token.source == Source::mean) {
                const std::uint64_t counted = finite_rows<kHeadDim>(p, token.run, token.run_length, head, 0, 1);
                for (int k = 0; k < kNum; ++k) {
                    const int dim = lane + 32 * k;
                    reference[k] = dim < kHeadDim ? mean_of_run(p, token.run, token.run_length, counted, head, dim) : 0;
                }
            }
#pragma unroll
            for (int k = 0; k < kNum; ++k) {
                if (lane + 32 * k < kHeadDim) x[k] = x[k] - device::half_value(reference[k]);
                if (token.slot % kPageTokens == 0) reinterpret_cast<std::uint16_t*>(to + part.reference_offset())[lane + 32 * k] = reference[k];
            }
        }
        std::uint8_t own[kNum];
        const std::uint16_t scale = device::encode_vector<kHeadDim>(side.book, x, p.norm, side.rotation.sign, side.rotation.paley, own);
#pragma unroll
        for (int k = 0; k < kNum; ++k) codes[((value ? p.tile : 0) + i) * D + lane + 32 * k] = own[k];
        if (lane == 0) reinterpret_cast<std::uint16_t*>(to + part.scales_offset())[PageSide::scale_index(static_cast<int>(token.slot % kPageTokens))] = scale;
    }
    __syncthreads();

    for (int from = 0; from < num;) {
        int to = from + 1;
        const std::int64_t slot = tokens[from].slot;
        while (to < num && slot >= 0 && tokens[to].slot == slot + (to - from) && tokens[to].slot % kPageTokens != 0) ++to;
        if (slot >= 0) {
            std::uint8_t* blob = p.pool + 128ull * (static_cast<std::uint64_t>(slot / kPageTokens) * p.page_units + static_cast<std::uint64_t>(head) * p.head_units);
            write_codes<kHeadDim>(layout.keys(), blob, codes, from, to, static_cast<int>(slot % kPageTokens));
            write_codes<kHeadDim>(layout.values(), blob + layout.offset(Side::value), codes + p.tile * D, from, to, static_cast<int>(slot % kPageTokens));
        }
        from = to;
    }
}

}  // namespace turboquant::cuda

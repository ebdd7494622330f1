// Codes, a byte each in shared memory, go into the words of a page, of which some may belong to other tokens too.
#pragma once

#include <type_traits>

#include "core/page.hpp"
#include "cuda/append/params.hpp"
#include "cuda/device/pack.cuh"
#include "cuda/device/rotation.cuh"

namespace turboquant::cuda {

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

// Writes words of which `covered` says which bits count: other bits belong to other tokens, which another CTA may be writing.
template <int kBits, class WordAt>
__device__ __forceinline__ void merge_words(const std::uint32_t* words, const std::uint32_t* covered, WordAt&& word_at) {
#pragma unroll
    for (int w = 0; w < kBits; ++w) {
        if (covered[w] == ~0u) {
            *word_at(w) = words[w];
        } else if (covered[w]) {
            atomicAnd(word_at(w), ~covered[w]);
            if (words[w]) atomicOr(word_at(w), words[w]);
        }
    }
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
    merge_words<kBits>(words, covered, word_at);
}

// Head sizes of which a token's codes in a lane are whole groups of keys, or lie in one.
template <int kHeadDim>
constexpr bool kTokensStandAlone = 32 % (Groups<kHeadDim>::D / 4) == 0 || Groups<kHeadDim>::D % 128 == 0;

// As write_group() for all groups of one token of the page, whose codes are `row`. A warp: a lane takes what one lane of the page has of the token in
// one group, where write_group() would have most lanes look on, group after group.
template <int kHeadDim, int kBits, Side kSide>
__device__ __forceinline__ void write_token(std::uint8_t* part, const std::uint8_t* row, int token) {
    constexpr int D = Groups<kHeadDim>::D, kRun = D / 4;                       // a lane's keys of a token
    constexpr int kEach = kSide == Side::value ? D / 32 : kRun > 32 ? kRun / 32 : 1, kTasks = (kSide == Side::value ? 8 : 4) * kEach;
    constexpr PageSide kLayout{kSide, kHeadDim, kBits};
    constexpr std::uint32_t kCode = (1u << kBits) - 1;
#pragma unroll
    for (int task = threadIdx.x & 31; task < kTasks; task += 32) {
        const int part_of_lane = task / kEach, i = task % kEach;
        std::uint32_t codes[8], present[8], words[kBits], covered[kBits];
        int lane, group;
        if constexpr (kSide == Side::key) {
            lane = token % 8 * 4 + part_of_lane;
            group = token / 8 * kRun / 32 + i;
            const int first = token / 8 * kRun % 32 / 4;
#pragma unroll
            for (int c = 0; c < 8; ++c) {
                const bool own = kRun >= 32 || c / (kRun / 4) == first / (kRun / 4);
                codes[c] = own ? *reinterpret_cast<const std::uint32_t*>(row + kRun * part_of_lane + 32 * i + 4 * (kRun >= 32 ? c : c % (kRun / 4))) : 0;
                present[c] = own ? 0x01010101u * kCode : 0;
            }
        } else {
            lane = part_of_lane * 4 + token % 8 / 2;
            group = token / 32 * kEach + i;
            const int byte = 8 * (token / 8 % 2 * 2 + token % 2);
            const std::uint32_t four = *reinterpret_cast<const std::uint32_t*>(row + D / 8 * part_of_lane + 4 * i);
#pragma unroll
            for (int c = 0; c < 8; ++c) {
                const bool own = c / 4 == token / 16 % 2;
                codes[c] = own ? (four >> 8 * (c % 4) & 255) << byte : 0;
                present[c] = own ? kCode << byte : 0;
            }
        }
        device::pack_group<kBits>(codes, words);
        device::pack_group<kBits>(present, covered);
        merge_words<kBits>(words, covered, [&](int w) { return reinterpret_cast<std::uint32_t*>(part + kLayout.word_offset(lane, kLayout.group_word(group, w))); });
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

// Writes one token. A warp.
template <int kHeadDim>
__device__ __forceinline__ void write_one(const AppendParams& p, const PageLayout& layout, bool value, std::int64_t slot, int head, const std::uint8_t* row) {
    std::uint8_t* part = blob_of(p, page_of(slot), head) + (value ? layout.offset(Side::value) : 0);
    with_bits(p.sides[value].book.bits, [&](auto bits) {
        if (value) write_token<kHeadDim, decltype(bits)::value, Side::value>(part, row, place_of(slot));
        else write_token<kHeadDim, decltype(bits)::value, Side::key>(part, row, place_of(slot));
    });
}

// Writes every num_warps-th group of neighbouring tokens of one page, from slot on. row: codes of the first. A warp.
template <int kHeadDim>
__device__ __forceinline__ void write_run(const AppendParams& p, const PageLayout& layout, bool value, std::int64_t slot, int length, int head, const std::uint8_t* row, int warp, int num_warps) {
    const int place = place_of(slot);
    const std::uint64_t present = (~0ull >> (kPageTokens - length)) << place;
    std::uint8_t* part = blob_of(p, page_of(slot), head) + (value ? layout.offset(Side::value) : 0);
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

}  // namespace turboquant::cuda

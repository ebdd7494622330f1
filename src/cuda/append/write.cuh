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

}  // namespace turboquant::cuda

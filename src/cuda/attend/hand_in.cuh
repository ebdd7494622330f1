// How CTAs that share a unit put a row's pieces together. In two ways:
//   direct   up to eight CTAs and rows: the last CTA takes the others' pieces as they come. No fence and no counter stands between writing and reading: every
//            word says itself that it is there, by its lowest bit, for which a float of a sum can spare that place (so m is off by a place too: a weight by less
//            than 1e-4 as long as scores stay below 1,000). Who has taken a piece leaves zeros. A CTA waits for CTAs with lower numbers only, and hands its own
//            last piece over before: no circle. That those have started or will start without it is how GPUs deal out CTAs, though CUDA does not promise it.
//   counted  else: whoever brings the last piece takes all.
#pragma once

#include "cuda/attend/params.hpp"
#include "cuda/attend/piece.cuh"
#include "cuda/attend/policy.hpp"
#include "cuda/attend/sharing.cuh"
#include "cuda/device/bulk_copy.cuh"

namespace turboquant::cuda {

// A row as it is handed in: a lane's numbers side by side, as many at a time as one instruction takes, then m and l.
template <int kNum>
struct HandedRow {
    static constexpr int kTogether = kNum % 4 == 0 ? 4 : kNum % 2 == 0 ? 2 : 1;
    float* row;

    __device__ __forceinline__ float* numbers(int k) const { return row + 32 * k + kTogether * (threadIdx.x & 31); }
    __device__ __forceinline__ float* sums() const { return row + 32 * kNum; }

    __device__ __forceinline__ void put(const Piece<kNum>& piece) const {
#pragma unroll
        for (int k = 0; k < kNum; k += kTogether) {
            std::uint32_t x[kTogether];
#pragma unroll
            for (int i = 0; i < kTogether; ++i) x[i] = device::as_bits(piece.x[k + i]) | 1;
            device::store_relaxed<kTogether>(numbers(k), x);
        }
        const std::uint32_t two[2] = {device::as_bits(piece.m) | 1, device::as_bits(piece.l) | 1};
        if ((threadIdx.x & 31) == 0) device::store_relaxed<2>(sums(), two);
    }
    // What is there of the row; the result's lowest bit says whether that is all a lane wants.
    __device__ __forceinline__ std::uint32_t look(Piece<kNum>& piece) const {
        std::uint32_t x[kNum], two[2];
#pragma unroll
        for (int k = 0; k < kNum; k += kTogether) device::load_relaxed<kTogether>(numbers(k), x + k);
        device::load_relaxed<2>(sums(), two);
        std::uint32_t all = two[0] & two[1];
#pragma unroll
        for (int k = 0; k < kNum; ++k) {
            all &= x[k];
            piece.x[k] = device::as_float(x[k]);
        }
        piece.m = device::as_float(two[0]);
        piece.l = device::as_float(two[1] & ~1u);  // a row that has seen nothing is known by zero
        return all;
    }
    __device__ __forceinline__ void clear() const {
        constexpr std::uint32_t kZeros[4] = {};
#pragma unroll
        for (int k = 0; k < kNum; k += kTogether) device::store_relaxed<kTogether>(numbers(k), kZeros);
        if ((threadIdx.x & 31) == 0) device::store_relaxed<2>(sums(), kZeros);
    }
};

template <class Shape>
__device__ __forceinline__ std::uint32_t row_offset(const Sharing& sharing, std::uint32_t cta, int r) {
    return sharing.part_of(cta) * static_cast<std::uint32_t>(Shape::kPartial) + static_cast<std::uint32_t>(r * Shape::kRow);
}

// The last CTA's part of the direct way, if there are at most kMost others: sum becomes the whole.
template <int kMost, int kNum, class RowOf>
__device__ __forceinline__ void take_pieces(const Sharing& sharing, RowOf&& row_of, Piece<kNum>& sum) {
    Piece<kNum> piece[kMost];
    std::uint32_t all;
    do {
        all = 1;
#pragma unroll
        for (int i = 0; i < kMost; ++i) all &= row_of(min(sharing.first + i, sharing.last - 1)).look(piece[i]);
    } while (!__all_sync(~0u, all & 1));
    float top = sum.m;
#pragma unroll
    for (int i = 0; i < kMost; ++i) top = fmaxf(top, piece[i].m);
    Piece<kNum> whole;
    whole.clear();
    whole.m = top;
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
        if (sharing.first + i >= sharing.last) continue;
        whole.add(piece[i]);
        row_of(sharing.first + i).clear();
    }
    whole.add(sum);
    sum = whole;
}

// The direct way. True for the last CTA: then sum becomes the whole.
template <class Shape>
__device__ __forceinline__ bool hand_to_last(const AttendParams& p, const Sharing& sharing, int r, Piece<Shape::D / 32>& sum) {
    constexpr int kNum = Shape::D / 32, kFew = 3;
    const auto row_of = [&](std::uint32_t cta) { return HandedRow<kNum>{p.handed + row_offset<Shape>(sharing, cta, r)}; };
    if (blockIdx.x != sharing.last) {
        row_of(blockIdx.x).put(sum);
        return false;
    }
    if (sharing.last - sharing.first <= kFew) take_pieces<kFew>(sharing, row_of, sum);
    else take_pieces<kDirectSharers - 1>(sharing, row_of, sum);
    return true;
}

// Leaves row r of this CTA's piece where others find it. True for the warp that brings the last piece: then sum becomes the whole.
template <class Shape>
__device__ __forceinline__ bool hand_in(const AttendParams& p, const Sharing& sharing, int r, Piece<Shape::D / 32>& sum) {
    constexpr int kNum = Shape::D / 32, kMany = kNum <= 4 ? 16 : 8;
    if (Shape::kDirect && sharing.last - sharing.first < kDirectSharers) return hand_to_last<Shape>(p, sharing, r, sum);
    const auto row_of = [&](std::uint32_t cta) { return HandedRow<kNum>{p.partials + row_offset<Shape>(sharing, cta, r)}; };
    row_of(blockIdx.x).put(sum);
    __syncwarp();
    unsigned* counter = p.counters + sharing.first * kMostRows + r;
    unsigned arrived = 0;
    if ((threadIdx.x & 31) == 0) arrived = device::add_acquire_release(counter);
    if (__shfl_sync(~0u, arrived, 0) != sharing.last - sharing.first) return false;
    if ((threadIdx.x & 31) == 0) *counter = 0;
    const auto load = [&](std::uint32_t cta, Piece<kNum>& piece) { row_of(cta).look(piece); };
    if (!Shape::kDirect && sharing.last - sharing.first < 4) gather<4>(sharing.first, sharing.last, load, sum);
    else gather<kMany>(sharing.first, sharing.last, load, sum);
    return true;
}

}  // namespace turboquant::cuda

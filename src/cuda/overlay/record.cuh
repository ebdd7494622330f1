// New rows go into their pages' slots, as binary16; a page that loses its slot is sealed first: its reference becomes the mean of its rows
// and its codes are made from them, as append would have done with all of them at once. A CTA takes one (slot, KV head) after another.
// Compile with -fmad=false.
#pragma once

#include "cuda/append/means.cuh"
#include "cuda/append/write.cuh"
#include "cuda/device/dependent_launch.cuh"
#include "cuda/overlay/params.hpp"

namespace turboquant::cuda {

inline constexpr int kRecordThreads = 512, kRecordWarps = kRecordThreads / 32, kAssignThreads = 1024;

// The threads of one CTA as the team that assigns slots.
struct CtaTeam {
    std::int32_t* scratch;              // [33] in shared memory

    __device__ int rank() const { return threadIdx.x; }
    __device__ int size() const { return kAssignThreads; }
    __device__ int lane() const { return threadIdx.x & 31; }
    __device__ int lanes() const { return 32; }
    __device__ int group() const { return threadIdx.x >> 5; }
    __device__ int groups() const { return kAssignThreads / 32; }
    __device__ void sync() const { __syncthreads(); }
    __device__ std::int32_t take(std::int32_t* counter) const { return atomicAdd(counter, 1); }
    __device__ std::int32_t exchange(std::int32_t* at, std::int32_t value) const { return atomicExch(at, value); }
    __device__ std::int32_t scan(std::int32_t value, std::int32_t* all) const {
        std::int32_t sum = value;
#pragma unroll
        for (int o = 1; o < 32; o *= 2) {
            const std::int32_t before = __shfl_up_sync(~0u, sum, o);
            if (lane() >= o) sum += before;
        }
        __syncthreads();
        if (lane() == 31) scratch[group()] = sum;
        __syncthreads();
        const std::int32_t mine = scratch[lane()];
        *all = __reduce_add_sync(~0u, mine);
        return __reduce_add_sync(~0u, lane() < group() ? mine : 0) + sum - value;
    }
};
static_assert(kAssignThreads == 32 * 32);

static __global__ void __launch_bounds__(kAssignThreads) assign_kernel(const __grid_constant__ AssignParams p, int early) {
    __shared__ std::int32_t scratch[32];
    device::launch_dependents();
    if (early) device::wait_for_predecessor();
    CtaTeam team{scratch};
    assign_slots(team, p);
}

// Rows of one head and slot.
struct SlotRows {
    std::uint16_t* first;
    int head_dim;

    __device__ std::uint16_t* at(bool value, int place) const { return first + ((value ? kPageTokens : 0) + place) * head_dim; }
};

// page: whose rows they are; tokens that are mapped elsewhere are left out.
template <int kHeadDim>
__device__ void copy_rows(const RecordParams& p, const SlotRows& slot, std::int32_t page, const NewRows& rows, int head) {
    const int lane = threadIdx.x & 31;
    for (int job = threadIdx.x >> 5; job < 2 * rows.count; job += kRecordWarps) {
        const bool value = job & 1;
        const int row = job >> 1;
        if (p.places[rows.token + row] != static_cast<std::int64_t>(page) * kPageTokens + rows.place + row) continue;
        with_number(p.number, [&](auto number) {
            constexpr Number kNumber = decltype(number)::value;
            std::uint16_t* to = slot.at(value, rows.place + row);
            const std::int32_t token = rows.token + row;
            if (!value && p.rope.half != 0) {
                const TurnedRow<kNumber> from(p, token, head);
                for (int dim = lane; dim < kHeadDim; dim += 32) to[dim] = from.half(dim);
            } else {
                const RawRow<kNumber> from(p.sides[value], token, head);
                for (int dim = lane; dim < kHeadDim; dim += 32) to[dim] = from.half(dim);
            }
        });
    }
}

// What sealing works in.
template <int kHeadDim>
struct SealMemory {
    static constexpr int D = device::RotationShape<kHeadDim>::kPadded, kStride = kCodeStride<kHeadDim>;
    device::LevelTable levels[2];       // of keys, of values
    std::uint32_t finite[2];
    std::uint16_t mean[D];
    alignas(16) std::uint8_t codes[2][kPageTokens][kStride];
};

// The mean of the slot's keys, places 0 .. num - 1; rows with a number that is not finite do not count. All threads of the CTA.
template <int kHeadDim>
__device__ void mean_of_slot(const SlotRows& slot, int num, SealMemory<kHeadDim>& memory) {
    constexpr int D = SealMemory<kHeadDim>::D;
    const int dim = threadIdx.x;
    if (threadIdx.x < 2) memory.finite[threadIdx.x] = ~0u;
    __syncthreads();
    std::uint32_t half[kPageTokens / 2];
    if (dim < D) {
        std::uint32_t mine[2] = {~0u, ~0u};
#pragma unroll
        for (int t = 0; t < kPageTokens; ++t) {
            const std::uint16_t number = t < num && dim < kHeadDim ? slot.at(false, t)[dim] : 0;
            half[t / 2] = t % 2 == 0 ? number : half[t / 2] | static_cast<std::uint32_t>(number) << 16;
            if (!is_finite(number)) mine[t / 32] &= ~(1u << (t % 32));
        }
#pragma unroll
        for (int w = 0; w < 2; ++w) {
            const std::uint32_t all = __reduce_and_sync(~0u, mine[w]);
            if ((dim & 31) == 0) atomicAnd(memory.finite + w, all);
        }
    }
    __syncthreads();
    const std::uint64_t counted = (static_cast<std::uint64_t>(memory.finite[1]) << 32 | memory.finite[0]) & (~0ull >> (kPageTokens - num));
    if (dim < D) {
        const float sum = device::lane_sum<kPageTokens>([&](auto t) {  // of which rows that do not count are zero
            return counted >> t & 1 ? device::half_value(static_cast<std::uint16_t>(half[t / 2] >> (16 * (t % 2)))) : 0.0f;
        });
        const int count = __popcll(counted);
        memory.mean[dim] = count == 0 ? 0 : device::half_bits(sum / static_cast<float>(count));
    }
    __syncthreads();
}

template <int kHeadDim>
__device__ void seal(const RecordParams& p, const PageLayout& layout, const SlotRows& slot, std::int32_t page, int num, int head, SealMemory<kHeadDim>& memory) {
    constexpr int D = SealMemory<kHeadDim>::D, kNum = device::kEncodeNumbers<kHeadDim, 32>, kGroups = D / 16;
    static_assert(kNum == D / 32);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    std::uint8_t* blob = p.pool + 128ull * (static_cast<std::uint64_t>(page) * p.page_units + static_cast<std::uint64_t>(head) * p.head_units);
    mean_of_slot<kHeadDim>(slot, num, memory);
    for (int job = warp; job < 2 * num; job += kRecordWarps) {
        const int row = job >> 1;
        const bool value = job & 1;
        const AppendSide& side = p.sides[value];
        float x[kNum];
#pragma unroll
        for (int k = 0; k < kNum; ++k) {
            const int dim = lane + 32 * k;
            x[k] = dim < kHeadDim ? device::half_value(slot.at(value, row)[dim]) : 0.0f;
            if (!value && p.centred && dim < kHeadDim) x[k] = x[k] - device::half_value(memory.mean[dim]);
        }
        std::uint16_t scale = 0;
        with_bits(side.book.bits, [&](auto bits) {
            scale = device::encode_vector<kHeadDim, decltype(bits)::value, 32>(side.book, memory.levels[value], x, p.norm, side.rotation.sign, side.rotation.paley, [&](int k, int code) {
                const int dim = lane + 32 * k;
                memory.codes[value][row][dim] = static_cast<std::uint8_t>(dim < kHeadDim ? code : 0);
            });
        });
        if (lane == 0) {
            std::uint8_t* part = blob + layout.offset(value ? Side::value : Side::key);
            reinterpret_cast<std::uint16_t*>(part + layout.of(value ? Side::value : Side::key).scales_offset())[PageSide::scale_index(row)] = scale;
        }
    }
    if (threadIdx.x < D) reinterpret_cast<std::uint16_t*>(blob + layout.keys().reference_offset())[threadIdx.x] = p.centred ? memory.mean[threadIdx.x] : 0;
    __syncthreads();
    const std::uint64_t present = ~0ull >> (kPageTokens - num);
    for (int job = warp; job < 2 * kGroups; job += kRecordWarps) {
        const int group = job >> 1;
        const bool value = job & 1;
        with_bits(value ? layout.value_bits : layout.key_bits, [&](auto bits) {
            if (value) write_group<kHeadDim, decltype(bits)::value, Side::value>(blob + layout.offset(Side::value), memory.codes[1][0], present, group);
            else write_group<kHeadDim, decltype(bits)::value, Side::key>(blob, memory.codes[0][0], present, group);
        });
    }
    __syncthreads();
}

template <int kHeadDim>
__global__ void __launch_bounds__(kRecordThreads, 1) record_kernel(const __grid_constant__ RecordParams p, const __grid_constant__ PageLayout layout) {
    __shared__ SealMemory<kHeadDim> memory;
    device::launch_dependents();
#pragma unroll
    for (int side = 0; side < 2; ++side) {
        with_bits(p.sides[side].book.bits, [&](auto bits) {
            constexpr int kBits = decltype(bits)::value;
            if constexpr (kBits != 8) {
                if (threadIdx.x < 256 && threadIdx.x % 32 < 8) device::fill_level_row<kBits>(memory.levels[side], threadIdx.x / 32, threadIdx.x % 32);
            }
        });
    }
    __syncthreads();
    device::wait_for_predecessor();
    const int items = *p.tables.num_work * p.kv_heads;
    for (int item = blockIdx.x; item < items; item += gridDim.x) {
        const int number = p.tables.work[item / p.kv_heads], head = item % p.kv_heads;
        const SlotWork work = p.tables.todo[number];
        const SlotRows slot{p.rows + (static_cast<std::size_t>(number) * p.kv_heads + head) * (2 * kPageTokens * kHeadDim), kHeadDim};
        if (work.sealed >= 0) {
            copy_rows<kHeadDim>(p, slot, work.sealed, work.last_rows, head);
            __syncthreads();
            seal<kHeadDim>(p, layout, slot, work.sealed, work.sealed_rows, head, memory);
        }
        if (work.page >= 0) copy_rows<kHeadDim>(p, slot, work.page, work.rows, head);
    }
}

}  // namespace turboquant::cuda

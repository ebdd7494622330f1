// A team's stream of pages: a ring of bulk copies of whole blobs. One warp fills it, all four read. The references of eight pages, a batch, come
// once more and ahead of them, so that their products with the queries are worked out together.
#pragma once

#include "cuda/attend/plan.cuh"
#include "cuda/device/bulk_copy.cuh"

namespace turboquant::cuda {

template <class Shape, int kRows>
struct WideRing {
    const AttendParams& p;
    const Plan& plan;
    std::uint32_t begin, end;         // the team's items
    std::uint32_t memory;             // shared address of what the team has
    std::uint32_t now = 0, next = 0;  // blobs of the next 32 (64) items, one per lane, in units of 128 bytes from the pool
    std::uint32_t issued = 0, window = 0;  // window: `now` is that of items 32 window ..
    int slot = 0;
    std::uint32_t phase = 0;

    __device__ WideRing(const AttendParams& params, const Plan& the_plan, std::uint32_t first, std::uint32_t last, std::uint32_t memory_at)
        : p(params), plan(the_plan), begin(first), end(last), memory(memory_at) {}
    __device__ std::uint32_t barrier(int s) const { return memory + static_cast<std::uint32_t>(Shape::kBarriers) + 8 * s; }
    __device__ std::uint32_t at(int s) const { return memory + static_cast<std::uint32_t>(Shape::kRing) + s * static_cast<std::uint32_t>(Shape::kSlot); }

    // By the filling warp: a lane's blob of the 32 items from `item` on, whatever their units.
    __device__ std::uint32_t blob_of_lane(std::uint32_t item) const {
        const std::uint32_t own = min(item + (threadIdx.x & 31), end - 1);
        const Unit unit = unit_at<kRows>(plan, p, own);
        const int page = unit.first_page + static_cast<int>(own - unit.start);
        return static_cast<std::uint32_t>(__ldg(p.block_table + static_cast<std::int64_t>(unit.sequence) * p.table_stride + page)) * p.page_units + unit.kv_head() * p.head_units;
    }
    __device__ void start() {
        now = blob_of_lane(begin);
        if (begin + 32 < end) next = blob_of_lane(begin + 32);
        if ((threadIdx.x & 31) == 0) {
            for (int s = 0; s < Shape::kSlots; ++s) device::barrier_init(barrier(s));
            for (int s = 8; s < 10; ++s) device::barrier_init(barrier(s));
            device::barrier_fence();
        }
        __syncwarp();
#pragma unroll 1
        for (int s = 0; s < Shape::kSlots; ++s) issue(s);
        issue_references(0);
    }
    // The next page into slot s, which nobody reads any more.
    __device__ void issue(int s) {
        if ((issued & 31) == 0 && issued) {
            now = next;
            ++window;
            if (begin + issued + 32 < end) next = blob_of_lane(begin + issued + 32);
        }
        const std::uint32_t blob = __shfl_sync(~0u, now, issued & 31);
        if (begin + issued < end && (threadIdx.x & 31) == 0) {
            device::barrier_expect(barrier(s), static_cast<std::uint32_t>(Shape::kBlob));
            device::bulk_copy(at(s), p.pool + static_cast<std::uint64_t>(blob) * 128, static_cast<std::uint32_t>(Shape::kBlob), barrier(s));
        }
        ++issued;
    }
    // Batch n, that of items 8 n .. 8 n + 7 of the team's. Not further ahead than the pages by more than what `next` knows.
    __device__ void issue_references(std::uint32_t n) {
        const std::uint32_t first = 8 * n, lane = threadIdx.x & 31;
        if (begin + first >= end) return;
        const std::uint32_t blob = __shfl_sync(~0u, first >> 5 == window ? now : next, (first + lane) & 31), many = min(8u, end - begin - first);
        if (lane == 0) device::barrier_expect(barrier(8 + (n & 1)), many * 2 * Shape::D);
        __syncwarp();
        if (lane < many) {
            device::bulk_copy(references(first + lane), p.pool + static_cast<std::uint64_t>(blob) * 128 + Shape::kLayout.keys().reference_offset(), 2 * Shape::D, barrier(8 + (n & 1)));
        }
    }
    __device__ std::uint32_t references(std::uint32_t item) const { return memory + static_cast<std::uint32_t>(Shape::kReferences) + (item & 15) * 2 * Shape::D; }
    __device__ void wait_references(std::uint32_t n) const { device::barrier_wait(barrier(8 + (n & 1)), n >> 1 & 1); }
    // By everybody: the present page's shared address, the wait for it, the step to the next one.
    __device__ std::uint32_t page() const { return at(slot); }
    __device__ void wait() const { device::barrier_wait(barrier(slot), phase); }
    __device__ void advance() {
        if (++slot == Shape::kSlots) {
            slot = 0;
            phase ^= 1;
        }
    }
};

}  // namespace turboquant::cuda

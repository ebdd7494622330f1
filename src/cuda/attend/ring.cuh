// A warp's stream of pages: a ring of copies, key part and value part of one page after the other. Bulk copies complete on a barrier per slot;
// where there are none (Copies::async), lanes copy 16 bytes at a time, a group of copies per slot.
#pragma once

#include "cuda/attend/plan.cuh"
#include "cuda/attend/policy.hpp"
#include "cuda/device/async_copy.cuh"
#include "cuda/device/bulk_copy.cuh"

namespace turboquant::cuda {

template <class Shape, int kRows>
struct Ring {
    static constexpr bool kBulk = Shape::kCopies == Copies::bulk;
    const AttendParams& p;
    const Plan& plan;
    std::uint32_t begin, end;                // the warp's items
    std::uint32_t memory;                    // shared address of the warp's
    std::uint32_t now = 0, next = 0;         // blobs of the next 32 (64) items, one per lane, in units of 128 bytes from the pool
    bool now_old = false;                    // whether an append of this step leaves the page alone
    std::uint32_t issued = 0;                // parts issued so far
    int issue_slot = 0, take_slot = 0;
    std::uint32_t phase = 0;

    __device__ Ring(const AttendParams& params, const Plan& the_plan, std::uint32_t first, std::uint32_t last, std::uint32_t memory_at)
        : p(params), plan(the_plan), begin(first), end(last), memory(memory_at) {}

    // Of bulk copies into a slot.
    static __device__ std::uint32_t barrier(std::uint32_t memory, int slot) { return memory + static_cast<std::uint32_t>(Shape::kBarriers) + 8 * slot; }

    __device__ std::uint32_t blob_at(const Unit& unit, std::uint32_t item, bool* old) const {
        const int page = unit.first_page + static_cast<int>(item - unit.start);
        *old = page < (unit.length - unit.queries) / kPageTokens;
        return static_cast<std::uint32_t>(__ldg(p.block_table + static_cast<std::int64_t>(unit.sequence) * p.table_stride + page)) * p.page_units + unit.kv_head() * p.head_units;
    }
    // A lane's blob of the 32 items from `item` on, whatever their units.
    __device__ std::uint32_t blob_of_lane(std::uint32_t item) const {
        bool ignored;
        const std::uint32_t own = min(item + (threadIdx.x & 31), end - 1);
        return blob_at(unit_at<kRows>(plan, p, own), own, &ignored);
    }
    // Before the first issue, with the unit of the first item. Needs at least one item.
    __device__ void look_up(const Unit& unit) {
        const std::uint32_t own = min(begin + (threadIdx.x & 31), end - 1);
        now = min(begin + 31, end - 1) < unit.end() ? blob_at(unit, own, &now_old) : blob_at(unit_at<kRows>(plan, p, own), own, &now_old);
        if (begin + 32 < end) next = blob_of_lane(begin + 32);
    }
    // Whether the pages of the first filling may be read before the preceding kernel, an append, is complete.
    __device__ bool starts_old() const {
        return (__ballot_sync(~0u, now_old) & ((1u << ((Shape::kSlots + 1) / 2)) - 1)) == (1u << ((Shape::kSlots + 1) / 2)) - 1;
    }
    // Before the plan, so that no copy waits for it.
    static __device__ void init(std::uint32_t memory) {
        if constexpr (kBulk) {
            if ((threadIdx.x & 31) == 0) {
                for (int s = 0; s < Shape::kSlots; ++s) device::barrier_init(barrier(memory, s));
                device::barrier_fence();
            }
        }
    }
    __device__ void issue() {
        const std::uint32_t page = issued >> 1;
        if ((issued & 63) == 0 && issued) {
            now = next;
            if (begin + page + 32 < end) next = blob_of_lane(begin + page + 32);
        }
        const std::uint32_t blob = __shfl_sync(~0u, now, page & 31);
        const bool value = issued & 1;
        if constexpr (kBulk) {
            if (begin + page < end && (threadIdx.x & 31) == 0) {
                const std::uint8_t* from = p.pool + static_cast<std::uint64_t>(blob) * 128 + (value ? Shape::kKeyPart : 0);
                const std::uint32_t bytes = value ? Shape::kValuePart : Shape::kKeyPart;
                device::barrier_expect(barrier(memory, issue_slot), bytes);
                device::bulk_copy(memory + issue_slot * static_cast<std::uint32_t>(Shape::kSlot), from, bytes, barrier(memory, issue_slot));
            }
        } else {
            if (begin + page < end) {
                const std::uint8_t* from = p.pool + static_cast<std::uint64_t>(blob) * 128;
                const std::uint32_t to = memory + issue_slot * static_cast<std::uint32_t>(Shape::kSlot);
                if (value) device::async_copy<static_cast<int>(Shape::kValuePart)>(to, from + Shape::kKeyPart);
                else device::async_copy<static_cast<int>(Shape::kKeyPart)>(to, from);
            }
            device::async_commit();  // an empty group too: groups are counted
        }
        ++issued;
        issue_slot = issue_slot + 1 == Shape::kSlots ? 0 : issue_slot + 1;
    }
    __device__ void fill() {
        for (int s = 0; s < Shape::kSlots; ++s) issue();
    }
    // Waits for the next part; its shared address.
    __device__ std::uint32_t take() const {
        if constexpr (kBulk) {
            device::barrier_wait(barrier(memory, take_slot), phase);
        } else {
            device::async_wait<Shape::kSlots - 1>();
            __syncwarp();
        }
        return memory + take_slot * static_cast<std::uint32_t>(Shape::kSlot);
    }
    // The part has been read by all lanes: its slot is filled again.
    __device__ void release() {
        __syncwarp();
        issue();
        if (++take_slot == Shape::kSlots) { take_slot = 0; phase ^= 1; }
    }
};

// Whether a side's words are asked for in such an order that the first one of every 16 bytes comes first: keys group by group, values as
// PageMath::add_values does.
constexpr bool words_come_in_order(const PageSide& side) {
    bool loaded[64] = {};
    const int dims = side.padded_dim() / 32;
    for (int n = 0; n < side.padded_dim() / 16; ++n) {
        const int group = side.side == Side::key ? n : n % 2 * dims + n / 2;
        for (int w = 0; w < side.bits; ++w) {
            const int word = side.group_word(group, w);
            if (word % 4 == 0) loaded[word / 4] = true;
            if (!loaded[word / 4]) return false;
        }
    }
    return true;
}

// A lane's words of one side of a page in shared memory, loaded 16 bytes at a time; or, as kPieces is 2, those of one half of its tokens.
// Word numbers must be constants after unrolling.
template <class Shape, Side kSide, int kPieces = 1>
struct LaneWords {
    static constexpr PageSide kPart = Shape::kLayout.of(kSide);
    static constexpr int kWords = kPart.words_per_lane() / kPieces, kFull = kWords / 4, kRest = kWords % 4, kBlocks = kFull + (kRest ? 1 : 0);
    static_assert(kPieces == 1 || (kPart.words_per_lane() % kPieces == 0 && kRest == 0));
    static constexpr bool kInOrder = kPieces == 1 && words_come_in_order(kPart);
    std::uint32_t at;
    uint4 block[kBlocks];

    __device__ __forceinline__ explicit LaneWords(std::uint32_t part, int piece = 0) : at(part + 512 * kFull * piece) {
        if constexpr (!kInOrder) {
#pragma unroll
            for (int i = 0; i < kBlocks; ++i) load(i);
        }
    }
    __device__ __forceinline__ void load(int i) {
        const int lane = threadIdx.x & 31;
        static_assert(kRest % 2 == 0);
        if (i < kFull) {
            block[i] = device::load_shared16(at + 512 * i + 16 * lane);
        } else {
            const uint2 two = device::load_shared8(at + 512 * kFull + 8 * lane);
            block[i].x = two.x;
            block[i].y = two.y;
        }
    }
    __device__ __forceinline__ std::uint32_t operator()(int i) {
        if (kInOrder && i % 4 == 0) load(i / 4);
        return device::component(block[i / 4], i % 4);
    }
};

}  // namespace turboquant::cuda

// The tables of an exact overlay: which page has which slot. They lie in the caller's memory, in front of the slots' rows; memory that is all
// zero is an overlay without exact pages. Compiles for the device and for a host compiler.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/page.hpp"

#ifdef __CUDACC__
#define TQ_BOTH __host__ __device__ inline
#else
#define TQ_BOTH inline
#endif

namespace turboquant::cuda {

// Rows that one call writes into a page: tokens `token` .. of the call go to places `place` .. of the page.
struct NewRows {
    std::int32_t token, place, count;
};

// What one call does with a slot, in this order.
struct SlotWork {
    std::int32_t sealed;              // page that loses the slot, or -1
    std::int32_t sealed_rows;         // of it, from place 0 on
    NewRows last_rows;                // that come to it before it is sealed
    std::int32_t page;                // page that has the slot now, if rows come to it, or -1
    NewRows rows;
};

struct SlotRequest {
    std::int32_t page;
    NewRows rows;
};

// Entries that name something are one higher, so that 0 is nothing.
struct OverlayTables {
    std::uint32_t* clock;             // calls so far
    std::int32_t* num_work;           // entries of `work`
    std::int32_t* slot_of_page;       // [pages]
    std::int32_t* page_of_slot;       // [slots]
    std::uint32_t* wanted;            // [slots]: clock of the last call one of whose sequences wanted the slot
    std::int32_t* filled;             // [slots]: rows written so far
    // Of one call:
    std::uint32_t* listed;            // [slots]: clock of the last call that put the slot on the list
    std::int32_t* work;               // [slots]: slots that have something to do
    std::int32_t* victim;             // [slots]
    SlotRequest* request;             // [slots]
    SlotWork* todo;                   // [slots]
    std::int32_t num_pages, num_slots;
};

struct OverlayLayout {
    std::int32_t num_pages, num_slots;

    static constexpr std::size_t rounded(std::size_t bytes) { return (bytes + 255) / 256 * 256; }
    constexpr std::size_t pages_offset() const { return 256; }
    constexpr std::size_t slots_offset() const { return pages_offset() + rounded(4 * static_cast<std::size_t>(num_pages)); }
    constexpr std::size_t column() const { return rounded(4 * static_cast<std::size_t>(num_slots)); }
    constexpr std::size_t requests_offset() const { return slots_offset() + 6 * column(); }
    constexpr std::size_t todo_offset() const { return requests_offset() + rounded(sizeof(SlotRequest) * static_cast<std::size_t>(num_slots)); }
    // The rows follow: [slots][kv_heads][keys, values][64][head_dim], binary16.
    constexpr std::size_t rows_offset() const { return todo_offset() + rounded(sizeof(SlotWork) * static_cast<std::size_t>(num_slots)); }
    static constexpr std::size_t slot_bytes(int kv_heads, int head_dim) { return static_cast<std::size_t>(kv_heads) * head_dim * 2 * kPageTokens * 2; }

    OverlayTables tables(void* memory) const {
        auto* at = static_cast<std::uint8_t*>(memory);
        const auto slot_column = [&](int i) { return at + slots_offset() + static_cast<std::size_t>(i) * column(); };
        return {reinterpret_cast<std::uint32_t*>(at), reinterpret_cast<std::int32_t*>(at + 4), reinterpret_cast<std::int32_t*>(at + pages_offset()),
                reinterpret_cast<std::int32_t*>(slot_column(0)), reinterpret_cast<std::uint32_t*>(slot_column(1)), reinterpret_cast<std::int32_t*>(slot_column(2)),
                reinterpret_cast<std::uint32_t*>(slot_column(3)), reinterpret_cast<std::int32_t*>(slot_column(4)), reinterpret_cast<std::int32_t*>(slot_column(5)),
                reinterpret_cast<SlotRequest*>(at + requests_offset()), reinterpret_cast<SlotWork*>(at + todo_offset()), num_pages, num_slots};
    }
};

// The slot of a page; negative: none. A page number that is none has none.
TQ_BOTH std::int32_t slot_of(const std::int32_t* slot_of_page, std::int32_t num_pages, std::int32_t page) {
    return static_cast<std::uint32_t>(page) < static_cast<std::uint32_t>(num_pages) ? slot_of_page[page] - 1 : -1;
}

// The page's contents are about to be replaced by something that did not come through append.
TQ_BOTH void forget_page(const OverlayTables& o, std::int32_t page) {
    const std::int32_t slot = slot_of(o.slot_of_page, o.num_pages, page);
    if (slot < 0) return;
    o.slot_of_page[page] = 0;
    o.page_of_slot[slot] = 0;
}

// Which pages of a sequence attention reads as codes: [first, end). Those around them are read from their slots: page 0, and the last pages,
// two at most, as far as they have slots.
struct CodedPages {
    std::int32_t first, end;
};
inline constexpr int kMaxSlots = 1 << 20;
inline constexpr int kExactTail = 2, kMostExact = kExactTail + 1;

// pages: of the sequence; table: its row of the block table.
TQ_BOTH CodedPages coded_pages(const std::int32_t* slot_of_page, std::int32_t num_pages, const std::int32_t* table, std::int32_t pages) {
    CodedPages coded{0, pages};
    for (int i = 0; i < kExactTail && coded.end > 0 && slot_of(slot_of_page, num_pages, table[coded.end - 1]) >= 0; ++i) --coded.end;
    if (coded.end > 0 && slot_of(slot_of_page, num_pages, table[0]) >= 0) coded.first = 1;
    return coded;
}

}  // namespace turboquant::cuda

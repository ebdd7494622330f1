// Who gets which slot, decided by one team of threads before an append writes anything. A slot belongs to a page from the moment that the
// page's first place is written. Wanted are slots of the page that a sequence is writing, of the one before it, and of its first one. Pages
// that are no longer wanted by the call's sequences are sealed and give their slots back; a new page takes a free slot, else that of a page
// that no sequence has wanted for long, which is sealed first. Pages that sequences of this very call want keep theirs: then new ones have
// none, and stay codes.
//
// The outcome does not depend on the number of threads: a team of one on the CPU decides the same (tests/cuda/overlay_test.cpp).
#pragma once

#include "cuda/overlay/tables.hpp"

namespace turboquant::cuda {

struct AssignParams {
    OverlayTables tables;
    const std::int64_t* places;         // [tokens]: page * 64 + place in it; negative: skipped
    const std::int32_t* query_start;    // [batch + 1]
    const std::int32_t* lengths;        // [batch], the new tokens included
    const std::int32_t* block_table;
    std::int32_t table_stride, batch;
};

// A sequence's part of the call.
struct NewTokens {
    std::int32_t token, count;          // first in the call, and how many
    std::int32_t length;                // of the sequence with them
    const std::int32_t* table;

    TQ_BOTH std::int32_t position() const { return length - count; }  // of the first
    TQ_BOTH std::int32_t last_page() const { return (length - 1) / kPageTokens; }
    // The i-th of the pages that are wanted; negative: there are fewer.
    TQ_BOTH std::int32_t wanted(int i) const {
        const std::int32_t page = last_page() - i;
        if (length == 0 || i > kExactTail) return -1;
        return i < kExactTail ? page : page >= 0 ? 0 : -1;
    }
    TQ_BOTH NewRows rows_of(std::int32_t page) const {
        const std::int32_t begin = page * kPageTokens, from = begin > position() ? begin : position(), to = begin + kPageTokens < length ? begin + kPageTokens : length;
        return {token + from - position(), from - begin, to - from};
    }
};

TQ_BOTH NewTokens new_tokens(const AssignParams& p, int b) {
    NewTokens n{p.query_start[b], p.query_start[b + 1] - p.query_start[b], p.lengths[b], p.block_table + static_cast<std::int64_t>(b) * p.table_stride};
    if (n.length < 0) n.length = 0;
    if (n.count < 0) n.count = 0;
    if (n.count > n.length) {           // a padded batch: the last ones count
        n.token += n.count - n.length;
        n.count = n.length;
    }
    return n;
}

// Whether the call writes the page's first place.
TQ_BOTH bool begins(const AssignParams& p, const NewTokens& n, std::int32_t page) {
    const std::int32_t from = page * kPageTokens - n.position();
    return from >= 0 && from < n.count && p.places[n.token + from] == static_cast<std::int64_t>(n.table[page]) * kPageTokens;
}

template <class Team>
TQ_BOTH SlotWork& work_of(Team& team, const OverlayTables& o, std::int32_t slot, std::uint32_t now) {
    SlotWork& work = o.todo[slot];
    if (o.listed[slot] != now) {
        o.listed[slot] = now;
        o.work[team.take(o.num_work)] = slot;
        work.sealed = work.page = -1;
    }
    return work;
}

// A page near the end of a sequence, as far as the call changes it or its slot.
template <class Team>
TQ_BOTH void visit(Team& team, const AssignParams& p, const NewTokens& n, std::int32_t page, std::uint32_t now) {
    const OverlayTables& o = p.tables;
    const std::int32_t number = n.table[page], slot = slot_of(o.slot_of_page, o.num_pages, number);
    if (slot < 0) return;
    const NewRows rows = n.rows_of(page);
    if (o.wanted[slot] == now) {
        if (rows.count <= 0) return;
        SlotWork& work = work_of(team, o, slot, now);
        work.page = number;
        work.rows = rows;
        o.filled[slot] = rows.place + rows.count;
        return;
    }
    if (team.exchange(o.slot_of_page + number, 0) == 0) return;  // another sequence has the page too, and was first
    o.page_of_slot[slot] = 0;
    if (begins(p, n, page)) return;                              // what is in the slot belongs to the page's former life
    SlotWork& work = work_of(team, o, slot, now);
    work.sealed = number;
    work.sealed_rows = rows.count > 0 ? rows.place + rows.count : o.filled[slot];
    work.last_rows = rows;
}

// Free slots first, then those of pages that were wanted long ago, in classes of age; negative: not to be taken.
inline constexpr int kAgeClasses = 5;
TQ_BOTH int age_class(const OverlayTables& o, std::int32_t slot, std::uint32_t now) {
    const std::uint32_t age = now - o.wanted[slot];
    if (o.page_of_slot[slot] == 0) return 0;
    return age == 0 ? -1 : age >= 4096 ? 1 : age >= 256 ? 2 : age >= 16 ? 3 : 4;
}

// By all threads of the team. Team: rank, size; lane, lanes, group, groups: the same threads in groups; sync; scan: sum of what lower ranks
// give, and of all; take: adds one and returns what was there; exchange.
template <class Team>
TQ_BOTH void assign_slots(Team& team, const AssignParams& p) {
    const OverlayTables& o = p.tables;
    const std::uint32_t now = *o.clock + 1;
    team.sync();
    if (team.rank() == 0) {
        *o.clock = now;
        *o.num_work = 0;
    }
    for (int b = team.rank(); b < p.batch; b += team.size()) {
        const NewTokens n = new_tokens(p, b);
        for (int i = 0; i < kMostExact; ++i) {
            const std::int32_t page = n.wanted(i), slot = page < 0 ? -1 : slot_of(o.slot_of_page, o.num_pages, n.table[page]);
            if (slot >= 0) o.wanted[slot] = now;
        }
    }
    team.sync();
    for (int b = team.group(); b < p.batch; b += team.groups()) {
        const NewTokens n = new_tokens(p, b);
        if (n.count == 0) continue;
        const std::int32_t before = n.position() == 0 ? 0 : (n.position() - 1) / kPageTokens, first = before - (kExactTail - 1) > 0 ? before - (kExactTail - 1) : 0;
        for (std::int32_t page = first + team.lane(); page <= n.last_page(); page += team.lanes()) visit(team, p, n, page, now);
    }
    team.sync();

    std::int32_t requests = 0;
    for (int base = 0; base < p.batch; base += team.size()) {
        const int b = base + team.rank();
        NewTokens n{};
        std::int32_t own[kMostExact], num = 0, all = 0;
        if (b < p.batch) {
            n = new_tokens(p, b);
            for (int i = 0; i < kMostExact; ++i) {
                const std::int32_t page = n.wanted(i);
                if (page < 0 || n.count == 0 || !begins(p, n, page)) continue;
                if (static_cast<std::uint32_t>(n.table[page]) < static_cast<std::uint32_t>(o.num_pages) && o.slot_of_page[n.table[page]] == 0) own[num++] = page;
            }
        }
        const std::int32_t at = requests + team.scan(num, &all);
        for (int i = 0; i < num && at + i < o.num_slots; ++i) o.request[at + i] = {n.table[own[i]], n.rows_of(own[i])};
        requests += all;
    }
    if (requests > o.num_slots) requests = o.num_slots;
    std::int32_t found = 0;
    for (int age = 0; age < kAgeClasses && found < requests; ++age) {
        for (int base = 0; base < o.num_slots && found < requests; base += team.size()) {
            const std::int32_t slot = base + team.rank();
            const bool fits = slot < o.num_slots && age_class(o, slot, now) == age;
            std::int32_t all = 0;
            const std::int32_t at = found + team.scan(fits ? 1 : 0, &all);
            if (fits && at < requests) o.victim[at] = slot;
            found += all;
        }
    }
    if (found > requests) found = requests;
    team.sync();
    for (std::int32_t i = team.rank(); i < found; i += team.size()) {
        const std::int32_t slot = o.victim[i], old = o.page_of_slot[slot] - 1;
        SlotWork& work = work_of(team, o, slot, now);
        if (old >= 0) {
            o.slot_of_page[old] = 0;
            work.sealed = old;
            work.sealed_rows = o.filled[slot];
            work.last_rows = {0, 0, 0};
        }
        const SlotRequest request = o.request[i];
        work.page = request.page;
        work.rows = request.rows;
        o.slot_of_page[request.page] = slot + 1;
        o.page_of_slot[slot] = request.page + 1;
        o.wanted[slot] = now;
        o.filled[slot] = request.rows.place + request.rows.count;
    }
}

}  // namespace turboquant::cuda

// Any ragged batch: the plans that every CTA makes for itself hand out every page of every unit exactly once, in fair shares, in ascending order.
#include "cuda/cta.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "cuda/attend/sharing.cuh"
#include "cuda/prefill/plan.cuh"

namespace turboquant::cuda {
namespace {

struct Batch {
    std::vector<std::int32_t> lengths, query_start;
    AttendParams p{};
    int queries_of(int b) const {
        return std::min(lengths[b], query_start.empty() ? p.num_queries : std::min(p.num_queries, query_start[b + 1] - query_start[b]));
    }
};

// Collects what does not hold: no exception may leave a fiber.
struct Verdict {
    std::string broken;
    void operator()(bool holds, const char* what) {
        if (!holds && broken.empty()) broken = what;
    }
};

// Lengths are all equal, short, or of every size.
Batch any_batch(int most_sequences, int most_queries, int most_group) {
    Batch batch;
    const int sequences = *rc::gen::inRange(1, most_sequences + 1), kind = *rc::gen::inRange(0, 3);
    const int longest = kind == 1 ? 300 : 1 << *rc::gen::inRange(1, sequences > 40 ? 13 : 18);
    if (kind == 0) batch.lengths.assign(sequences, *rc::gen::inRange(0, longest));
    else batch.lengths = *rc::gen::container<std::vector<std::int32_t>>(sequences, rc::gen::inRange(0, longest));
    AttendParams& p = batch.p;
    p.batch = sequences;
    p.kv_heads = *rc::gen::inRange(1, 11);
    p.group = *rc::gen::inRange(1, most_group + 1);
    p.num_queries = *rc::gen::inRange(1, most_queries + 1);
    p.window = *rc::gen::weightedOneOf<int>({{2, rc::gen::just(0)}, {1, rc::gen::inRange(1, 2000)}});
    if (*rc::gen::arbitrary<bool>()) {
        batch.query_start.push_back(0);
        for (int b = 0; b < sequences; ++b) batch.query_start.push_back(batch.query_start.back() + *rc::gen::inRange(0, p.num_queries + 1));
    }
    p.lengths = batch.lengths.data();
    p.query_start = batch.query_start.empty() ? nullptr : batch.query_start.data();
    return batch;
}

// Pages that queries `first` to `last` of a sequence may see.
int pages_seen(const Batch& batch, int b, int first, int last, int* first_page) {
    const int at = batch.lengths[b] - batch.queries_of(b);
    const int begin = batch.p.window ? std::max(0, at + first - batch.p.window + 1) : 0;
    *first_page = begin / kPageTokens;
    return (at + last) / kPageTokens - *first_page + 1;
}

// The items of a warp: attend/kernel.cuh takes them so.
struct Range {
    std::uint32_t begin, end;
};
Range items_of(const Plan& plan, std::uint32_t cta, std::uint32_t warp) {
    const std::uint32_t warps = static_cast<std::uint32_t>(plan.warps), begin = plan.cut(cta), end = plan.cut(cta, warps), num = end - begin;
    if (num <= warps) return warp + num < warps ? Range{begin, begin} : Range{begin + warp + num - warps, begin + warp + num - warps + 1};
    return {std::min(std::max(plan.cut(cta, warp), begin), end), std::min(std::max(plan.cut(cta, warp + 1), begin), end)};
}

template <int kRows, int kWarps>
void check_attend(const Batch& batch, unsigned ctas) {
    const AttendParams& p = batch.p;
    std::vector<Sequence> sequences(p.batch + 1);
    std::vector<std::uint32_t> scratch(4 * kWarps);
    Plan plan{};
    gridDim.x = ctas;
    test::Cta::run(kWarps * 32, [&] {
        const Plan mine = make_plan<kRows, kWarps * 32>(p, sequences.data(), scratch.data());
        if (threadIdx.x == 32 * (kWarps - 1)) plan = mine;
    });

    // What there is.
    std::uint32_t items = 0, units = 0;
    for (int b = 0; b < p.batch; ++b) {
        RC_ASSERT(sequences[b].base == items);
        RC_ASSERT(sequences[b].units == units);
        if (batch.queries_of(b) == 0) continue;
        int first_page;
        const int pages = pages_seen(batch, b, 0, batch.queries_of(b) - 1, &first_page), tiles = (batch.queries_of(b) * p.group + kRows - 1) / kRows;
        for (int index = 0; index < p.kv_heads * tiles; ++index) {
            for (const int page : {0, pages - 1}) {
                const Unit unit = unit_at<kRows>(plan, p, items + static_cast<std::uint32_t>(page));
                RC_ASSERT(unit.sequence == b);
                RC_ASSERT(unit.kv_head() == index / tiles);
                RC_ASSERT(unit.tile() == index % tiles);
                RC_ASSERT(unit.start == items);
                RC_ASSERT(unit.pages == pages);
                RC_ASSERT(unit.first_page == first_page);
            }
            items += static_cast<std::uint32_t>(pages);
            ++units;
        }
    }
    RC_ASSERT(plan.items == items);
    if (items == 0) return;

    // Every item once, in the order of CTAs and warps; fair shares.
    RC_ASSERT(plan.grid >= 1u);
    RC_ASSERT(plan.grid <= ctas);
    RC_ASSERT(plan.grid <= (items + kFewestPages - 1) / kFewestPages);
    const std::uint32_t cost = items + plan.unit_cost * units, slack = 2 * plan.tolerance + plan.unit_cost;
    RC_ASSERT(plan.tolerance <= cost / plan.grid / 64);
    std::uint32_t next = 0;
    for (std::uint32_t c = 0; c < ctas; ++c) {
        const std::uint32_t begin = plan.cut(c), end = plan.cut(c, kWarps);
        RC_ASSERT(begin == next);
        RC_ASSERT(end == plan.cut(c + 1));
        if (c >= plan.grid) RC_ASSERT(begin == end);
        for (std::uint32_t w = 0; w < kWarps; ++w) {
            const Range range = items_of(plan, c, w);
            RC_ASSERT(range.begin <= range.end);
            if (range.begin == range.end) continue;
            RC_ASSERT(range.begin == next);
            next = range.end;
            RC_ASSERT(range.end - range.begin <= (cost + plan.grid * kWarps - 1) / (plan.grid * kWarps) + slack + (end - begin <= kWarps ? 1 : 0));
        }
        RC_ASSERT(next == end);
        RC_ASSERT(end - begin <= (cost + plan.grid - 1) / plan.grid + slack);
    }
    RC_ASSERT(next == items);

    // A unit's pieces: neighbours in ascending order, and a place of its own for each.
    Verdict must;
    std::set<std::uint32_t> places;
    test::Cta::run(32, [&] {
        for (std::uint32_t c = 0; c < plan.grid; ++c) {
            const std::uint32_t begin = plan.cut(c), end = plan.cut(c + 1);
            if (begin == end) continue;
            for (const bool last : {false, true}) {  // units; of one item, the same twice
                const std::uint32_t item = last ? end - 1 : begin;
                const Unit unit = unit_at<kRows>(plan, p, item);
                const Sharing sharing = sharing_of<kRows>(p, plan, item, begin, end);
                if (threadIdx.x != 0) continue;
                must(plan.owner(item) == c, "plan.owner(item) == c");
                must(sharing.shared == (unit.start < begin || unit.end() > end), "sharing.shared == (unit.start < begin || unit.end() > end)");
                if (!sharing.shared) continue;
                must(sharing.first <= c, "sharing.first <= c");
                must(sharing.last >= c, "sharing.last >= c");
                must(plan.cut(sharing.first) <= unit.start, "plan.cut(sharing.first) <= unit.start");
                must(plan.cut(sharing.first + 1) > unit.start, "plan.cut(sharing.first + 1) > unit.start");
                must(plan.cut(sharing.last) < unit.end(), "plan.cut(sharing.last) < unit.end()");
                must(plan.cut(sharing.last + 1) >= unit.end(), "plan.cut(sharing.last + 1) >= unit.end()");
                if (!last || unit.start > begin) must(places.insert(sharing.part_of(c)).second, "places.insert(sharing.part_of(c)).second");
            }
        }
    });
    RC_ASSERT(must.broken == "");
}

RC_GTEST_PROP(AttendPlan, HandsOutEveryItemOnce, ()) {
    const unsigned ctas = static_cast<unsigned>(*rc::gen::element(28, 84, 108, 132, 148));
    const Batch batch = any_batch(*rc::gen::element(4, 32, 80), kMaxQueries, 20);
    switch (*rc::gen::inRange(0, 4)) {
        case 0: return check_attend<4, 8>(batch, ctas);
        case 1: return check_attend<8, 12>(batch, ctas);
        case 2: return check_attend<16, 8>(batch, ctas);
        default: return check_attend<16, 3>(batch, ctas);
    }
}

TEST(AttendPlan, DividesExactly) {
    std::uint64_t state = 1;
    for (int i = 0; i < 2000000; ++i) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        const std::uint32_t b = static_cast<std::uint32_t>(state >> 40) % (1u << (1 + i % 24)) + 1, q = static_cast<std::uint32_t>(state >> 20) & 0xfffff;
        const std::uint64_t a = static_cast<std::uint64_t>(b) * q + (state >> 33) % b;
        if (a >= 1u << 31) continue;
        ASSERT_EQ(divide(static_cast<std::uint32_t>(a), b), a / b) << a << " / " << b;
    }
}

template <int kRows>
void check_prefill(const Batch& batch, int ctas) {
    const AttendParams& p = batch.p;
    std::vector<std::uint32_t> starts(p.batch + 1);
    test::Cta::run(128, [&] { make_prefill_plan<kRows>(p, ctas, starts.data()); });
    const PrefillPlan plan(p, ctas, starts.data());

    std::uint32_t expected = 0;
    for (int b = 0; b < p.batch; ++b) {
        RC_ASSERT(starts[b] == expected);
        const int queries = answered(p, b, p.lengths[b]), tiles = num_tiles<kRows>(queries, p.group);
        std::set<int> order;
        for (int t = 0; t < tiles; ++t) {
            order.insert(tile_in_order(t, tiles));
            int first_page;
            const int last_row = std::min((t + 1) * kRows, queries * p.group) - 1;
            const int at = p.lengths[b] - queries, begin = p.window ? std::max(0, at + t * kRows / p.group - p.window + 1) : 0;
            first_page = begin / kPageTokens;
            const TilePages pages = tile_pages(kRows, p.lengths[b], queries, p.group, p.window, t);
            RC_ASSERT(pages.first == first_page);
            RC_ASSERT(pages.first + pages.num - 1 == (at + last_row / p.group) / kPageTokens);
            expected += static_cast<std::uint32_t>(pages.num * p.kv_heads);
        }
        RC_ASSERT(static_cast<int>(order.size()) == tiles);
        if (tiles > 0) RC_ASSERT((*order.begin() == 0 && *order.rbegin() == tiles - 1));
    }
    RC_ASSERT(plan.items == expected);
    if (plan.items == 0) return;

    // Equal ranges, ascending, that are everything.
    RC_ASSERT(plan.cut(0) == 0u);
    RC_ASSERT(plan.cut(plan.grid) == plan.items);
    for (std::uint32_t c = 0; c < plan.grid; ++c) {
        const std::uint32_t share = plan.cut(c + 1) - plan.cut(c);
        RC_ASSERT(share >= plan.items / plan.grid);
        RC_ASSERT(share <= (plan.items + plan.grid - 1) / plan.grid);
    }

    // Walking over the units, as a CTA does, and jumping to one, as it begins, see the same.
    Verdict must;
    test::Cta::run(32, [&] {
        PrefillUnit<kRows> unit{};
        unit.find(p, starts.data(), 0);
        std::set<std::vector<int>> seen;
        std::uint32_t at = 0;
        while (at < plan.items) {
            PrefillUnit<kRows> found{};
            found.find(p, starts.data(), at + static_cast<std::uint32_t>(unit.pages.num) / 2);
            if (threadIdx.x == 0) {
                must(unit.start == at, "unit.start == at");
                must(found.start == at, "found.start == at");
                must(found.sequence == unit.sequence, "found.sequence == unit.sequence");
                must(found.head == unit.head, "found.head == unit.head");
                must(found.tile == unit.tile, "found.tile == unit.tile");
                must(found.end() == unit.end(), "found.end() == unit.end()");
                must(seen.insert({unit.sequence, unit.head, unit.tile}).second, "seen.insert({unit.sequence, unit.head, unit.tile}).second");
            }
            at = unit.end();
            unit.advance(p);
        }
        if (threadIdx.x == 0) must(at == plan.items, "at == plan.items");
    });

    // The way through a range, unit after unit.
    PrefillWay<kRows> kept{};
    test::Cta::run(32, [&] {
        for (std::uint32_t range : {0u, plan.grid / 2, plan.grid - 1}) {
            PrefillWay<kRows> way{};
            PrefillWay<kRows>::start(p, plan, range, &kept);
            std::uint32_t at = plan.cut(range);
            do {
                way = kept;
                if (threadIdx.x == 0) {
                    must(way.item == at, "way.item == at");
                    must(way.unit.start <= at && at < way.unit.end(), "the unit has the item");
                    must(way.complete() == (way.unit.start >= plan.cut(range) && way.unit.end() <= plan.cut(range + 1)), "way.complete()");
                }
                at = way.stop();
            } while (way.next(p, &kept));
            if (threadIdx.x == 0) must(at == plan.cut(range + 1), "at == plan.cut(range + 1)");
        }
    });
    RC_ASSERT(must.broken == "");
}

RC_GTEST_PROP(PrefillPlan, HandsOutEveryItemOnce, ()) {
    const Batch batch = any_batch(*rc::gen::element(1, 4, 40), *rc::gen::element(1, 64, 3000), 12);
    const int clusters = *rc::gen::element(14, 28, 66, 132);
    const int rows = *rc::gen::element(64, 128, 256);
    rows == 64 ? check_prefill<64>(batch, clusters) : rows == 128 ? check_prefill<128>(batch, clusters) : check_prefill<256>(batch, clusters);
}

}  // namespace
}  // namespace turboquant::cuda

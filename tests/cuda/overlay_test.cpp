// Which page has which slot of an exact overlay after which writes, and a warp's attention on exact tokens, lane by lane.
#include "cuda/overlay/assign.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "core/half.hpp"
#include "cuda/overlay/exact_math.cuh"
#include "fibers.hpp"
#include "overlay_team.hpp"

namespace turboquant::cuda {
namespace {

// Threads that decide together as those of a CTA do.
struct Threads {
    static constexpr int kLanes = 4, kGroups = 3, kSize = kLanes * kGroups;
    struct Shared {
        std::barrier<> barrier{kSize};
        std::int32_t given[kSize] = {};
    };
    Shared* shared;
    int number;

    int rank() const { return number; }
    int size() const { return kSize; }
    int lane() const { return number % kLanes; }
    int lanes() const { return kLanes; }
    int group() const { return number / kLanes; }
    int groups() const { return kGroups; }
    void sync() const { shared->barrier.arrive_and_wait(); }
    std::int32_t take(std::int32_t* counter) const { return __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); }
    std::int32_t exchange(std::int32_t* at, std::int32_t value) const { return __atomic_exchange_n(at, value, __ATOMIC_RELAXED); }
    std::int32_t scan(std::int32_t value, std::int32_t* all) const {
        sync();
        shared->given[number] = value;
        sync();
        *all = std::accumulate(shared->given, shared->given + kSize, 0);
        return std::accumulate(shared->given, shared->given + number, 0);
    }
};

struct Memory {
    OverlayLayout layout;
    std::vector<std::uint8_t> bytes;
    OverlayTables tables;
    Memory(int pages, int slots) : layout{pages, slots}, bytes(layout.rows_offset(), 0), tables(layout.tables(bytes.data())) {}
};

struct Part {
    std::vector<std::int32_t> table;
    int length = 0, count = 0;         // count: new ones among length
};

// Pages with token names in them, as append writes them, and the slots' rows beside them.
class World {
public:
    World(int pages, int slots) : memory(pages, slots), twin(pages, slots), content(pages, std::vector<int>(kPageTokens, -1)), rows(slots, std::vector<int>(kPageTokens, -2)) {}

    void append(const std::vector<Part>& parts, int skip = -1) {
        std::vector<std::int32_t> start{0}, lengths, table;
        std::vector<std::int64_t> places;
        std::vector<int> names;
        std::size_t stride = 1;
        for (const Part& part : parts) stride = std::max(stride, part.table.size());
        for (const Part& part : parts) {
            for (int i = part.length - part.count; i < part.length; ++i) {
                places.push_back(static_cast<int>(places.size()) == skip ? -1 : static_cast<std::int64_t>(part.table[i / kPageTokens]) * kPageTokens + i % kPageTokens);
                names.push_back(next_name++);
            }
            start.push_back(static_cast<std::int32_t>(places.size()));
            lengths.push_back(part.length);
            table.insert(table.end(), part.table.begin(), part.table.end());
            table.resize(lengths.size() * stride, 1 << 30);
        }
        AssignParams p{memory.tables, places.data(), start.data(), lengths.data(), table.data(), static_cast<std::int32_t>(stride), static_cast<std::int32_t>(parts.size())};
        const bool twice = calls < 6 || calls % 16 == 0;  // threads take their time
        ++calls;
        if (twice) twin.bytes = memory.bytes;
        test::TeamOfOne one;
        assign_slots(one, p);
        p.tables = twin.tables;
        if (twice) decide_together(p);
        if (testing::Test::HasFailure()) return;

        for (std::size_t i = 0; i < places.size(); ++i) {
            if (places[i] >= 0) content[places[i] / kPageTokens][places[i] % kPageTokens] = names[i];
        }
        const OverlayTables& o = memory.tables;
        sealed.clear();
        for (int i = 0; i < *o.num_work; ++i) {
            const SlotWork& work = o.todo[o.work[i]];
            std::vector<int>& own = rows[o.work[i]];
            if (work.sealed >= 0) {
                sealed.push_back(work.sealed);
                for (int r = 0; r < work.last_rows.count; ++r) own[work.last_rows.place + r] = names[work.last_rows.token + r];
                for (int r = 0; r < work.sealed_rows; ++r) EXPECT_EQ(own[r], content[work.sealed][r]) << "page " << work.sealed << " is sealed with other rows than it has";
            }
            if (work.page >= 0) {
                EXPECT_EQ(o.slot_of_page[work.page], o.work[i] + 1);
                for (int r = 0; r < work.rows.count; ++r) {
                    if (places[work.rows.token + r] >= 0) own[work.rows.place + r] = names[work.rows.token + r];
                }
            }
        }
        for (int page = 0; page < o.num_pages; ++page) {
            const int slot = o.slot_of_page[page] - 1;
            if (slot < 0) continue;
            ASSERT_LT(slot, o.num_slots);
            EXPECT_EQ(o.page_of_slot[slot], page + 1);
            for (int r = 0; r < o.filled[slot]; ++r) EXPECT_EQ(rows[slot][r], content[page][r]) << "page " << page << ", row " << r;
        }
        for (int slot = 0; slot < o.num_slots; ++slot) {
            if (o.page_of_slot[slot] == 0) continue;
            EXPECT_EQ(o.slot_of_page[o.page_of_slot[slot] - 1], slot + 1);
        }
    }
    // As several threads, with the same outcome.
    void decide_together(const AssignParams& p) {
        Threads::Shared shared;
        std::vector<std::thread> threads;
        for (int i = 0; i < Threads::kSize; ++i) {
            threads.emplace_back([&, i] {
                Threads team{&shared, i};
                assign_slots(team, p);
            });
        }
        for (auto& thread : threads) thread.join();
        const auto all_work = [](const OverlayTables& o) { return std::set<int>(o.work, o.work + *o.num_work); };
        EXPECT_EQ(all_work(memory.tables), all_work(twin.tables));
        EXPECT_EQ(std::memcmp(memory.tables.slot_of_page, twin.tables.slot_of_page, 4 * content.size()), 0);
        EXPECT_EQ(std::memcmp(memory.tables.page_of_slot, twin.tables.page_of_slot, 4 * rows.size()), 0);
        EXPECT_EQ(std::memcmp(memory.tables.wanted, twin.tables.wanted, 4 * rows.size()), 0);
        EXPECT_EQ(std::memcmp(memory.tables.filled, twin.tables.filled, 4 * rows.size()), 0);
    }
    bool exact(int page) const { return memory.tables.slot_of_page[page] != 0; }
    int used() const { return static_cast<int>(std::count_if(memory.tables.page_of_slot, memory.tables.page_of_slot + rows.size(), [](int page) { return page != 0; })); }

    Memory memory, twin;
    std::vector<std::vector<int>> content, rows;
    std::vector<int> sealed;
    int next_name = 0, calls = 0;
};

std::vector<std::int32_t> pages_from(int first, int num) {
    std::vector<std::int32_t> table(num);
    std::iota(table.begin(), table.end(), first);
    return table;
}

TEST(OverlaySlots, FirstPageAndTheLastTwo) {
    World world(20, 3);
    const auto table = pages_from(7, 10);
    for (int length = 1; length <= 600; ++length) {
        world.append({{table, length, 1}});
        const int last = (length - 1) / kPageTokens;
        for (int i = 0; i < 10; ++i) EXPECT_EQ(world.exact(7 + i), i <= last && (i == 0 || i + 1 >= last)) << length << " " << i;
        EXPECT_EQ(world.sealed, length % kPageTokens == 1 && last > 2 ? std::vector<int>{7 + last - 2} : std::vector<int>{});
    }
}

TEST(OverlaySlots, ChunksSealWhatTheyLeave) {
    World world(40, 3);
    const auto table = pages_from(0, 40);
    world.append({{table, 100, 100}});  // pages 0 and 1
    world.append({{table, 1000, 900}});
    EXPECT_EQ(world.sealed, std::vector<int>{1});  // with rows of this call
    for (int i = 0; i < 40; ++i) EXPECT_EQ(world.exact(i), i == 0 || i == 14 || i == 15) << i;
    world.append({{table, 1024, 24}});
    EXPECT_TRUE(world.sealed.empty());
    world.append({{table, 2048, 1024}});
    EXPECT_EQ(world.sealed.size(), 2u);
    EXPECT_TRUE(world.exact(30) && world.exact(31) && world.exact(0));
    EXPECT_EQ(world.used(), 3);
}

TEST(OverlaySlots, ReusedPagesReplaceTheirSlot) {
    World world(4, 3);
    world.append({{pages_from(0, 4), 200, 200}});
    EXPECT_TRUE(world.exact(0) && world.exact(2) && world.exact(3));
    world.append({{{3, 0, 1}, 150, 150}});  // the same pages in another life, and in other places
    EXPECT_TRUE(world.sealed == std::vector<int>{2}) << "of a sequence that is gone, and nobody says so";
    EXPECT_TRUE(world.exact(3) && world.exact(0) && world.exact(1));
    EXPECT_FALSE(world.exact(2));
}

TEST(OverlaySlots, FewerSlotsThanWanted) {
    World world(64, 4);
    std::vector<Part> parts;
    for (int b = 0; b < 4; ++b) parts.push_back({pages_from(16 * b, 16), 150, 150});
    world.append(parts);
    EXPECT_EQ(world.used(), 4);          // one sequence's three, and one of the next
    EXPECT_TRUE(world.exact(2) && world.exact(1) && world.exact(0) && world.exact(18));
    for (int step = 0; step < 300; ++step) {
        for (Part& part : parts) part.length += part.count = 1;
        world.append(parts);
        EXPECT_EQ(world.used(), 4);
        EXPECT_TRUE(world.exact(0)) << "taken from a sequence of the call";
    }
    // Others come, the first ones are gone: slots go over with time, sealed.
    std::vector<Part> other{{pages_from(60, 3), 130, 130}};
    world.append(other);
    EXPECT_EQ(world.sealed.size(), 3u);
    EXPECT_TRUE(world.exact(60) && world.exact(61) && world.exact(62));
}

TEST(OverlaySlots, LongUnusedSlotsGoFirst) {
    World world(40, 6);
    std::vector<Part> old{{pages_from(0, 3), 150, 150}}, recent{{pages_from(10, 10), 150, 150}};
    world.append(old);
    world.append(recent);
    for (int i = 0; i < 20; ++i) {
        recent[0].length += recent[0].count = 1;
        world.append(recent);
    }
    world.append({{pages_from(30, 3), 150, 150}});
    EXPECT_FALSE(world.exact(0) || world.exact(1) || world.exact(2));
    EXPECT_TRUE(world.exact(10) && world.exact(11) && world.exact(12));
}

TEST(OverlaySlots, SkippedAndPaddedTokens) {
    World world(8, 3);
    world.append({{pages_from(0, 4), 100, 100}}, 64);  // the second page's first place is not written: it gets no slot
    EXPECT_TRUE(world.exact(0));
    EXPECT_FALSE(world.exact(1));
    world.append({{pages_from(0, 4), 101, 1}, {{1 << 30}, 0, 0}, {{5}, 1, 1}}, 1);
    EXPECT_FALSE(world.exact(5));
}

// Sequences that come, share prefixes, are rewound and go, with many and with few slots.
TEST(OverlaySlots, AnythingMayHappen) {
    std::mt19937 engine(3);
    for (int slots : {1, 2, 5, 40}) {
        constexpr int kPages = 60;
        World world(kPages, slots);
        std::vector<int> holders(kPages, 0);
        struct Sequence {
            std::vector<std::int32_t> table;
            int length = 0, shared = 0;
        };
        std::vector<Sequence> alive;
        const auto take_page = [&] {
            for (int i = 0; i < kPages; ++i) {
                const int page = static_cast<int>((engine() + static_cast<unsigned>(i)) % kPages);
                if (holders[page] == 0) return holders[page] = 1, page;
            }
            return -1;
        };
        for (int step = 0; step < 400; ++step) {
            if (alive.size() < 5 && engine() % 3 == 0) {
                Sequence fresh;
                if (!alive.empty() && engine() % 2) {
                    const Sequence& from = alive[engine() % alive.size()];
                    fresh.shared = from.length / kPageTokens;
                    fresh.table.assign(from.table.begin(), from.table.begin() + fresh.shared);
                    for (int page : fresh.table) ++holders[page];
                    fresh.length = fresh.shared * kPageTokens;
                }
                alive.push_back(fresh);
            }
            std::vector<Part> parts;
            for (Sequence& s : alive) {
                if (engine() % 4 == 0) continue;
                if (engine() % 8 == 0) s.length = std::max(s.shared * kPageTokens, s.length - static_cast<int>(engine() % 20));
                const int count = engine() % 4 ? 1 : static_cast<int>(engine() % 150);
                bool enough = true;
                while (enough && static_cast<int>(s.table.size()) * kPageTokens < s.length + count) {
                    const int page = take_page();
                    enough = page >= 0;
                    if (enough) s.table.push_back(page);
                }
                if (!enough) continue;
                s.length += count;
                parts.push_back({s.table, s.length, count});
            }
            world.append(parts);
            if (testing::Test::HasFailure()) return;
            if (!alive.empty() && engine() % 12 == 0) {
                const std::size_t gone = engine() % alive.size();
                for (int page : alive[gone].table) --holders[page];
                alive.erase(alive.begin() + static_cast<std::ptrdiff_t>(gone));
            }
        }
    }
}

TEST(OverlaySlots, CodedPagesAreARange) {
    std::vector<std::int32_t> slots(10, 0);
    const auto table = pages_from(0, 8);
    const auto range = [&](std::initializer_list<int> exact, int pages) {
        std::fill(slots.begin(), slots.end(), 0);
        for (int page : exact) slots[page] = 5;
        const CodedPages coded = coded_pages(slots.data(), 10, table.data(), pages);
        return std::pair{coded.first, coded.end};
    };
    EXPECT_EQ(range({}, 8), (std::pair{0, 8}));
    EXPECT_EQ(range({0, 6, 7}, 8), (std::pair{1, 6}));
    EXPECT_EQ(range({5, 6, 7}, 8), (std::pair{0, 6}));
    EXPECT_EQ(range({0, 6}, 8), (std::pair{1, 8}));
    EXPECT_EQ(range({7}, 8), (std::pair{0, 7}));
    EXPECT_EQ(range({0, 1, 2}, 3), (std::pair{1, 1}));
    EXPECT_EQ(range({0, 1}, 2), (std::pair{0, 0}));
    EXPECT_EQ(range({0}, 1), (std::pair{0, 0}));
    EXPECT_EQ(range({}, 0), (std::pair{0, 0}));
}

// A warp on `steps` times 16 tokens, against double precision.
template <int kHeadDim>
void check_math(float cap, int window) {
    constexpr int kSteps = 3, kTokens = 16 * kSteps;
    std::mt19937 engine(kHeadDim);
    std::normal_distribution<float> normal;
    std::vector<std::uint16_t> q(16 * kHeadDim), k(kTokens * kHeadDim), v(k.size());
    for (auto& x : q) x = float_to_half(100 * normal(engine));
    for (auto& x : k) x = float_to_half(normal(engine));
    for (auto& x : v) x = float_to_half(normal(engine));
    const float unit = 0.02f / std::sqrt(static_cast<float>(kHeadDim));
    const auto last_of = [](int row) { return 5 + 2 * row; };  // row 15: 35, so that a step is seen by some
    std::vector<double> want(16 * kHeadDim, 0.0), got(want.size()), want_sum(16), got_sum(16);
    for (int r = 0; r < 16; ++r) {
        double total = 0;
        for (int t = std::max(0, window ? last_of(r) - window + 1 : 0); t <= last_of(r); ++t) {
            double dot = 0;
            for (int j = 0; j < kHeadDim; ++j) dot += static_cast<double>(half_to_float(q[r * kHeadDim + j])) * half_to_float(k[t * kHeadDim + j]);
            double score = dot * unit;
            if (cap != 0) score = cap * std::tanh(score / cap);
            const double weight = std::exp2(score);
            total += weight;
            for (int j = 0; j < kHeadDim; ++j) want[r * kHeadDim + j] += weight * half_to_float(v[t * kHeadDim + j]);
        }
        for (int j = 0; j < kHeadDim; ++j) want[r * kHeadDim + j] /= total;
        want_sum[r] = std::log2(total);
    }
    test::Warp::run([&] {
        const int g = device::lane_id() >> 2, t = device::lane_id() & 3;
        ExactMath<kHeadDim> math;
        math.reset();
        ExactRow rows[2];
        for (int h = 0; h < 2; ++h) rows[h] = {unit, window ? last_of(g + 8 * h) - window + 1 : 0, last_of(g + 8 * h)};
        const auto words = [](const std::uint16_t* from, bool there) {
            Words w{};
            if (there) std::memcpy(w.w, from, 16);
            return w;
        };
        for (int step = 0; step < kSteps; ++step) {
            float scores[2][4];
            std::uint32_t weights[2][4];
            math.score([&](int block, int row) { return words(&q[(g + 8 * row) * kHeadDim + std::min(32 * block + 8 * t, kHeadDim - 8)], 32 * block + 8 * t < kHeadDim); },
                       [&](int block, int n) { return words(&k[(16 * step + 8 * n + g) * kHeadDim + std::min(32 * block + 8 * t, kHeadDim - 8)], 32 * block + 8 * t < kHeadDim); }, scores);
            math.soften(scores, rows, cap, 16 * step, weights);
            math.add_values(
                [&](int c, int i) {
                    const int at = 16 * step + 2 * t + (i & 1) + 8 * (i >> 1), dim = 64 * c + 8 * g;
                    return words(&v[at * kHeadDim + std::min(dim, kHeadDim - 8)], dim < kHeadDim);
                },
                weights);
        }
        math.finish();
        for (int h = 0; h < 2; ++h) {
            if (t == 0) got_sum[g + 8 * h] = math.m[h] + std::log2(math.l[h]);
        }
        math.give([&](int row, int dim, float value) { got[row * kHeadDim + dim] = value / math.l[row / 8]; });
    });
    double error = 0, power = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
        error += std::pow(want[i] - got[i], 2);
        power += std::pow(want[i], 2);
    }
    EXPECT_LT(std::sqrt(error / power), 2e-5) << kHeadDim;
    for (int r = 0; r < 16; ++r) EXPECT_NEAR(got_sum[r], want_sum[r], 1e-4) << kHeadDim;
}

TEST(ExactMath, AgainstDoublePrecision) {
    check_math<64>(0, 0);
    check_math<80>(0, 0);
    check_math<96>(0, 0);
    check_math<112>(0, 12);
    check_math<128>(0, 0);
    check_math<128>(2.5f, 7);
    check_math<192>(0, 0);
    check_math<256>(0, 0);
}

}  // namespace
}  // namespace turboquant::cuda

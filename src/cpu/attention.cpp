// Attention over two stores: which thread computes what, and how partial results become one.
//
// A group is (stream, KV head, block of queries): its rows are all query heads of the KV head for those queries, so that a
// tile is unpacked once for all of them. When there are too few groups for the threads, the tiles of each are split, and the
// thread that finishes a group's last split merges its parts.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "core/noise.hpp"
#include "cpu/tile_store.hpp"

namespace turboquant {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr int kItemsPerThread = 4;     // so that an unlucky thread costs at most a quarter of its share
constexpr int kMinTilesPerSplit = 4;   // a part costs a rotation of its queries and a merge

struct Plan {
    int group_size;         // query heads per KV head
    int rows_per_block;     // whole queries, unless one has more rows than a kernel call takes
    int blocks, splits, groups, items;
    std::int64_t tiles, tiles_per_split;
};

Plan make_plan(const AttentionArgs& args, int num_kv_heads, int num_threads) {
    Plan plan;
    plan.group_size = args.num_heads / num_kv_heads;
    const int rows = args.num_queries * plan.group_size;
    plan.rows_per_block = plan.group_size <= cpu::kMaxRows ? cpu::kMaxRows / plan.group_size * plan.group_size : cpu::kMaxRows;
    plan.blocks = (rows + plan.rows_per_block - 1) / plan.rows_per_block;
    plan.groups = args.num_streams * num_kv_heads * plan.blocks;
    plan.tiles = (args.num_cells + kTileTokens - 1) / kTileTokens;
    const int wanted = num_threads == 1 ? 1 : (kItemsPerThread * num_threads + plan.groups - 1) / plan.groups;
    plan.splits = static_cast<int>(std::clamp<std::int64_t>(plan.tiles / kMinTilesPerSplit, 1, wanted));
    plan.tiles_per_split = (plan.tiles + plan.splits - 1) / plan.splits;
    plan.items = plan.groups * plan.splits;
    return plan;
}

// Running sums of one item's rows.
struct Partial {
    float *largest, *total, *rotated, *exact;
};

std::size_t partial_floats(int rows, int value_dim) { return static_cast<std::size_t>(rows) * (2 + 2 * static_cast<std::size_t>(value_dim)); }

Partial partial_at(float* base, int rows, int value_dim) {
    float* sums = base + 2 * static_cast<std::size_t>(rows);
    return {base, base + rows, sums, sums + static_cast<std::size_t>(rows) * value_dim};
}

struct ThreadMemory {
    std::vector<float> query, rotated, prepared, unit, slopes, partial;
    std::vector<std::int32_t> packed;
    std::vector<const std::uint16_t*> masks;
    std::vector<cpu::AttendTile> tiles;
    std::vector<std::uint8_t> kernel;

    std::uint8_t* kernel_scratch(std::size_t bytes) {
        kernel.resize(bytes + 64);
        const auto address = reinterpret_cast<std::uintptr_t>(kernel.data());
        return kernel.data() + (64 - address % 64) % 64;
    }
};

}  // namespace

struct AttentionScratch::Impl {
    Plan plan;
    std::vector<ThreadMemory> threads;
    std::vector<float> partials;                   // [items] when the tiles are split
    std::unique_ptr<std::atomic<int>[]> finished;  // [groups] splits done
    std::size_t finished_capacity = 0;
    std::atomic<int> next_item{0};
    std::vector<float> log_totals;                 // [stream][head][query] of the softmax, when keys are kept
    std::vector<std::uint16_t> zero_row;           // what an empty tile's rows read as
};

AttentionScratch::AttentionScratch() : impl_(std::make_unique<Impl>()) {}
AttentionScratch::~AttentionScratch() = default;

namespace {

// One call's fixed facts.
struct Call {
    const TileStore::Impl& keys;
    const TileStore::Impl& values;
    const AttentionArgs& args;
    AttentionScratch::Impl& shared;

    int rows_of_block(int block) const {
        const Plan& plan = shared.plan;
        return std::min(plan.rows_per_block, args.num_queries * plan.group_size - block * plan.rows_per_block);
    }
    int max_rows() const { return rows_of_block(0); }
};

// Rows of one side of a tile, as far as they are exact: base of this head and numbers from row to row.
struct ExactRows {
    const std::uint16_t* rows;
    int stride;
};

ExactRows exact_rows(const TileStore::Impl& m, const TileStore::Impl::Tile& tile, int kv_head, const std::vector<std::uint16_t>& zero_row) {
    if (tile.is_empty()) return {zero_row.data(), 0};
    return {m.open_rows(tile) + static_cast<std::size_t>(kv_head) * m.spec.head_dim, static_cast<int>(m.row_numbers())};
}

// Appends what attention has to read for this tile. A sealed tile with sinks becomes two: its exact rows and its codes.
void append_tile(const Call& call, int stream, int kv_head, std::int64_t number, std::vector<cpu::AttendTile>& out) {
    const TileStore::Impl &k = call.keys, &v = call.values;
    const auto &key_tile = k.tiles[k.tile_index(stream, number)], &value_tile = v.tiles[v.tile_index(stream, number)];
    cpu::AttendTile tile{};
    tile.first_cell = static_cast<int>(number * kTileTokens);
    tile.count = static_cast<int>(std::min<std::int64_t>(kTileTokens, call.args.num_cells - number * kTileTokens));
    const auto fill = [&](const TileStore::Impl& m, const TileStore::Impl::Tile& t, const std::uint8_t*& bytes, int& stride, bool& coded) {
        coded = !t.is_empty() && !t.is_open();
        if (coded) {
            bytes = m.blob(t, kv_head);
            return;
        }
        const ExactRows rows = exact_rows(m, t, kv_head, call.shared.zero_row);
        bytes = reinterpret_cast<const std::uint8_t*>(rows.rows);
        stride = rows.stride;
    };
    fill(k, key_tile, tile.key, tile.key_stride, tile.key_coded);
    fill(v, value_tile, tile.value, tile.value_stride, tile.value_coded);
    if (tile.key_coded && k.keeps_keys()) {
        const KeptKeys& kept = k.kept_of(k.tile_index(stream, number), kv_head);
        tile.kept_rows = kept.rows;
        tile.kept = kept.numbers.get();
    }
    const int sinks = number == 0 && (tile.key_coded || tile.value_coded) ? std::min(k.spec.sink_tokens, tile.count) : 0;
    if (sinks > 0) {
        cpu::AttendTile exact = tile;
        exact.count = sinks;
        const auto from_sinks = [&](const TileStore::Impl& m, const std::uint8_t*& bytes, int& stride, bool& coded) {
            if (!coded) return;
            const std::size_t at = (static_cast<std::size_t>(stream) * m.spec.sink_tokens) * m.row_numbers() + static_cast<std::size_t>(kv_head) * m.spec.head_dim;
            bytes = reinterpret_cast<const std::uint8_t*>(m.sink_storage.data() + at);
            stride = static_cast<int>(m.row_numbers());
            coded = false;
        };
        from_sinks(k, exact.key, exact.key_stride, exact.key_coded);
        from_sinks(v, exact.value, exact.value_stride, exact.value_coded);
        out.push_back(exact);
        tile.skip = sinks;
    }
    if (tile.skip < tile.count) out.push_back(tile);
}

struct ItemPlace {
    int stream, kv_head, block, split, group;
};

ItemPlace place_of(const Call& call, int item) {
    const Plan& plan = call.shared.plan;
    ItemPlace place;
    place.split = item % plan.splits;
    place.group = item / plan.splits;
    place.block = place.group % plan.blocks;
    place.kv_head = place.group / plan.blocks % call.keys.shape.num_kv_heads;
    place.stream = place.group / plan.blocks / call.keys.shape.num_kv_heads;
    return place;
}

struct RowPlace {
    int query, head;
};

// A KV head's rows are numbered query by query, its heads one after another; a block is a run of them.
RowPlace row_of(const Call& call, const ItemPlace& at, int r) {
    const Plan& plan = call.shared.plan;
    const int row = at.block * plan.rows_per_block + r;
    return {row / plan.group_size, at.kv_head * plan.group_size + row % plan.group_size};
}

void gather_rows(const Call& call, const ItemPlace& at, int rows, ThreadMemory& memory) {
    const AttentionArgs& args = call.args;
    const int d = call.keys.spec.head_dim;
    memory.query.resize(static_cast<std::size_t>(rows) * d);
    memory.unit.resize(rows);
    memory.slopes.resize(rows);
    memory.masks.resize(rows);
    for (int r = 0; r < rows; ++r) {
        const auto [query, head] = row_of(call, at, r);
        const float* q = args.query + at.stream * args.query_stream_stride + head * args.query_head_stride + query * args.query_stride;
        float* out = memory.query.data() + static_cast<std::size_t>(r) * d;
        for (int j = 0; j < d; ++j) out[j] = q[j] * args.scale;
        memory.slopes[r] = args.slopes ? args.slopes[head] : 1.0f;
        if (args.mask) memory.masks[r] = args.mask + at.stream * args.mask_stream_stride + head * args.mask_head_stride + query * args.mask_stride;
    }
    if (const RowScheme* scheme = call.keys.scheme_of(at.kv_head)) {
        const std::size_t numbers = scheme->prepared_numbers();
        memory.prepared.resize(rows * numbers);
        for (int r = 0; r < rows; ++r) scheme->prepare(memory.query.data() + static_cast<std::size_t>(r) * d, memory.prepared.data() + r * numbers);
        return;
    }
    memory.rotated = memory.query;
    if (const float* inverse = call.keys.balance_of(at.kv_head).inverse) {
        for (int r = 0; r < rows; ++r) {
            for (int j = 0; j < d; ++j) memory.rotated[static_cast<std::size_t>(r) * d + j] *= inverse[j];
        }
    }
    cpu::kernels().rotate(call.keys.codec.params(), memory.rotated.data(), rows);
    memory.packed.resize(cpu::kernels().packed_words(rows, d));
    cpu::kernels().pack_rows(memory.rotated.data(), rows, d, memory.packed.data(), memory.unit.data());
}

// Of a KV head's side as kernels see it. (Values: sum_numbers() is head_dim for every scheme that they may have.)
cpu::RecordCoder record_coder(const RowScheme* scheme) {
    if (!scheme) return {};
    return {scheme, scheme->record_bytes(),
            [](const void* s, const float* prepared, int rows, const std::uint8_t* record, float* scores) {
                static_cast<const RowScheme*>(s)->scores(prepared, rows, record, scores);
            },
            [](const void* s, const float* weights, int rows, const std::uint8_t* record, float* sums) {
                static_cast<const RowScheme*>(s)->accumulate(weights, rows, record, sums);
            }};
}

void compute_item(const Call& call, const ItemPlace& at, const Partial& partial, ThreadMemory& memory) {
    const Plan& plan = call.shared.plan;
    const int rows = call.rows_of_block(at.block), value_dim = call.values.spec.head_dim;
    std::fill_n(partial.largest, rows, kMinusInfinity);
    std::fill_n(partial.total, rows, 0.0f);
    std::fill_n(partial.rotated, static_cast<std::size_t>(rows) * value_dim, 0.0f);
    std::fill_n(partial.exact, static_cast<std::size_t>(rows) * value_dim, 0.0f);
    memory.tiles.clear();
    const std::int64_t end = std::min(plan.tiles, (at.split + 1) * plan.tiles_per_split);
    for (std::int64_t i = at.split * plan.tiles_per_split; i < end; ++i) append_tile(call, call.args.first_stream + at.stream, at.kv_head, i, memory.tiles);
    gather_rows(call, at, rows, memory);

    cpu::AttendParams p{};
    p.rows = rows;
    p.key_dim = call.keys.spec.head_dim;
    p.value_dim = value_dim;
    p.key_coder = &call.keys.codec.params();
    p.value_coder = &call.values.codec.params();
    const cpu::RecordCoder key_records = record_coder(call.keys.scheme_of(at.kv_head)), value_records = record_coder(call.values.scheme_of(at.kv_head));
    p.key_records = key_records.scheme ? &key_records : nullptr;
    p.value_records = value_records.scheme ? &value_records : nullptr;
    p.query = memory.query.data();
    p.query_prepared = memory.prepared.data();
    p.query_packed = memory.packed.data();
    p.query_unit = memory.unit.data();
    p.mask = call.args.mask ? memory.masks.data() : nullptr;
    p.slope = memory.slopes.data();
    p.softcap = call.args.softcap;
    p.tiles = memory.tiles.data();
    p.num_tiles = static_cast<int>(memory.tiles.size());
    p.largest = partial.largest;
    p.total = partial.total;
    p.sum_rotated = partial.rotated;
    p.sum_exact = partial.exact;
    p.scratch = memory.kernel_scratch(cpu::kernels().attend_scratch_bytes(p.key_dim, p.value_dim));
    cpu::kernels().attend(p);
}

// Adds `part` to `sum`, both against the larger maximum.
void merge(const Partial& sum, const Partial& part, int rows, int value_dim) {
    for (int r = 0; r < rows; ++r) {
        if (part.largest[r] == kMinusInfinity) continue;
        const float largest = std::max(sum.largest[r], part.largest[r]);
        const float keep = std::exp(sum.largest[r] - largest), take = std::exp(part.largest[r] - largest);
        sum.largest[r] = largest;
        sum.total[r] = sum.total[r] * keep + part.total[r] * take;
        const std::size_t first = static_cast<std::size_t>(r) * value_dim;
        for (std::size_t j = first; j < first + value_dim; ++j) {
            sum.rotated[j] = sum.rotated[j] * keep + part.rotated[j] * take;
            sum.exact[j] = sum.exact[j] * keep + part.exact[j] * take;
        }
    }
}

void write_out(const Call& call, const ItemPlace& at, const Partial& sum) {
    const AttentionArgs& args = call.args;
    const int rows = call.rows_of_block(at.block), value_dim = call.values.spec.head_dim;
    if (const RowScheme* scheme = call.values.scheme_of(at.kv_head)) {
        for (int r = 0; r < rows; ++r) scheme->finish(sum.rotated + static_cast<std::size_t>(r) * value_dim, sum.rotated + static_cast<std::size_t>(r) * value_dim);
    } else {
        cpu::kernels().unrotate(call.values.codec.params(), sum.rotated, rows);
    }
    for (int r = 0; r < rows; ++r) {
        const auto [query, head] = row_of(call, at, r);
        float total = sum.total[r], factor = 1, largest = sum.largest[r];
        if (args.sinks) {  // as if one more cell with this score and a zero value had come last
            largest = std::max(largest, args.sinks[head]);
            factor = sum.largest[r] == kMinusInfinity ? 0.0f : std::exp(sum.largest[r] - largest);
            total = total * factor + (args.sinks[head] == kMinusInfinity ? 0.0f : std::exp(args.sinks[head] - largest));
        }
        if (!call.shared.log_totals.empty()) {
            const std::size_t head_row = static_cast<std::size_t>(at.stream) * args.num_heads + head;
            call.shared.log_totals[head_row * args.num_queries + query] = std::log(total) + largest;
        }
        const float inverse = total == 0 ? 0.0f : factor / total;
        float* out = args.out + at.stream * args.out_stream_stride + query * args.out_query_stride + head * args.out_stride;
        const std::size_t first = static_cast<std::size_t>(r) * value_dim;
        for (int j = 0; j < value_dim; ++j) out[j] = (sum.rotated[first + j] + sum.exact[first + j]) * inverse;
    }
}

// Power of the queries per KV head and channel, summed over the calls until the keys are judged.
void observe_queries(TileStore::Impl& keys, const AttentionArgs& args) {
    const int d = keys.spec.head_dim, group_size = args.num_heads / keys.shape.num_kv_heads;
    keys.query_power.resize(keys.row_numbers(), 0.0);
    for (int head = 0; head < args.num_heads; ++head) {
        double* power = keys.query_power.data() + static_cast<std::size_t>(head / group_size) * d;
        for (int s = 0; s < args.num_streams; ++s) {
            for (int i = 0; i < args.num_queries; ++i) {
                const float* q = args.query + s * args.query_stream_stride + head * args.query_head_stride + i * args.query_stride;
                for (int j = 0; j < d; ++j) power[j] += static_cast<double>(q[j]) * q[j];
            }
        }
    }
    keys.query_rows += static_cast<double>(args.num_streams) * args.num_queries * group_size;
}

// When the first tiles are about to be sealed, the keys that are there and all queries so far say how much noise the codes will add
// to the logits. Where the spec leaves it open, that fixes the width of the keys and the balance of their channels.
void judge_keys(TileStore::Impl& keys, float scale) {
    // Where nothing waits for it, a full tail is enough: all else may be sealed already, as in a restored state.
    const std::size_t enough = static_cast<std::size_t>(keys.spec.tail_tiles) + (keys.decided ? 0 : 1);
    bool ready = false;
    std::vector<std::size_t> tiles;
    for (const auto& list : keys.newest) {
        ready |= list.size() >= enough;
        tiles.insert(tiles.end(), list.begin(), list.begin() + static_cast<std::ptrdiff_t>(std::min(list.size(), kMostDecidingTiles)));
    }
    if (!ready) return;
    if (keys.spec.outlier_split && !keys.decided) keys.decide_outliers();
    keys.balanced_query_power.clear();
    const int d = keys.spec.head_dim;
    for (int kv_head = 0; kv_head < keys.shape.num_kv_heads; ++kv_head) {
        ChannelPower power{std::vector<double>(d, 0.0), std::vector<double>(d)};
        double key_rows = 0;
        for (const std::size_t index : tiles) {
            const std::uint64_t counted = keys.tiles[index].written & ~keys.sink_mask(index);
            key_rows += std::popcount(counted);
            keys.codec.add_power(keys.open_rows(keys.tiles[index]) + static_cast<std::size_t>(kv_head) * d, keys.row_numbers(), counted,
                                 keys.spec.centred_keys, power.key.data(), thread_codec_scratch());
        }
        for (int j = 0; j < d; ++j) {
            power.key[j] /= std::max(1.0, key_rows);
            power.query[j] = keys.query_power[static_cast<std::size_t>(kv_head) * d + j] / std::max(1.0, keys.query_rows);
        }
        std::vector<std::int8_t> exponents(d, 0);
        if (keys.spec.balanced_keys) {
            exponents = balance_exponents(power);
            keys.set_balance(kv_head, exponents);
        }
        float& balanced_power = keys.balanced_query_power.emplace_back(0.0f);
        for (int j = 0; j < d; ++j) balanced_power += static_cast<float>(std::ldexp(power.query[j], -2 * exponents[j]) * scale * scale);
        const std::size_t outliers = keys.outliers.size() / keys.shape.num_kv_heads;
        keys.noise = std::max(keys.noise, key_noise(keys.spec, {keys.outliers.data() + kv_head * outliers, outliers}, scale, power, exponents));
    }
    keys.judged = true;
    keys.query_power = {};
    if (keys.decided) return;
    keys.widened = keys.spec.wide_keys && keys.spec.key_bits < 8 && keys.noise > kWideKeyNoise;
    keys.decide(keys.widened ? 8 : keys.spec.key_bits);
}

// Brings the trend of the queries up to date; every thread takes some heads.
void follow_queries(Worker worker, TileStore::Impl& keys, const AttentionArgs& args, const std::vector<float>& log_totals) {
    for (int i = worker.index; i < args.num_streams * args.num_heads; i += worker.num_threads) {
        const int stream = i / args.num_heads, head = i % args.num_heads;
        keys.trend.add(args.first_stream + stream, head, args.query + stream * args.query_stream_stride + head * args.query_head_stride, args.query_stride,
                       args.num_queries, args.scale, log_totals.data() + static_cast<std::size_t>(i) * args.num_queries);
    }
}

}  // namespace

double wide_key_noise() { return kWideKeyNoise; }

void attend(Worker worker, TileStore& key_store, TileStore& value_store, const AttentionArgs& args, AttentionScratch& scratch) {
    TileStore::Impl &keys = key_store.impl(), &values = value_store.impl();
    AttentionScratch::Impl& shared = scratch.impl();
    const int threads = worker.num_threads;
    const int value_dim = values.spec.head_dim;
    if (worker.index == 0) {
        shared.plan = make_plan(args, keys.shape.num_kv_heads, threads);
        if (shared.threads.size() < static_cast<std::size_t>(threads)) shared.threads.resize(threads);
        const std::size_t groups = shared.plan.groups;
        if (shared.finished_capacity < groups) {
            shared.finished = std::make_unique<std::atomic<int>[]>(groups);
            shared.finished_capacity = groups;
        }
        for (std::size_t i = 0; i < groups; ++i) shared.finished[i].store(0, std::memory_order_relaxed);
        shared.next_item.store(0, std::memory_order_relaxed);
        shared.zero_row.resize(std::max(keys.spec.head_dim, value_dim), 0);
        if (!keys.judged) {
            observe_queries(keys, args);
            judge_keys(keys, args.scale);
        }
        shared.log_totals.clear();
        if (keys.keeps_keys()) {
            if (keys.trend.num_heads() != args.num_heads) keys.trend.reset(keys.shape.num_streams, args.num_heads, keys.spec.head_dim);
            shared.log_totals.resize(static_cast<std::size_t>(args.num_streams) * args.num_heads * args.num_queries);
        }
        const Call call{keys, values, args, shared};
        const std::size_t needed = partial_floats(call.max_rows(), value_dim) * shared.plan.items;
        if (shared.plan.splits > 1 && shared.partials.size() < needed) shared.partials.resize(needed);
    }
    worker.wait();

    const Call call{keys, values, args, shared};
    const Plan plan = shared.plan;
    const std::size_t part_floats = partial_floats(call.max_rows(), value_dim);

    ThreadMemory& memory = shared.threads[worker.index];
    for (int item; (item = shared.next_item.fetch_add(1, std::memory_order_relaxed)) < plan.items;) {
        const ItemPlace at = place_of(call, item);
        const int rows = call.rows_of_block(at.block);
        if (plan.splits == 1) {
            memory.partial.resize(std::max(memory.partial.size(), part_floats));
            const Partial partial = partial_at(memory.partial.data(), rows, value_dim);
            compute_item(call, at, partial, memory);
            write_out(call, at, partial);
            continue;
        }
        float* first = shared.partials.data() + static_cast<std::size_t>(at.group) * plan.splits * part_floats;
        compute_item(call, at, partial_at(first + at.split * part_floats, rows, value_dim), memory);
        if (shared.finished[at.group].fetch_add(1, std::memory_order_acq_rel) == plan.splits - 1) {
            const Partial sum = partial_at(first, rows, value_dim);
            for (int s = 1; s < plan.splits; ++s) merge(sum, partial_at(first + s * part_floats, rows, value_dim), rows, value_dim);
            write_out(call, at, sum);
        }
    }
    worker.wait();
    if (keys.keeps_keys()) follow_queries(worker, keys, args, shared.log_totals);
    key_store.seal(worker);
    value_store.seal(worker);
}

}  // namespace turboquant

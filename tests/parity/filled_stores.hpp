// A pair of stores with rows in them, written in one of several orders.
#pragma once

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "parity/cases.hpp"
#include "turboquant/cache.hpp"

namespace turboquant::parity {

inline Worker alone() {
    static Team team;
    return {&team, 0, 1};
}

inline std::unique_ptr<TileStore> make_store(const Spec& spec, const StoreShape& shape) {
    Result<std::unique_ptr<TileStore>> made = TileStore::create(spec, shape);
    return made.ok() ? std::move(made.value()) : nullptr;
}

inline std::vector<std::uint16_t> rows_of(const TileStore& store, std::int64_t first, std::int64_t num) {
    std::vector<std::uint16_t> rows(static_cast<std::size_t>(num) * store.shape().num_kv_heads * store.spec().head_dim);
    store.read_rows(first, num, rows.data());
    return rows;
}

// What is written to a cell: per head a mean that all cells share (which references take out) and noise of the cell's own. Rows
// without a mean are even noise.
inline std::vector<float> row_of(std::int64_t cell, int heads, int dim, float mean_deviation, std::uint64_t seed) {
    std::vector<float> row = gaussian(static_cast<std::size_t>(heads) * dim, seed * 7919 + 104729 * (cell + 1));
    const std::vector<float> mean = gaussian(row.size(), seed, 0.0f, mean_deviation + 1e-30f);
    for (std::size_t i = 0; i < row.size(); ++i) {
        if (mean_deviation > 0 && i % 16 == 3) row[i] *= 6;  // a loud channel, which balance makes up for
        row[i] += mean[i];
    }
    return row;
}

// Writes fresh rows to these cells (version tells rewrites apart), as one batch; then seals as attention would.
inline void write_cells(TileStore& store, const std::vector<std::int64_t>& cells, std::uint64_t seed, std::uint64_t version = 0) {
    const int dim = store.spec().head_dim, heads = store.shape().num_kv_heads;
    const std::size_t row = static_cast<std::size_t>(heads) * dim, stride = row + 5;
    std::vector<float> rows(stride * cells.size());
    for (std::size_t i = 0; i < cells.size(); ++i) {
        const float mean = store.shape().side == CacheSide::keys ? 2.0f : 0.0f;
        const std::vector<float> one = row_of(cells[i] + 1000000 * static_cast<std::int64_t>(version), heads, dim, mean, seed);
        std::copy(one.begin(), one.end(), rows.begin() + static_cast<std::ptrdiff_t>(stride * i));
    }
    store.write(alone(), rows.data(), stride, cells.data(), static_cast<int>(cells.size()));
    store.seal(alone());
}

inline std::vector<std::int64_t> cells_from(std::int64_t first, std::int64_t num) {
    std::vector<std::int64_t> cells(static_cast<std::size_t>(num));
    std::iota(cells.begin(), cells.end(), first);
    return cells;
}

enum class Fill { one_by_one, batches, one_batch, shuffled, rewritten };
inline constexpr Fill kFills[] = {Fill::one_by_one, Fill::batches, Fill::one_batch, Fill::shuffled, Fill::rewritten};

// Cells first..first + num - 1 of `store`.
inline void fill(TileStore& store, std::int64_t first, std::int64_t num, Fill how, std::uint64_t seed) {
    std::vector<std::int64_t> cells = cells_from(first, num);
    std::mt19937_64 engine(seed);
    if (how == Fill::shuffled) std::shuffle(cells.begin(), cells.end(), engine);
    std::size_t batch = cells.size();
    if (how == Fill::one_by_one) batch = 1;
    if (how == Fill::batches || how == Fill::shuffled || how == Fill::rewritten) batch = 37;
    for (std::size_t at = 0; at < cells.size(); at += batch) {
        const auto begin = cells.begin() + static_cast<std::ptrdiff_t>(at);
        write_cells(store, {begin, begin + static_cast<std::ptrdiff_t>(std::min(batch, cells.size() - at))}, seed);
    }
    if (how != Fill::rewritten || num == 0) return;
    // Some rows again, here and there, in an order that opens and seals tiles; then the end again, so that most are sealed.
    std::vector<std::int64_t> again;
    for (int i = 0; i < 12; ++i) again.push_back(first + static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(num)));
    for (const std::int64_t cell : again) write_cells(store, {cell}, seed, 1);
    write_cells(store, cells_from(first + std::max<std::int64_t>(0, num - 70), std::min<std::int64_t>(num, 70)), seed, 2);
}

struct Stores {
    std::unique_ptr<TileStore> keys, values;
};

inline Stores filled_stores(const AttendCase& c, Fill how, const Spec& base = {}) {
    Spec spec = base;
    spec.key_bits = c.key_bits;
    spec.value_bits = c.value_bits;
    spec.centred_keys = c.centred;
    spec.trellis_codes = c.trellis;
    StoreShape shape{CacheSide::keys, c.kv_heads, c.tokens + 37, c.streams};
    Stores stores;
    spec.head_dim = c.key_dim;
    stores.keys = make_store(spec, shape);
    spec.head_dim = c.value_dim;
    shape.side = CacheSide::values;
    stores.values = make_store(spec, shape);
    for (int stream = 0; stream < c.streams; ++stream) {
        fill(*stores.keys, stream * shape.cells_per_stream, c.tokens, how, 2 * c.seed + 1);
        fill(*stores.values, stream * shape.cells_per_stream, c.tokens, how, 2 * c.seed + 2);
    }
    return stores;
}

}  // namespace turboquant::parity

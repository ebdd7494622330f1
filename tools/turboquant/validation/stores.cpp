#include "validation/stores.hpp"

#include <cmath>
#include <numeric>
#include <vector>

#include "core/study/random.hpp"

namespace turboquant::validation {

Result<StorePair> filled_stores(const Spec& spec, int num_kv_heads, int tokens, std::uint64_t seed) {
    StoreShape shape{CacheSide::keys, num_kv_heads, tokens, 1};
    Result<std::unique_ptr<TileStore>> keys = TileStore::create(spec, shape);
    shape.side = CacheSide::values;
    Result<std::unique_ptr<TileStore>> values = TileStore::create(spec, shape);
    if (!keys.ok()) return keys.status();
    if (!values.ok()) return values.status();
    StorePair stores{std::move(keys.value()), std::move(values.value())};

    Team team;
    const Worker alone{&team, 0, 1};
    AttentionScratch scratch;
    const auto row = static_cast<std::size_t>(num_kv_heads) * spec.head_dim;
    const auto fill = [&](std::vector<float>& out, std::uint64_t stream) {
        std::vector<double> normal(out.size());
        study::fill_normal(seed, stream, normal);
        out.assign(normal.begin(), normal.end());
    };
    for (int first = 0; first < tokens; first += kTileTokens) {
        const int num = std::min(kTileTokens, tokens - first);
        std::vector<std::int64_t> cells(static_cast<std::size_t>(num));
        std::iota(cells.begin(), cells.end(), first);
        std::vector<float> rows(row * static_cast<std::size_t>(num)), query(row), out(row);
        fill(rows, 3 * static_cast<std::uint64_t>(first));
        stores.keys->write(alone, rows.data(), row, cells.data(), num);
        fill(rows, 3 * static_cast<std::uint64_t>(first) + 1);
        stores.values->write(alone, rows.data(), row, cells.data(), num);
        fill(query, 3 * static_cast<std::uint64_t>(first) + 2);
        AttentionArgs args;
        args.num_heads = num_kv_heads;
        args.num_cells = first + num;
        args.query = query.data();
        args.query_stride = row;
        args.query_head_stride = static_cast<std::size_t>(spec.head_dim);
        args.query_stream_stride = row;
        args.scale = 1 / std::sqrt(static_cast<float>(spec.head_dim));
        args.out = out.data();
        args.out_stride = static_cast<std::size_t>(spec.head_dim);
        args.out_query_stride = args.out_stream_stride = row;
        attend(alone, *stores.keys, *stores.values, args, scratch);
    }
    return stores;
}

StoreUsage usage_of(const StorePair& stores) {
    StoreUsage sum = stores.keys->usage();
    const StoreUsage values = stores.values->usage();
    sum.elements += values.elements;
    sum.resident_bytes += values.resident_bytes;
    sum.coded_bytes += values.coded_bytes;
    sum.exact_bytes += values.exact_bytes;
    sum.kept_keys += values.kept_keys;
    return sum;
}

double compression_ratio(const StoreUsage& usage) {
    return 2.0 * static_cast<double>(usage.elements) / static_cast<double>(usage.coded_bytes + usage.exact_bytes);
}

}  // namespace turboquant::validation

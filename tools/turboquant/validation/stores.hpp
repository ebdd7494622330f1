// A pair of real stores, filled through the public interface, so that sizes are counted and not computed.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "turboquant/cache.hpp"

namespace turboquant::validation {

struct StorePair {
    std::unique_ptr<TileStore> keys, values;
};

// Gaussian rows in cells 0 .. tokens - 1 of one stream, written and attended to in batches of 64, as an engine does. The seed decides the data.
// Fails as TileStore::create does.
Result<StorePair> filled_stores(const Spec& spec, int num_kv_heads, int tokens, std::uint64_t seed);

// Both sides together.
StoreUsage usage_of(const StorePair& stores);

// 16 bits over the bits that the stores' codes and exact rows take per number: without the rest of memory pages and bookkeeping, which
// depend on the machine.
double compression_ratio(const StoreUsage& usage);

}  // namespace turboquant::validation

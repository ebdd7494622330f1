// How many bytes a cache holds for the cells in use, for ours and for the engine's, so that they can be compared.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "turboquant_ggml.h"

namespace turboquant::tool {

// One cache that the engine announced: "size = 90.00 MiB ( 4096 cells, 30 layers, ...), K (f16): 45.00 MiB, V (f16): 45.00
// MiB". A model with a sliding window has two: one of all cells and a smaller one.
struct AnnouncedCache {
    std::uint32_t cells = 0;
    std::string key_type, value_type;
    double key_bytes = 0, value_bytes = 0;  // of all cells; the line is rounded to 0.01 MiB
};
std::optional<AnnouncedCache> parse_announcement(const std::string& line);

struct CacheUse {
    double bytes = 0;         // held for the cells that have been written
    double elements = 0;      // K and V numbers in these cells
    std::int64_t cells = 0;   // written so far, of the largest cache
    const char* method = "";  // how bytes was found

    // Of these, what belongs to the layers with the most cells: all layers, but for models with a sliding window those that
    // attend to everything. (In a context that is no longer than the window, all layers have the same cells.)
    double full_bytes = 0, full_elements = 0;

    std::int64_t whole_bytes() const { return static_cast<std::int64_t>(bytes); }
    double bits_per_value() const { return elements > 0 ? 8 * bytes / elements : 0; }
    double full_bits_per_value() const { return full_elements > 0 ? 8 * full_bytes / full_elements : 0; }
};

// The engine's caches: rows of the cells in use, exact although the announcement is rounded.
CacheUse engine_cache_use(const std::vector<AnnouncedCache>& caches, std::int64_t written);

// Our caches: the plug-in counts for the whole process, so a session owns the differences made while it worked.
class PackedMeter {
public:
    void absorb();       // after every operation of the owning session: takes what has changed since anybody's last absorb()
    static void skip();  // forgets changes that belong to nobody (a session went away)

    CacheUse use(std::int64_t written) const;
    std::uint32_t plain_tensors() const { return plain_tensors_; }
    std::uint32_t packed_tensors() const { return packed_tensors_; }
    std::uint32_t wide_key_layers() const { return wide_key_layers_; }
    std::uint32_t noisy_key_layers() const { return noisy_key_layers_; }

private:
    double resident_ = 0, elements_ = 0, full_resident_ = 0, full_elements_ = 0;
    std::uint32_t plain_tensors_ = 0, packed_tensors_ = 0, wide_key_layers_ = 0, noisy_key_layers_ = 0;
};

}  // namespace turboquant::tool

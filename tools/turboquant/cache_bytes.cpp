#include "cache_bytes.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "ggml.h"

namespace turboquant::tool {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;

tq_ggml_stats process_stats() {
    tq_ggml_stats stats{};
    stats.size = sizeof stats;
    if (tq_ggml_get_stats(&stats) != 0) stats = {};
    return stats;
}

tq_ggml_stats& last_stats() {
    static tq_ggml_stats last{};
    return last;
}

struct PerCell {
    double bytes = 0, elements = 0;
};

// Bytes and numbers of one cell over all layers, from the size of all cells. Rows are whole blocks and models have rows
// of whole multiples of 32 numbers, so that rounding to 32 numbers undoes the rounding of the text.
PerCell per_cell(const std::string& type_name, double bytes, std::uint32_t cells) {
    for (int t = 0; t < GGML_TYPE_COUNT; ++t) {
        const auto type = static_cast<ggml_type>(t);
        if (ggml_blck_size(type) == 0 || type_name != ggml_type_name(type)) continue;
        const double bytes_per_number = static_cast<double>(ggml_type_size(type)) / static_cast<double>(ggml_blck_size(type));
        const double numbers = 32 * std::round(bytes / cells / bytes_per_number / 32);
        return {numbers * bytes_per_number, numbers};
    }
    return {bytes / cells, 0};
}

}  // namespace

std::optional<AnnouncedCache> parse_announcement(const std::string& line) {
    const auto start = line.find("size = ");
    const auto details = line.find("K (");
    if (start == std::string::npos || details == std::string::npos) return std::nullopt;
    double total = 0, key_mib = 0, value_mib = 0;
    unsigned cells = 0;
    char key_type[32] = {}, value_type[32] = {};
    if (std::sscanf(line.c_str() + start, "size = %lf MiB ( %u cells", &total, &cells) != 2) return std::nullopt;
    if (std::sscanf(line.c_str() + details, "K (%31[^)]): %lf MiB, V (%31[^)]): %lf MiB", key_type, &key_mib, value_type,
                    &value_mib) != 4)
        return std::nullopt;
    if (cells == 0) return std::nullopt;
    return AnnouncedCache{cells, key_type, value_type, key_mib * kMiB, value_mib * kMiB};
}

CacheUse engine_cache_use(const std::vector<AnnouncedCache>& caches, std::int64_t written) {
    CacheUse use;
    use.method = "rows of the cells in use";
    use.cells = written;
    std::uint32_t most_cells = 0;
    for (const AnnouncedCache& cache : caches) most_cells = std::max(most_cells, cache.cells);
    for (const AnnouncedCache& cache : caches) {
        const double cells = static_cast<double>(std::min<std::int64_t>(written, cache.cells));
        const PerCell key = per_cell(cache.key_type, cache.key_bytes, cache.cells);
        const PerCell value = per_cell(cache.value_type, cache.value_bytes, cache.cells);
        const double bytes = cells * (key.bytes + value.bytes), elements = cells * (key.elements + value.elements);
        use.bytes += bytes;
        use.elements += elements;
        if (cache.cells < most_cells) continue;
        use.full_bytes += bytes;
        use.full_elements += elements;
    }
    return use;
}

void PackedMeter::absorb() {
    const tq_ggml_stats now = process_stats();
    const tq_ggml_stats& before = last_stats();
    resident_ += static_cast<double>(now.resident_bytes) - static_cast<double>(before.resident_bytes);
    elements_ += static_cast<double>(now.elements) - static_cast<double>(before.elements);
    full_resident_ += static_cast<double>(now.full_resident_bytes) - static_cast<double>(before.full_resident_bytes);
    full_elements_ += static_cast<double>(now.full_elements) - static_cast<double>(before.full_elements);
    plain_tensors_ += now.plain_tensors - before.plain_tensors;  // unsigned arithmetic wraps back
    packed_tensors_ += now.packed_tensors - before.packed_tensors;
    wide_key_layers_ += now.wide_key_layers - before.wide_key_layers;
    noisy_key_layers_ += now.noisy_key_layers - before.noisy_key_layers;
    last_stats() = now;
}

void PackedMeter::skip() { last_stats() = process_stats(); }

CacheUse PackedMeter::use(std::int64_t written) const {
    return {resident_,      elements_,     written, "resident in the process: codes, scales, references, exact tokens, bookkeeping",
            full_resident_, full_elements_};
}

}  // namespace turboquant::tool

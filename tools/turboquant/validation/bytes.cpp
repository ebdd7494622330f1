// Packed codes come back as they were, at every width and in both layouts; and how small a cache is, counted in real buffers.
#include <cmath>

#include <fmt/format.h>
#include <unistd.h>

#include "core/convert.hpp"
#include "core/counter_rng.hpp"
#include "core/layout.hpp"
#include "turboquant/spec.hpp"
#include "validation/row.hpp"
#include "validation/stores.hpp"

namespace turboquant::validation {
namespace {

int code_at(int bits, int token, int dim) {
    return static_cast<int>(counter_word(0x9ac, static_cast<std::uint64_t>(token), static_cast<std::uint64_t>(dim)) &
                            ((1u << bits) - 1));
}

// Random codes into a tile of each side, to records, to another tile: how many are not what was put in, and how many bytes of the second
// tile's codes differ from the first's.
int wrong_codes(int head_dim, int bits) {
    const RowLayout row{head_dim, bits, bits};
    std::vector<std::uint8_t> records(row.record_bytes() * kTileTokens, 0xa5);
    int wrong = 0;
    for (const Side side : {Side::key, Side::value}) {
        const SideLayout layout = side_layout(row, side);
        std::vector<std::uint8_t> blob(layout.tile.blob_bytes(), 0x5a), back(layout.tile.blob_bytes(), 0xff);
        for (int t = 0; t < kTileTokens; ++t)
            for (int j = 0; j < head_dim; ++j) tile_set_code(layout.tile, blob.data(), t, j, code_at(bits, t, j));
        tile_to_rows(layout, blob.data(), records.data());
        rows_to_tile(layout, records.data(), back.data());
        for (int t = 0; t < kTileTokens; ++t) {
            const std::uint8_t* packed = records.data() + static_cast<std::size_t>(t) * layout.record_bytes + layout.codes_offset;
            for (int j = 0; j < head_dim; ++j) {
                const int code = code_at(bits, t, j);
                wrong += tile_get_code(layout.tile, blob.data(), t, j) != code;
                wrong += row_get_code(packed, bits, j) != code;
                wrong += tile_get_code(layout.tile, back.data(), t, j) != code;
            }
        }
        for (std::size_t i = 0; i < layout.tile.codes_bytes(); ++i) wrong += blob[i] != back[i];
    }
    return wrong;
}

void add_packing(Rows& rows) {
    for (const int bits : supported_bits()) {
        int wrong = 0;
        for (const int dim : supported_head_dims()) wrong += wrong_codes(dim, bits);
        rows.push_back({"bytes", fmt::format("{}-bit codes packed, converted and unpacked, every head size: wrong ones", bits),
                        std::nullopt, 0.0, static_cast<double>(wrong), 0.0, 0.0, "exact"});
    }
}

// One preset in real stores. Sealed tiles are counted exactly; the rest of the memory is what the system says.
void add_preset(Rows& rows, const Preset& preset, int head_dim, int tokens) {
    constexpr int kHeads = 2;
    Spec spec = preset.spec;
    spec.head_dim = head_dim;
    const std::string where = fmt::format("{}, d={}, {} tokens", preset.name, head_dim, tokens);
    const Result<StorePair> made = filled_stores(spec, kHeads, tokens, 0xb17e5);
    const auto bits = [&](double bytes, double numbers) { return 8 * bytes / numbers; };
    if (!made.ok() && made.status().code() == StatusCode::unsupported) {
        rows.push_back({"bytes", where + ": bits per number of sealed tiles", std::nullopt, std::nullopt, code_bits(spec).mean,
                        std::nullopt, std::nullopt, "for information: computed, because " + made.status().message()});
        return;
    }
    if (!made.ok()) {
        rows.push_back({"bytes", where + ": store", std::nullopt, std::nullopt, NAN, 0.0, 0.0, made.status().message()});
        return;
    }
    const StoreUsage usage = usage_of(made.value());
    const int sealed = tokens / kTileTokens - spec.tail_tiles;
    const double numbers = static_cast<double>(sealed) * kTileTokens * head_dim * kHeads * 2;
    const double code = bits(static_cast<double>(usage.coded_bytes), numbers), expected = code_bits(spec).mean;
    rows.push_back({"bytes", where + ": bits per number of sealed tiles", std::nullopt, expected, code, expected, expected,
                    "exact: blobs have one size"});

    const double exact_rows = static_cast<double>(spec.tail_tiles) * kTileTokens * 2 + spec.sink_tokens * 2;
    const double exact = exact_rows * kHeads * head_dim * 2 + static_cast<double>(usage.kept_keys) * head_dim * 2;
    rows.push_back({"bytes", where + ": exact bytes (tail, first tokens, kept keys)", std::nullopt, exact,
                    static_cast<double>(usage.exact_bytes), exact, exact, "exact: 2 bytes per number"});

    // Beside the bytes: a part of a memory page at the end of each side's sealed tiles, of each open tile and of the exact rows kept beside
    // codes, and tables of at most 16 KiB for stores as small as these.
    const double counted = static_cast<double>(usage.coded_bytes + usage.exact_bytes), all = static_cast<double>(usage.elements);
    const double allowance = 2 * (2 + spec.tail_tiles) * static_cast<double>(sysconf(_SC_PAGESIZE)) + 16384;
    rows.push_back({"bytes", where + ": bits per value, all resident memory", std::nullopt, bits(counted, all),
                    bits(static_cast<double>(usage.resident_bytes), all), bits(counted, all), bits(counted + allowance, all),
                    "from what is stored to that, the rest of memory pages, and tables"});
}

}  // namespace

Rows byte_rows(const Options& options) {
    Rows rows;
    add_packing(rows);
    for (const Preset& preset : presets()) add_preset(rows, preset, 128, options.quick ? 1024 : 4096);
    add_preset(rows, presets().front(), 80, 1024);
    return rows;
}

}  // namespace turboquant::validation

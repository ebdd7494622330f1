// The parts of a TileStore that differ when its side is coded by records (core/scheme.hpp): a sealed tile is 64 records, row by row.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/half.hpp"
#include "cpu/tile_store.hpp"

namespace turboquant {

void TileStore::Impl::make_schemes() {
    const Side side = shape.side == CacheSide::keys ? Side::key : Side::value;
    for (int head = 0; head < shape.num_kv_heads; ++head) {
        if (head > 0 && outliers.empty()) {  // nothing in it is the head's own
            schemes.push_back(schemes.front());
        } else {
            const std::size_t count = outliers.size() / shape.num_kv_heads;
            schemes.push_back(make_scheme(spec, side, {outliers.data() + head * count, count}));
        }
    }
}

// From all rows that are still open, sinks and broken ones aside.
bool TileStore::Impl::decide_outliers() {
    const std::size_t d = spec.head_dim, row = row_numbers();
    outliers.clear();
    schemes.clear();
    for (int head = 0; head < shape.num_kv_heads; ++head) {
        std::vector<double> power(d, 0.0), squares(d);
        for (const auto& list : newest) {
            for (std::size_t i = 0; i < std::min<std::size_t>(list.size(), kMostDecidingTiles); ++i) {
                if (!tiles[list[i]].is_open()) continue;
                const std::uint16_t* rows = open_rows(tiles[list[i]]) + head * d;
                for (std::uint64_t left = tiles[list[i]].written & ~sink_mask(list[i]); left; left &= left - 1) {
                    const std::uint16_t* x = rows + std::countr_zero(left) * row;
                    for (std::size_t j = 0; j < d; ++j) squares[j] = static_cast<double>(half_to_float(x[j])) * half_to_float(x[j]);
                    if (!std::all_of(squares.begin(), squares.end(), [](double v) { return std::isfinite(v); })) continue;
                    for (std::size_t j = 0; j < d; ++j) power[j] += squares[j];
                }
            }
        }
        const std::vector<std::uint16_t> loudest = outlier_channels(power);
        outliers.insert(outliers.end(), loudest.begin(), loudest.end());
    }
    make_schemes();
    return decide(codec.coder().bits);
}

void TileStore::Impl::recode(int kv_head, const std::uint16_t* rows, std::size_t row_stride, std::uint64_t which,
                             std::uint8_t* blob) const {
    const RowScheme* scheme = scheme_of(kv_head);
    if (!scheme) return codec.recode(rows, row_stride, which, balance_of(kv_head), blob, thread_codec_scratch());
    std::vector<float>& wide = thread_codec_scratch().wide;
    wide.resize(spec.head_dim);
    for (; which; which &= which - 1) {
        const int t = std::countr_zero(which);
        cpu::kernels().halves_to_floats(rows + t * row_stride, wide.data(), wide.size());
        scheme->encode(wide.data(), blob + t * scheme->record_bytes());
    }
}

void TileStore::Impl::open_blob(int kv_head, const std::uint8_t* blob, std::uint16_t* rows, std::size_t row_stride) const {
    const RowScheme* scheme = scheme_of(kv_head);
    if (!scheme) return codec.open(blob, balance_of(kv_head), rows, row_stride, thread_codec_scratch());
    std::vector<float>& wide = thread_codec_scratch().wide;
    wide.resize(spec.head_dim);
    for (int t = 0; t < kTileTokens; ++t) {
        scheme->decode(blob + t * scheme->record_bytes(), wide.data());
        cpu::kernels().floats_to_halves(wide.data(), rows + t * row_stride, wide.size());
    }
}

std::size_t TileStore::Impl::scheme_bytes() const {
    std::size_t bytes = 2 * outliers.size();
    for (std::size_t head = 0; head < schemes.size(); ++head) {
        if (head == 0 || schemes[head] != schemes.front()) bytes += schemes[head]->own_bytes();
    }
    return bytes;
}

}  // namespace turboquant

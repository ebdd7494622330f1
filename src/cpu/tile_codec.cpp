#include "cpu/tile_codec.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/half.hpp"

namespace turboquant::cpu {
namespace {

// Every code of the tile at once: gather 64 lanes, then merge them into their planes. codes [64][head_dim].
void pack_tile(const TileLayout& layout, const std::uint8_t* codes, std::uint8_t* out) {
    const int d = layout.head_dim, main_bits = main_plane_bits(layout.bits), extra_bits = extra_plane_bits(layout.bits);
    std::memset(out, 0, layout.codes_bytes());
    for (int v = 0; v < d; ++v) {
        std::uint8_t lanes[kLanes];
        if (layout.side == Side::key) {
            for (int t = 0; t < 16; ++t) std::memcpy(lanes + 4 * t, codes + static_cast<std::size_t>(v % 4 * 16 + t) * d + v / 4 * 4, 4);
        } else {
            for (int i = 0; i < 4; ++i) {
                const std::uint8_t* row = codes + static_cast<std::size_t>(v % 16 * 4 + i) * d + v / 16 * 16;
                for (int n = 0; n < 16; ++n) lanes[4 * n + i] = row[n];
            }
        }
        std::uint8_t* chunk = out + v / kChunkVectors * layout.chunk_bytes();
        const auto merge = [&](std::uint8_t* plane, int width, int low_bit) {
            const auto place = detail::plane_bit(width, v % kChunkVectors, 0);
            for (int i = 0; i < kLanes; ++i) {
                plane[place.byte + i] |= static_cast<std::uint8_t>((lanes[i] >> low_bit & ((1 << width) - 1)) << place.shift);
            }
        };
        merge(chunk, main_bits, 0);
        if (extra_bits) merge(chunk + static_cast<std::size_t>(kLanes) * main_bits, extra_bits, main_bits);
    }
}

std::uint16_t* scales_of(const TileLayout& layout, std::uint8_t* blob) {
    return reinterpret_cast<std::uint16_t*>(blob + layout.scales_offset());
}

}  // namespace

TileCodec::TileCodec(const Coder& coder) : coder_(coder), params_(coder_params(coder)), layout_{coder.side, coder.head_dim, coder.bits} {}

void TileCodec::widen(const std::uint16_t* rows, std::size_t row_stride, std::uint64_t counted, CodecScratch& scratch) const {
    const int d = layout_.head_dim;
    scratch.wide.resize(static_cast<std::size_t>(kTileTokens) * d);
    for (int t = 0; t < kTileTokens; ++t) {
        float* out = scratch.wide.data() + static_cast<std::size_t>(t) * d;
        if (counted >> t & 1) {
            kernels().halves_to_floats(rows + t * row_stride, out, d);
        } else {
            std::fill_n(out, d, 0.0f);
        }
    }
}

// The tree of reference::tile_reference, all columns side by side.
void TileCodec::mean_of_wide(std::uint64_t counted, std::uint16_t* mean, CodecScratch& scratch) const {
    const std::size_t d = layout_.head_dim;
    scratch.folded = scratch.wide;
    float* sum = scratch.folded.data();
    for (int t = 0; t < kTileTokens; ++t) {  // one broken row must not break its neighbours
        float* row = sum + static_cast<std::size_t>(t) * d;
        if (!(counted >> t & 1) || std::all_of(row, row + d, [](float x) { return std::isfinite(x); })) continue;
        counted &= ~(1ull << t);
        std::fill_n(row, d, 0.0f);
    }
    const int count = std::popcount(counted);
    if (count == 0) {
        std::fill_n(mean, d, std::uint16_t{0});
        return;
    }
    for (std::size_t h = kTileTokens / 2; h >= 1; h /= 2) {
        for (std::size_t i = 0; i < h * d; ++i) sum[i] = sum[i] + sum[i + h * d];
    }
    for (std::size_t j = 0; j < d; ++j) sum[j] = sum[j] / static_cast<float>(count);
    kernels().floats_to_halves(sum, mean, d);
}

void TileCodec::seal(const std::uint16_t* rows, std::size_t row_stride, std::uint64_t counted, bool centred, BalanceFactors balance,
                     std::uint8_t* blob, CodecScratch& scratch) const {
    const int d = layout_.head_dim;
    widen(rows, row_stride, counted, scratch);
    if (coder_.side == Side::key) {
        auto* reference = reinterpret_cast<std::uint16_t*>(blob + layout_.reference_offset());
        std::fill_n(reference, d, std::uint16_t{0});
        if (centred) {
            mean_of_wide(counted, reference, scratch);
            scratch.folded.resize(d);
            kernels().halves_to_floats(reference, scratch.folded.data(), d);
            for (int t = 0; t < kTileTokens; ++t) {
                float* row = scratch.wide.data() + static_cast<std::size_t>(t) * d;
                if (counted >> t & 1) {
                    for (int j = 0; j < d; ++j) row[j] -= scratch.folded[j];
                }
            }
        }
    }
    if (balance.forward) {
        for (int t = 0; t < kTileTokens; ++t) {
            for (int j = 0; j < d; ++j) scratch.wide[static_cast<std::size_t>(t) * d + j] *= balance.forward[j];
        }
    }
    float scales[kTileTokens];
    scratch.codes.resize(static_cast<std::size_t>(kTileTokens) * d);
    kernels().encode(params_, scratch.wide.data(), kTileTokens, scratch.codes.data(), scales);
    pack_tile(layout_, scratch.codes.data(), blob);
    kernels().floats_to_halves(scales, scales_of(layout_, blob), kTileTokens);
}

void TileCodec::recode(const std::uint16_t* rows, std::size_t row_stride, std::uint64_t which, BalanceFactors balance, std::uint8_t* blob,
                       CodecScratch& scratch) const {
    const int d = layout_.head_dim;
    const auto* reference = reinterpret_cast<const std::uint16_t*>(blob + layout_.reference_offset());
    scratch.wide.resize(d);
    scratch.folded.assign(d, 0.0f);
    scratch.codes.resize(d);
    if (coder_.side == Side::key) kernels().halves_to_floats(reference, scratch.folded.data(), d);
    for (; which; which &= which - 1) {
        const int t = std::countr_zero(which);
        kernels().halves_to_floats(rows + t * row_stride, scratch.wide.data(), d);
        for (int j = 0; j < d; ++j) scratch.wide[j] = (scratch.wide[j] - scratch.folded[j]) * (balance.forward ? balance.forward[j] : 1.0f);
        float scale;
        kernels().encode(params_, scratch.wide.data(), 1, scratch.codes.data(), &scale);
        for (int j = 0; j < d; ++j) tile_set_code(layout_, blob, t, j, scratch.codes[j]);
        kernels().floats_to_halves(&scale, scales_of(layout_, blob) + t, 1);
    }
}

void TileCodec::open(const std::uint8_t* blob, BalanceFactors balance, std::uint16_t* rows, std::size_t row_stride, CodecScratch& scratch) const {
    const int d = layout_.head_dim;
    scratch.wide.resize(static_cast<std::size_t>(kTileTokens) * d);
    scratch.unpacked.resize(static_cast<std::size_t>(kTileTokens) * d * sizeof(float));
    float scales[kTileTokens];
    kernels().halves_to_floats(reinterpret_cast<const std::uint16_t*>(blob + layout_.scales_offset()), scales, kTileTokens);
    kernels().decode_tile(params_, coder_.side == Side::key, blob, scales, scratch.wide.data(), scratch.unpacked.data());
    kernels().unrotate(params_, scratch.wide.data(), kTileTokens);
    scratch.folded.assign(d, 0.0f);
    if (coder_.side == Side::key) {
        kernels().halves_to_floats(reinterpret_cast<const std::uint16_t*>(blob + layout_.reference_offset()), scratch.folded.data(), d);
    }
    for (int t = 0; t < kTileTokens; ++t) {
        float* row = scratch.wide.data() + static_cast<std::size_t>(t) * d;
        for (int j = 0; j < d; ++j) row[j] = row[j] * (balance.inverse ? balance.inverse[j] : 1.0f) + scratch.folded[j];
        kernels().floats_to_halves(row, rows + t * row_stride, d);
    }
}

void TileCodec::distances(const std::uint16_t* rows, std::size_t row_stride, std::uint64_t counted, BalanceFactors balance, const std::uint8_t* blob,
                          std::array<float, kTileTokens>& squared, CodecScratch& scratch) const {
    const int d = layout_.head_dim;
    widen(rows, row_stride, counted, scratch);
    scratch.folded.resize(d);
    kernels().halves_to_floats(reinterpret_cast<const std::uint16_t*>(blob + layout_.reference_offset()), scratch.folded.data(), d);
    for (int t = 0; t < kTileTokens; ++t) {
        const float* row = scratch.wide.data() + static_cast<std::size_t>(t) * d;
        squared[t] = 0;
        for (int j = 0; j < d; ++j) {
            const float x = (row[j] - scratch.folded[j]) * (balance.forward ? balance.forward[j] : 1.0f);
            squared[t] += x * x;
        }
    }
}

void TileCodec::add_power(const std::uint16_t* rows, std::size_t row_stride, std::uint64_t counted, bool centred, double* power,
                          CodecScratch& scratch) const {
    const int d = layout_.head_dim, count = std::popcount(counted);
    widen(rows, row_stride, counted, scratch);
    for (int j = 0; j < d && count > 0; ++j) {
        double sum = 0, squares = 0;
        for (int t = 0; t < kTileTokens; ++t) {
            const double x = scratch.wide[static_cast<std::size_t>(t) * d + j];
            sum += x;
            squares += x * x;
        }
        power[j] += centred ? std::max(0.0, squares - sum * sum / count) : squares;
    }
}

}  // namespace turboquant::cpu

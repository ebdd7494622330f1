#include "cpu/kept_keys.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "core/half.hpp"
#include "core/noise.hpp"
#include "cpu/tile_store.hpp"

namespace turboquant {

std::size_t KeptKeys::bytes(int head_dim) const { return 2 * static_cast<std::size_t>(std::popcount(rows)) * head_dim; }

KeptKeys KeptKeys::copy(int head_dim) const {
    KeptKeys other;
    other.rows = rows;
    if (const std::size_t numbers_kept = bytes(head_dim) / 2; numbers_kept > 0) {
        other.numbers = std::make_unique<std::uint16_t[]>(numbers_kept);
        std::copy_n(numbers.get(), numbers_kept, other.numbers.get());
    }
    return other;
}

void QueryTrend::reset(int num_streams, int num_heads, int head_dim) {
    const std::size_t pairs = static_cast<std::size_t>(num_streams) * num_heads;
    num_heads_ = num_heads;
    head_dim_ = head_dim;
    sum_.assign(pairs * head_dim, 0.0f);
    log_total_.assign(pairs, 0.0f);
    weight_.assign(pairs, 0.0f);
}

void QueryTrend::add(int stream, int head, const float* query, std::size_t query_stride, int num_queries, float scale, const float* log_totals) {
    const std::size_t pair = static_cast<std::size_t>(stream) * num_heads_ + head;
    float* sum = sum_.data() + pair * head_dim_;
    const int first = std::max(0, num_queries - kHorizon);
    const float fade = std::pow(1.0f - 1.0f / kHorizon, static_cast<float>(num_queries - first));
    for (int j = 0; j < head_dim_; ++j) sum[j] *= fade;
    log_total_[pair] *= fade;
    weight_[pair] *= fade;
    for (int i = first; i < num_queries; ++i) {
        if (!std::isfinite(log_totals[i])) continue;
        const float* q = query + static_cast<std::size_t>(i) * query_stride;
        for (int j = 0; j < head_dim_; ++j) sum[j] += q[j] * scale;
        log_total_[pair] += log_totals[i];
        weight_[pair] += 1;
    }
}

float QueryTrend::log_weight(int stream, int head, const float* key) const {
    std::size_t pair = static_cast<std::size_t>(stream) * num_heads_ + head;
    for (std::size_t other = head; weight_[pair] == 0 && other < weight_.size(); other += num_heads_) {
        if (weight_[other] > 0) pair = other;
    }
    if (weight_[pair] == 0) return -std::numeric_limits<float>::infinity();
    const float* sum = sum_.data() + pair * head_dim_;
    float dot = 0;
    for (int j = 0; j < head_dim_; ++j) dot += sum[j] * key[j];
    return (dot - log_total_[pair]) / weight_[pair];
}

std::uint64_t most_harmful(const std::array<float, kTileTokens>& harm, std::uint64_t candidates, int max_rows) {
    std::uint64_t kept = 0;
    for (int n = 0; n < max_rows; ++n) {
        int worst = -1;
        for (std::uint64_t left = candidates & ~kept; left; left &= left - 1) {
            const int t = std::countr_zero(left);
            if (harm[t] > kKeptKeyHarm && (worst < 0 || harm[t] > harm[worst])) worst = t;
        }
        if (worst < 0) break;
        kept |= 1ull << worst;
    }
    return kept;
}

// --- what a store does with them ---

void TileStore::Impl::forget_kept(std::size_t index) {
    for (int head = 0; head < shape.num_kv_heads && keeps_keys(); ++head) kept_of(index, head) = {};
}

// Tiles differ much in how many keys deserve it; on average it shall not be more than one, so that the bytes are bounded.
void TileStore::Impl::limit_kept() {
    std::size_t sealed_parts = 0, rows = 0;
    for (const Tile& tile : tiles) sealed_parts += tile.is_sealed() ? shape.num_kv_heads : 0;
    for (const KeptKeys& one : kept) rows += std::popcount(one.rows);
    most_kept = rows <= sealed_parts ? spec.kept_keys : std::min(spec.kept_keys, 1);
}

// Of rows that were given as they are, those that do not lie on the codewords which they have got: a restored state holds decoded
// numbers, and only exact rows have a coding error. decoded: what the codes stand for; wide: the rows; squared: their distances.
std::uint64_t TileStore::Impl::off_codewords(const std::vector<std::uint16_t>& decoded, const std::array<float, kTileTokens>& squared, std::uint64_t rows,
                                             int kv_head, const std::vector<float>& wide) const {
    const std::size_t d = spec.head_dim;
    const float* factors = balance_of(kv_head).forward;
    // A new reference moves all rows by about a 64th of the distortion; a row that is coded for the first time errs by all of it.
    const auto limit = static_cast<float>(relative_distortion(codec.coder().bits) / 4);
    std::uint64_t off = 0;
    for (std::uint64_t left = rows; left; left &= left - 1) {
        const int t = std::countr_zero(left);
        float error = 0;
        for (std::size_t j = 0; j < d; ++j) {
            const float x = (wide[t * d + j] - half_to_float(decoded[t * d + j])) * (factors ? factors[j] : 1.0f);
            error += x * x;
        }
        if (!(error <= limit * squared[t])) off |= 1ull << t;
    }
    return off;
}

// Rows that came back from codes are not exact any more, so that only those written since, and those kept before, qualify. In a
// tile of a restored state, whose rows have all been written since, they are those that do not lie on codewords; the few that were
// kept when it was saved stay kept, whatever the latest queries look at.
void TileStore::Impl::choose_kept(std::size_t index, int kv_head) {
    const Tile& tile = tiles[index];
    const std::size_t row = row_numbers(), d = spec.head_dim;
    const std::uint16_t* rows = open_rows(tile) + kv_head * d;
    KeptKeys& chosen = kept_of(index, kv_head);
    std::uint64_t candidates = (tile.dirty | chosen.rows) & tile.written & ~sink_mask(index);
    chosen = {};
    if (!trend.any() || balanced_query_power.empty()) return;
    const int stream = static_cast<int>(index / static_cast<std::size_t>(tiles_per_stream()));
    const int group = trend.num_heads() / shape.num_kv_heads;
    std::array<float, kTileTokens> harm;
    cpu::CodecScratch& scratch = thread_codec_scratch();
    std::vector<std::uint16_t> decoded;
    if (given[index]) {
        decoded.resize(kTileTokens * d);
        open_blob(kv_head, blob(tile, kv_head), decoded.data(), d);
    }
    codec.distances(rows, row, candidates, balance_of(kv_head), blob(tile, kv_head), harm, scratch);
    std::uint64_t kept_before = 0;
    if (given[index]) {
        const std::uint64_t off = off_codewords(decoded, harm, candidates, kv_head, scratch.wide);
        if (std::popcount(off) <= spec.kept_keys && 2 * std::popcount(off) < std::popcount(candidates)) kept_before = off;
        candidates = off;
    }
    for (int t = 0; t < kTileTokens; ++t) {
        float log_weight = -INFINITY;
        for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
            log_weight = std::max(log_weight, trend.log_weight(stream, head, scratch.wide.data() + t * d));
        }
        harm[t] *= std::exp(std::min(log_weight, 0.0f)) * balanced_query_power[kv_head] / static_cast<float>(d);
    }
    chosen.rows = kept_before ? kept_before : most_harmful(harm, candidates, most_kept);
    if (chosen.rows == 0) return;
    chosen.numbers = std::make_unique<std::uint16_t[]>(chosen.bytes(spec.head_dim) / 2);
    std::uint16_t* out = chosen.numbers.get();
    for (std::uint64_t left = chosen.rows; left; left &= left - 1, out += d) std::copy_n(rows + std::countr_zero(left) * row, d, out);
}

}  // namespace turboquant

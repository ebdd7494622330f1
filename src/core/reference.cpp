#include "core/reference.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/codebook.hpp"
#include "core/half.hpp"

namespace turboquant {

Coder make_coder(const Spec& spec, Side side) {
    return {spec.head_dim, side == Side::key ? spec.key_bits : spec.value_bits, spec.gain_search, spec.trellis_codes, side,
            rotation_tables(spec.head_dim, spec.rotation, spec.seed, side)};
}

namespace reference {
namespace {

constexpr std::uint16_t kNanHalf = 0x7e00;

std::uint16_t load_half(const std::uint8_t* bytes) {
    std::uint16_t h;
    std::memcpy(&h, bytes, 2);
    return h;
}

void store_half(std::uint8_t* bytes, std::uint16_t h) {
    std::memcpy(bytes, &h, 2);
}

// In binary16; a finite scale never becomes infinite.
std::uint16_t kept_scale(Side side, float norm2, float dot, float power) {
    const float scale = side == Side::key ? std::sqrt(norm2 / power) : norm2 / dot;
    return float_to_half(std::min(scale, 65504.0f));
}

// 8 bits: a uniform grid whose end is the largest coordinate.
void encode_uniform(const Coder& coder, const std::vector<float>& y, float norm2, std::uint8_t* codes, std::uint16_t* scale) {
    float largest = 0;
    for (float v : y) largest = std::max(largest, std::abs(v));
    const float units = 127.0f / largest;
    std::vector<float> products(coder.head_dim);
    float power = 0;
    for (int j = 0; j < coder.head_dim; ++j) {
        const float rounded = std::nearbyintf(std::min(std::max(y[j] * units, -127.0f), 127.0f));
        codes[j] = static_cast<std::uint8_t>(static_cast<int>(rounded) + 128);
        products[j] = y[j] * rounded;
        power += rounded * rounded;  // integers below 2^24: exact in any order
    }
    *scale = kept_scale(coder.side, norm2, tree_sum(products), power);
}

void encode_codebook(const Coder& coder, const std::vector<float>& y, float norm2, std::uint8_t* codes, std::uint16_t* scale) {
    const Codebook& book = codebook(coder.bits);
    const float sigma = std::sqrt(norm2 / static_cast<float>(coder.head_dim));
    const float units = book.alpha / sigma;
    float best_score = -1;
    std::vector<float> products(coder.head_dim);
    std::vector<std::uint8_t> trial(coder.head_dim);
    const int first = coder.gain_search ? 0 : kGains / 2, last = coder.gain_search ? kGains : kGains / 2 + 1;
    for (int g = first; g < last; ++g) {
        const float factor = kGain[g] * units;
        float power = 0;
        for (int j = 0; j < coder.head_dim; ++j) {
            const float magnitude = std::abs(y[j]) * factor;
            int k = 0;
            while (k + 1 < book.half && magnitude >= book.threshold[k + 1]) ++k;
            trial[j] = static_cast<std::uint8_t>(std::signbit(y[j]) ? book.half - 1 - k : book.half + k);
            const float level = book.positive[k];
            products[j] = std::abs(y[j]) * level;
            power += level * level;
        }
        const float dot = tree_sum(products);
        const float score = dot * dot / power;
        if (score > best_score) {
            best_score = score;
            std::copy(trial.begin(), trial.end(), codes);
            *scale = kept_scale(coder.side, norm2, dot, power);
        }
    }
}

// The gain whose best path comes nearest to the vector.
void encode_trellis(const Coder& coder, const std::vector<float>& y, float norm2, std::uint8_t* codes, std::uint16_t* scale) {
    const TrellisBook& book = trellis_book(coder.bits);
    const int d = coder.head_dim;
    const float units = book.alpha / std::sqrt(norm2 / static_cast<float>(d));
    std::vector<float> scaled(d);
    std::vector<std::uint8_t> index(d), best(d);
    float least = INFINITY;
    const int first = coder.gain_search ? 0 : kTrellisGains / 2, last = coder.gain_search ? kTrellisGains : kTrellisGains / 2 + 1;
    for (int g = first; g < last; ++g) {
        const float factor = kTrellisGain[g] * units;
        for (int n = 0; n < d; ++n) scaled[n] = y[trellis_dim(coder.side, d, n)] * factor;
        const float error = best_path(book, scaled.data(), d, index.data()) / (kTrellisGain[g] * kTrellisGain[g]);
        if (g == first || error < least) {
            least = error;
            best = index;
        }
    }
    std::vector<float> products(d);
    float power = 0;
    int u1 = 0, u2 = 0;
    for (int n = 0; n < d; ++n) {
        const int j = trellis_dim(coder.side, d, n), level = book.level[best[n]];
        products[j] = y[j] * static_cast<float>(level);
        power += static_cast<float>(level * level);  // integers below 2^24: exact in any order
        const int code = best[n] >> 1 ^ u2;          // undoes 2 * (code ^ u2) + u1
        codes[j] = static_cast<std::uint8_t>(code);
        u2 = u1;
        u1 = code & 1;
    }
    *scale = kept_scale(coder.side, norm2, tree_sum(products), power);
}

}  // namespace

float tree_sum(std::span<const float> terms) {
    std::vector<float> sum(std::bit_ceil(std::max<std::size_t>(terms.size(), 1)), 0.0f);
    std::copy(terms.begin(), terms.end(), sum.begin());
    for (std::size_t h = sum.size() / 2; h >= 1; h /= 2) {
        for (std::size_t i = 0; i < h; ++i) sum[i] = sum[i] + sum[i + h];
    }
    return sum[0];
}

void encode(const Coder& coder, const float* x, std::uint8_t* codes, std::uint16_t* scale) {
    std::vector<float> y(x, x + coder.head_dim);
    rotate_forward(*coder.rotation, y.data());
    std::vector<float> squares(coder.head_dim);
    for (int j = 0; j < coder.head_dim; ++j) squares[j] = y[j] * y[j];
    const float norm2 = tree_sum(squares);
    if (!(norm2 > 0) || std::isinf(norm2)) {
        std::memset(codes, 1 << (coder.bits - 1), coder.head_dim);
        *scale = norm2 == 0 ? 0 : kNanHalf;
    } else if (coder.bits == 8) {
        encode_uniform(coder, y, norm2, codes, scale);
    } else if (coder.follows_trellis()) {
        encode_trellis(coder, y, norm2, codes, scale);
    } else {
        encode_codebook(coder, y, norm2, codes, scale);
    }
}

void codewords(const Coder& coder, const std::uint8_t* codes, std::int8_t* codeword) {
    if (!coder.follows_trellis()) {
        for (int j = 0; j < coder.head_dim; ++j) codeword[j] = static_cast<std::int8_t>(codeword_of(coder.bits, codes[j]));
        return;
    }
    int u1 = 0, u2 = 0;
    for (int n = 0; n < coder.head_dim; ++n) {
        const int j = trellis_dim(coder.side, coder.head_dim, n);
        codeword[j] = static_cast<std::int8_t>(trellis_book(coder.bits).codeword(codes[j], u1, u2));
        u2 = u1;
        u1 = codes[j] & 1;
    }
}

void decode_rotated(const Coder& coder, const std::uint8_t* codes, std::uint16_t scale, float* y) {
    const float s = half_to_float(scale);
    std::vector<std::int8_t> codeword(coder.head_dim);
    codewords(coder, codes, codeword.data());
    for (int j = 0; j < coder.head_dim; ++j) y[j] = s * static_cast<float>(codeword[j]);
}

void decode(const Coder& coder, const std::uint8_t* codes, std::uint16_t scale, float* x) {
    decode_rotated(coder, codes, scale, x);
    rotate_inverse(*coder.rotation, x);
}

void tile_reference(int head_dim, const std::uint16_t* const rows[kTileTokens], std::uint64_t counted, std::uint16_t* mean) {
    for (int t = 0; t < kTileTokens; ++t) {  // one broken row must not break its neighbours
        const auto finite = [](std::uint16_t h) { return (h & 0x7c00u) != 0x7c00u; };
        if (counted >> t & 1 && !std::all_of(rows[t], rows[t] + head_dim, finite)) counted &= ~(1ull << t);
    }
    const int count = std::popcount(counted);
    for (int j = 0; j < head_dim; ++j) {
        float column[kTileTokens] = {};
        for (int t = 0; t < kTileTokens; ++t) {
            if (counted >> t & 1) column[t] = half_to_float(rows[t][j]);
        }
        mean[j] = count == 0 ? std::uint16_t{0} : float_to_half(tree_sum(column) / static_cast<float>(count));
    }
}

void seal_tile(const Coder& coder, const std::uint16_t* const rows[kTileTokens], std::uint64_t counted, bool centred, std::uint8_t* blob,
               Balance balance) {
    const TileLayout layout{coder.side, coder.head_dim, coder.bits};
    std::vector<std::uint16_t> mean(coder.head_dim, 0);
    if (coder.side == Side::key) {
        if (centred) tile_reference(coder.head_dim, rows, counted, mean.data());
        std::memcpy(blob + layout.reference_offset(), mean.data(), 2 * mean.size());
    }
    std::vector<float> x(coder.head_dim);
    std::vector<std::uint8_t> codes(coder.head_dim);
    for (int t = 0; t < kTileTokens; ++t) {
        for (int j = 0; j < coder.head_dim; ++j) {
            x[j] = counted >> t & 1 ? half_to_float(rows[t][j]) - half_to_float(mean[j]) : 0.0f;
            if (!balance.empty()) x[j] = std::ldexp(x[j], balance[j]);
        }
        std::uint16_t scale;
        encode(coder, x.data(), codes.data(), &scale);
        for (int j = 0; j < coder.head_dim; ++j) tile_set_code(layout, blob, t, j, codes[j]);
        store_half(blob + layout.scales_offset() + 2 * t, scale);
    }
}

void open_row(const Coder& coder, const std::uint8_t* blob, int token, std::uint16_t* row, Balance balance) {
    const TileLayout layout{coder.side, coder.head_dim, coder.bits};
    std::vector<std::uint8_t> codes(coder.head_dim);
    for (int j = 0; j < coder.head_dim; ++j) codes[j] = static_cast<std::uint8_t>(tile_get_code(layout, blob, token, j));
    std::vector<float> x(coder.head_dim);
    decode(coder, codes.data(), load_half(blob + layout.scales_offset() + 2 * token), x.data());
    for (int j = 0; j < coder.head_dim; ++j) {
        if (!balance.empty()) x[j] = std::ldexp(x[j], -balance[j]);
        const float mean = coder.side == Side::key ? half_to_float(load_half(blob + layout.reference_offset() + 2 * j)) : 0.0f;
        row[j] = float_to_half(x[j] + mean);
    }
}

void attend(std::span<const float> q, const float* keys, const float* values, const float* mask, int n, int value_dim,
            const AttendOptions& options, float* out) {
    std::vector<double> logit(n);
    double largest = options.sink ? *options.sink : -INFINITY;
    for (int t = 0; t < n; ++t) {
        logit[t] = -INFINITY;
        if (mask && mask[t] == -INFINITY) continue;  // whatever the cell holds
        double dot = 0;
        for (std::size_t j = 0; j < q.size(); ++j) dot += static_cast<double>(q[j]) * keys[t * q.size() + j];
        double score = dot * options.scale;
        if (options.softcap != 0) score = options.softcap * std::tanh(score / options.softcap);
        if (mask) score += static_cast<double>(options.slope) * mask[t];
        logit[t] = score;
        largest = std::max(largest, score);
    }
    std::vector<double> sum(value_dim, 0.0);
    double total = 0;
    for (int t = 0; t < n; ++t) {
        if (logit[t] == -INFINITY) continue;
        const double weight = std::exp(logit[t] - largest);
        total += weight;
        for (int j = 0; j < value_dim; ++j) sum[j] += weight * values[static_cast<std::size_t>(t) * value_dim + j];
    }
    if (options.sink && largest != -INFINITY) total += std::exp(*options.sink - largest);
    for (int j = 0; j < value_dim; ++j) out[j] = total == 0 ? 0.0f : static_cast<float>(sum[j] / total);
}

}  // namespace reference
}  // namespace turboquant

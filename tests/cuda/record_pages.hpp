// Pages of records in host memory, and what the verbs must make of them: codes by the core's own coders, attention in double precision over
// decoded values. Used by the emulated tests and by those on a GPU.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "core/half.hpp"
#include "core/layout.hpp"
#include "core/record_page.hpp"
#include "core/reference.hpp"
#include "core/scheme.hpp"
#include "turboquant/cuda.hpp"

namespace turboquant::test {

// The part of a Spec that pages have, as a Spec.
inline Spec core_spec(const cuda::PageSpec& page) {
    Spec spec;
    spec.head_dim = page.head_dim;
    spec.key_bits = page.key_bits;
    spec.value_bits = page.value_bits;
    spec.seed = page.seed;
    spec.gain_search = page.gain_search;
    spec.trellis_codes = page.trellis_codes;
    spec.key_estimator = page.key_estimator;
    spec.sketch = page.sketch;
    spec.value_scheme = page.value_scheme;
    spec.centred_keys = page.centred_keys;
    return spec;
}

inline RecordPage layout_of(const cuda::PageSpec& page) {
    return {{Side::key, page.key_estimator == Estimator::prod ? RecordKind::prod : RecordKind::codes, page.head_dim, page.key_bits},
            {Side::value, page.value_scheme == ValueScheme::group ? RecordKind::group : RecordKind::codes, page.head_dim, page.value_bits}};
}

// One side's vectors to records and back.
class RecordCoder {
public:
    RecordCoder(const cuda::PageSpec& page, Side side) : records_(layout_of(page).of(side)) {
        const Spec spec = core_spec(page);
        if (records_.kind == RecordKind::codes) coder_ = make_coder(spec, side);
        else scheme_ = make_scheme(spec, side);
    }
    const RecordSide& records() const { return records_; }
    std::size_t scheme_bytes() const { return scheme_ ? scheme_->record_bytes() : 0; }

    void encode(const float* x, std::uint8_t* record) const {
        if (scheme_) return scheme_->encode(x, record);
        std::vector<std::uint8_t> codes(records_.head_dim);
        std::uint16_t scale;
        reference::encode(coder_, x, codes.data(), &scale);
        for (int j = 0; j < records_.head_dim; ++j) row_set_code(record, records_.bits, j, codes[j]);
        std::memcpy(record + records_.halves_offset(), &scale, 2);
    }
    void decode(const std::uint8_t* record, float* x) const {
        if (scheme_) return scheme_->decode(record, x);
        std::vector<std::uint8_t> codes(records_.head_dim);
        std::uint16_t scale;
        for (int j = 0; j < records_.head_dim; ++j) codes[j] = static_cast<std::uint8_t>(row_get_code(record, records_.bits, j));
        std::memcpy(&scale, record + records_.halves_offset(), 2);
        reference::decode(coder_, codes.data(), scale, x);
    }

private:
    RecordSide records_;
    Coder coder_;
    std::unique_ptr<const RowScheme> scheme_;
};

struct RecordCase {
    cuda::PageSpec page{};
    int kv_heads = 1, group = 2, num_queries = 1;
    std::vector<int> lengths{};
    std::vector<int> queries{};               // per sequence; empty: num_queries each
    int window = 0;
    float softcap = 0, sharpness = 1.5f;
    bool sinks = false;
    cuda::Number query_number = cuda::Number::bf16, output_number = cuda::Number::fp32;
    unsigned seed = 1;
};

inline std::string describe(const RecordCase& c) {
    std::string text = "k" + std::to_string(c.page.key_bits) + "v" + std::to_string(c.page.value_bits) + " d" + std::to_string(c.page.head_dim) +
                       (c.page.key_estimator == Estimator::prod ? c.page.sketch == Sketch::gaussian ? " prod" : " orthogonal prod" : "") +
                       (c.page.value_scheme == ValueScheme::group ? " group" : "") + (c.page.trellis_codes ? " trellis" : "") + " heads " + std::to_string(c.kv_heads) + "x" +
                       std::to_string(c.group) + " queries " + std::to_string(c.num_queries) + " lengths";
    for (int n : c.lengths) text += " " + std::to_string(n);
    return text;
}

inline std::uint16_t number_bits(cuda::Number number, float value) {
    if (number == cuda::Number::fp16) return float_to_half(value);
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
inline float number_value(cuda::Number number, std::uint16_t bits) {
    return number == cuda::Number::fp16 ? half_to_float(bits) : std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// Everything that a call of attend() is handed, in host memory.
struct RecordProblem {
    RecordCase spec;
    RecordPage layout;
    std::vector<std::uint8_t> pool;
    std::vector<std::int32_t> table, lengths, query_start;
    std::vector<std::uint16_t> query;
    std::vector<float> query_values, sinks, sketch_table;
    int table_stride = 0, num_pages = 0;

    explicit RecordProblem(const RecordCase& c) : spec(c), layout(layout_of(c.page)), lengths(c.lengths.begin(), c.lengths.end()) {
        const int d = c.page.head_dim, batch = static_cast<int>(c.lengths.size()), heads = c.kv_heads * c.group;
        std::mt19937 engine(c.seed);
        std::normal_distribution<float> normal;
        query_start.push_back(0);
        for (int b = 0; b < batch; ++b) query_start.push_back(query_start.back() + (c.queries.empty() ? c.num_queries : c.queries[b]));
        for (int n : c.lengths) {
            table_stride = std::max(table_stride, (n + 63) / 64 + 2);
            num_pages += (n + 63) / 64;
        }
        num_pages += 2;
        std::vector<int> order(num_pages);
        std::iota(order.begin(), order.end(), 0);
        std::shuffle(order.begin(), order.end(), engine);
        table.assign(static_cast<std::size_t>(batch) * table_stride, 0x7ffffff0);
        pool.assign(static_cast<std::size_t>(num_pages) * c.kv_heads * layout.blob_bytes(), 0xff);  // every number in there is a NaN
        const RecordCoder keys(c.page, Side::key), values(c.page, Side::value);
        std::vector<float> x(d), common(d);
        for (float& v : common) v = layout.keys.has_reference() ? 2 * normal(engine) : 0.0f;
        int next = 0;
        for (int b = 0; b < batch; ++b) {
            for (int t = 0; t < c.lengths[b]; ++t) {
                if (t % 64 == 0) table[static_cast<std::size_t>(b) * table_stride + t / 64] = order[next++];
                for (int h = 0; h < c.kv_heads; ++h) {
                    std::uint8_t* blob = blob_of(b, t, h);
                    if (t % 64 == 0 && layout.keys.has_reference()) {
                        for (int j = 0; j < d; ++j) {
                            const std::uint16_t half = float_to_half(common[j] + 0.3f * normal(engine));
                            std::memcpy(blob + layout.keys.reference_offset() + 2 * j, &half, 2);
                        }
                    }
                    for (float& v : x) v = normal(engine) * std::exp(0.3f * normal(engine));
                    keys.encode(x.data(), blob + t % 64 * layout.keys.record_bytes());
                    for (float& v : x) v = normal(engine);
                    values.encode(x.data(), blob + layout.offset(Side::value) + t % 64 * layout.values.record_bytes());
                }
            }
        }
        query.resize(static_cast<std::size_t>(query_start.back()) * heads * d);
        query_values.resize(query.size());
        for (std::size_t i = 0; i < query.size(); ++i) {
            query[i] = number_bits(c.query_number, c.sharpness * normal(engine));
            query_values[i] = number_value(c.query_number, query[i]);
        }
        for (int h = 0; c.sinks && h < heads; ++h) sinks.push_back(3 * normal(engine));
        sketch_table.resize(cuda::sketch_table_bytes(c.page) / sizeof(float));
        if (!sketch_table.empty() && !cuda::fill_sketch_table(c.page, sketch_table.data()).ok()) sketch_table.clear();
    }

    std::uint8_t* blob_of(int sequence, int token, int head) {
        return &pool[(static_cast<std::size_t>(table[static_cast<std::size_t>(sequence) * table_stride + token / 64]) * spec.kv_heads + head) * layout.blob_bytes()];
    }
    int tokens() const { return query_start.back(); }
    float scale() const { return 1 / std::sqrt(static_cast<float>(spec.page.head_dim)); }

    // All but pointers into device memory.
    cuda::PagedCache cache() {
        cuda::PagedCache cache;
        cache.spec = spec.page;
        cache.kv_heads = spec.kv_heads;
        cache.pages = pool.data();
        cache.head_stride = static_cast<std::int64_t>(layout.blob_bytes());
        cache.page_stride = cache.head_stride * spec.kv_heads;
        cache.sketch_table = sketch_table.empty() ? nullptr : sketch_table.data();
        return cache;
    }
    cuda::AttendArgs args() {
        const int d = spec.page.head_dim, heads = spec.kv_heads * spec.group;
        cuda::AttendArgs a;
        a.batch = static_cast<int>(spec.lengths.size());
        a.query_heads = heads;
        a.num_queries = spec.num_queries;
        a.query = query.data();
        a.query_number = spec.query_number;
        a.query_token_stride = a.output_token_stride = static_cast<std::int64_t>(heads) * d;
        a.query_head_stride = a.output_head_stride = d;
        a.output_number = spec.output_number;
        a.lengths = lengths.data();
        a.block_table = table.data();
        a.table_stride = table_stride;
        a.query_start = spec.queries.empty() ? nullptr : query_start.data();
        a.sinks = spec.sinks ? sinks.data() : nullptr;
        a.scale = scale();
        a.softcap = spec.softcap;
        a.window = spec.window;
        return a;
    }
    // The output tensor's bytes as floats.
    std::vector<float> widened(const std::vector<std::uint8_t>& bytes) const {
        std::vector<float> out(query.size());
        for (std::size_t i = 0; i < out.size(); ++i) {
            std::uint16_t bits;
            if (spec.output_number == cuda::Number::fp32) {
                std::memcpy(&out[i], &bytes[4 * i], 4);
            } else {
                std::memcpy(&bits, &bytes[2 * i], 2);
                out[i] = number_value(spec.output_number, bits);
            }
        }
        return out;
    }

    // Largest relative error of a (sequence, query, head); NaN anywhere, or a log-sum-exp that is off by 2e-3, gives infinity.
    double error(const std::vector<float>& out, const std::vector<float>& log_sum) {
        constexpr double kInfinity = std::numeric_limits<double>::infinity();
        const int d = spec.page.head_dim, heads = spec.kv_heads * spec.group;
        const RecordCoder key_coder(spec.page, Side::key), value_coder(spec.page, Side::value);
        double worst = 0;
        for (std::size_t b = 0; b < spec.lengths.size(); ++b) {
            const int length = spec.lengths[b], queries = query_start[b + 1] - query_start[b];
            std::vector<float> keys(static_cast<std::size_t>(length) * d), values(keys.size());
            for (int h = 0; h < spec.kv_heads; ++h) {
                for (int t = 0; t < length; ++t) {
                    const std::uint8_t* blob = blob_of(static_cast<int>(b), t, h);
                    key_coder.decode(blob + t % 64 * layout.keys.record_bytes(), &keys[static_cast<std::size_t>(t) * d]);
                    for (int j = 0; layout.keys.has_reference() && j < d; ++j) {
                        std::uint16_t half;
                        std::memcpy(&half, blob + layout.keys.reference_offset() + 2 * j, 2);
                        keys[static_cast<std::size_t>(t) * d + j] += half_to_float(half);
                    }
                    value_coder.decode(blob + layout.offset(Side::value) + t % 64 * layout.values.record_bytes(), &values[static_cast<std::size_t>(t) * d]);
                }
                for (int row = 0; row < queries * spec.group; ++row) {
                    const int position = length - queries + row / spec.group, head = h * spec.group + row % spec.group;
                    const std::size_t at = (static_cast<std::size_t>(query_start[b] + row / spec.group) * heads + head) * d;
                    std::vector<double> score(length), sum(d, 0.0);
                    const int begin = spec.window ? std::max(0, position - spec.window + 1) : 0;
                    double largest = spec.sinks ? sinks[head] : -kInfinity, total = 0;
                    for (int t = begin; t <= position; ++t) {
                        double dot = 0;
                        for (int j = 0; j < d; ++j) dot += static_cast<double>(query_values[at + j]) * keys[static_cast<std::size_t>(t) * d + j];
                        score[t] = dot * scale();
                        if (spec.softcap != 0) score[t] = spec.softcap * std::tanh(score[t] / spec.softcap);
                        largest = std::max(largest, score[t]);
                    }
                    if (spec.sinks) total += std::exp(sinks[head] - largest);
                    for (int t = begin; t <= position; ++t) {
                        const double weight = std::exp(score[t] - largest);
                        total += weight;
                        for (int j = 0; j < d; ++j) sum[j] += weight * values[static_cast<std::size_t>(t) * d + j];
                    }
                    double error = 0, power = 0;
                    for (int j = 0; j < d; ++j) {
                        const double want = total == 0 ? 0 : sum[j] / total;
                        error += std::pow(want - out[at + j], 2);
                        power += want * want;
                    }
                    const double relative = power == 0 ? (error == 0 ? 0 : kInfinity) : std::sqrt(error / power);
                    const double wanted_sum = total == 0 ? -kInfinity : largest + std::log(total), got_sum = log_sum[static_cast<std::size_t>(query_start[b] + row / spec.group) * heads + head];
                    const bool close = wanted_sum == got_sum || std::abs(wanted_sum - got_sum) < 2e-3;
                    if (!close || std::isnan(relative)) worst = kInfinity;
                    worst = std::max(worst, relative);
                }
            }
        }
        return worst;
    }
};

// What append() does by definition (turboquant/cuda.hpp), on a pool in host memory.
class RecordAppender {
public:
    RecordAppender(const cuda::PageSpec& page, int kv_heads, std::vector<std::uint8_t> pool)
        : spec_(page), kv_heads_(kv_heads), layout_(layout_of(page)), keys_(page, Side::key), values_(page, Side::value), pool_(std::move(pool)) {}

    // keys, values: binary16, [tokens][heads][d]. previous[i]: page before the one of token i, negative: none.
    void append(const std::vector<std::uint16_t>& keys, const std::vector<std::uint16_t>& values, const std::vector<std::int64_t>& slots, const std::vector<int>& previous) {
        for (int h = 0; h < kv_heads_; ++h) {
            for (int begin = 0, end; begin < static_cast<int>(slots.size()); begin = end) {
                end = begin + 1;
                if (slots[begin] < 0) continue;
                while (end < static_cast<int>(slots.size()) && slots[end] == slots[end - 1] + 1 && slots[end] % 64 != 0) ++end;
                if (slots[begin] % 64 == 0 && layout_.keys.has_reference()) settle(keys, slots, previous, begin, end, h);
                for (int i = begin; i < end; ++i) code(keys, values, slots[i], i, h);
            }
        }
    }
    const std::vector<std::uint8_t>& pool() const { return pool_; }

private:
    std::uint8_t* blob_of(std::int64_t page, int head) { return &pool_[(static_cast<std::size_t>(page) * kv_heads_ + head) * layout_.blob_bytes()]; }

    void settle(const std::vector<std::uint16_t>& keys, const std::vector<std::int64_t>& slots, const std::vector<int>& previous, int begin, int end, int h) {
        const int d = spec_.head_dim;
        std::vector<std::uint16_t> mean(d, 0);
        bool broken = begin >= 64 && previous[begin] >= 0 && slots[begin - 64] == previous[begin] * 64ll;
        if (broken) {
            broken = false;
            for (int i = begin - 64; i < begin; ++i) broken = broken || slots[i] < 0;
        }
        if (spec_.centred_keys && end - begin < 16 && previous[begin] >= 0 && !broken) {
            std::memcpy(mean.data(), blob_of(previous[begin], h) + layout_.keys.reference_offset(), 2 * mean.size());
        } else if (spec_.centred_keys) {
            const std::vector<std::uint16_t> zero(d, 0);
            const std::uint16_t* rows[kTileTokens];
            for (int t = 0; t < kTileTokens; ++t) rows[t] = t < end - begin ? &keys[(static_cast<std::size_t>(begin + t) * kv_heads_ + h) * d] : zero.data();
            reference::tile_reference(d, rows, end - begin == 64 ? ~0ull : (1ull << (end - begin)) - 1, mean.data());
        }
        std::memcpy(blob_of(slots[begin] / 64, h) + layout_.keys.reference_offset(), mean.data(), 2 * mean.size());
    }

    void code(const std::vector<std::uint16_t>& keys, const std::vector<std::uint16_t>& values, std::int64_t slot, int i, int h) {
        const int d = spec_.head_dim;
        std::uint8_t* blob = blob_of(slot / 64, h);
        std::vector<float> x(d);
        for (int j = 0; j < d; ++j) {
            x[j] = half_to_float(keys[(static_cast<std::size_t>(i) * kv_heads_ + h) * d + j]);
            if (!layout_.keys.has_reference() || !spec_.centred_keys) continue;
            std::uint16_t mean;
            std::memcpy(&mean, blob + layout_.keys.reference_offset() + 2 * j, 2);
            x[j] = x[j] - half_to_float(mean);
        }
        keys_.encode(x.data(), blob + slot % 64 * layout_.keys.record_bytes());
        for (int j = 0; j < d; ++j) x[j] = half_to_float(values[(static_cast<std::size_t>(i) * kv_heads_ + h) * d + j]);
        values_.encode(x.data(), blob + layout_.offset(Side::value) + slot % 64 * layout_.values.record_bytes());
    }

    cuda::PageSpec spec_;
    int kv_heads_;
    RecordPage layout_;
    RecordCoder keys_, values_;
    std::vector<std::uint8_t> pool_;
};

// The specs that have kernels of records: the preset, each scheme alone, trellis codes.
inline std::vector<cuda::PageSpec> record_specs(int head_dim) {
    std::vector<cuda::PageSpec> specs;
    const auto add = [&](int key_bits, int value_bits, bool prod, bool group, bool trellis, Sketch sketch = Sketch::gaussian) {
        cuda::PageSpec spec;
        spec.head_dim = head_dim;
        spec.key_bits = key_bits;
        spec.value_bits = value_bits;
        spec.key_estimator = prod ? Estimator::prod : Estimator::mse;
        spec.value_scheme = group ? ValueScheme::group : ValueScheme::rotated;
        spec.trellis_codes = trellis;
        spec.sketch = sketch;
        spec.centred_keys = !prod;
        specs.push_back(spec);
    };
    add(3, 2, true, true, false);                          // paper-k3v2
    add(2, 4, true, true, false, Sketch::orthogonal);
    add(4, 4, true, false, false);                         // prod alone
    add(4, 8, true, false, true);                          // prod, and trellis codes that no side has
    add(4, 2, false, true, false);                         // groups alone
    add(3, 4, false, true, false);
    add(8, 4, false, true, false);
    add(4, 4, false, false, true);                         // trellis codes
    add(3, 2, false, false, true);
    add(2, 3, false, false, true);
    add(8, 4, false, false, true);
    return specs;
}

}  // namespace turboquant::test

// append() against the definition: every code, scale and reference the same bits, and no other byte touched; with keys that are turned
// first also against rows that were turned beforehand. Whoever includes this says where it runs: DeviceBuffer, to_bits, from_bits, and
// run_append, which returns when it is done.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "core/half.hpp"
#include "core/page.hpp"
#include "core/reference.hpp"
#include "core/rope.hpp"
#include "turboquant/cuda.hpp"

namespace turboquant::test {

struct AppendCase {
    cuda::PageSpec page{};
    int kv_heads = 2;
    cuda::Number number = cuda::Number::bf16;
    bool with_sequences = true;
    std::vector<std::vector<int>> steps{};    // per call: new tokens of each sequence
    unsigned seed = 1;
    bool odd_numbers = false;                 // infinities, NaN, huge ones among the rows
    int skip_every = 0;                       // every n-th slot is negative
    cuda::RopeStyle rope = cuda::RopeStyle::none;
    int rotary_dim = 0, position_bytes = 4;
    int max_position = 4096;                  // positions from there on are outside of the tables
};

// Tables of cosines and sines in host and device memory, as an engine makes them, with rows further apart than they are long.
struct RopeTables {
    RopeTables(int rotary_dim, int max_position) : half(rotary_dim / 2), stride(half + 3), cosines(static_cast<std::size_t>(max_position) * stride, NAN), sines(cosines) {
        for (int position = 0; position < max_position; ++position) {
            for (int j = 0; j < half; ++j) {
                const double angle = position * std::pow(10000.0, -static_cast<double>(j) / half);
                cosines[static_cast<std::size_t>(position) * stride + j] = static_cast<float>(1.1 * std::cos(angle));
                sines[static_cast<std::size_t>(position) * stride + j] = static_cast<float>(1.1 * std::sin(angle));
            }
        }
        device_cosines = DeviceBuffer<float>(cosines);
        device_sines = DeviceBuffer<float>(sines);
    }
    int half, stride;
    std::vector<float> cosines, sines;
    DeviceBuffer<float> device_cosines, device_sines;
};

// What the definition in turboquant/cuda.hpp says, on one pool in host memory.
class Oracle {
public:
    Oracle(const AppendCase& c, std::vector<std::uint8_t> pool) : case_(c), layout_{c.page.head_dim, c.page.key_bits, c.page.value_bits}, pool_(std::move(pool)) {
        Spec spec;
        spec.head_dim = c.page.head_dim;
        spec.key_bits = c.page.key_bits;
        spec.value_bits = c.page.value_bits;
        spec.gain_search = c.page.gain_search;
        spec.trellis_codes = false;
        keys_ = make_coder(spec, Side::key);
        values_ = make_coder(spec, Side::value);
    }

    // keys, values: binary16, [tokens][heads][d]. previous[i]: page before the one of token i, negative: none.
    void append(const std::vector<std::uint16_t>& keys, const std::vector<std::uint16_t>& values, const std::vector<std::int64_t>& slots, const std::vector<int>& previous) {
        const int d = layout_.head_dim, tokens = static_cast<int>(slots.size());
        for (int h = 0; h < case_.kv_heads; ++h) {
            for (int begin = 0; begin < tokens;) {
                if (slots[begin] < 0) { ++begin; continue; }
                int end = begin + 1;
                while (end < tokens && slots[end] == slots[end - 1] + 1 && slots[end] % kPageTokens != 0) ++end;
                std::uint8_t* blob = blob_of(slots[begin] / kPageTokens, h);
                std::uint8_t* reference = blob + layout_.keys().reference_offset();
                if (slots[begin] % kPageTokens == 0) {
                    std::vector<std::uint16_t> mean(layout_.keys().padded_dim(), 0);
                    const bool broken = begin >= 64 && previous[begin] >= 0 && slots[begin - 64] == previous[begin] * 64ll &&
                                        std::any_of(slots.begin() + begin - 64, slots.begin() + begin, [](std::int64_t slot) { return slot < 0; });
                    if (case_.page.centred_keys && end - begin < 16 && previous[begin] >= 0 && !broken) {
                        std::memcpy(mean.data(), blob_of(previous[begin], h) + layout_.keys().reference_offset(), 2 * mean.size());
                    } else if (case_.page.centred_keys) {
                        const std::vector<std::uint16_t> zero(d, 0);
                        const std::uint16_t* rows[kTileTokens];
                        for (int t = 0; t < kTileTokens; ++t) rows[t] = t < end - begin ? &keys[(static_cast<std::size_t>(begin + t) * case_.kv_heads + h) * d] : zero.data();
                        reference::tile_reference(d, rows, end - begin == 64 ? ~0ull : (1ull << (end - begin)) - 1, mean.data());
                    }
                    std::memcpy(reference, mean.data(), 2 * mean.size());
                }
                for (int i = begin; i < end; ++i) {
                    for (Side side : {Side::key, Side::value}) {
                        std::vector<float> x(d);
                        std::vector<std::uint8_t> codes(d);
                        for (int j = 0; j < d; ++j) {
                            x[j] = half_to_float((side == Side::key ? keys : values)[(static_cast<std::size_t>(i) * case_.kv_heads + h) * d + j]);
                            std::uint16_t mean;
                            std::memcpy(&mean, reference + 2 * j, 2);
                            if (side == Side::key) x[j] = x[j] - (case_.page.centred_keys ? half_to_float(mean) : 0.0f);
                        }
                        std::uint16_t scale;
                        reference::encode(side == Side::key ? keys_ : values_, x.data(), codes.data(), &scale);
                        const PageSide part = layout_.of(side);
                        const int place = static_cast<int>(slots[i] % kPageTokens);
                        std::uint8_t* to = blob + layout_.offset(side);
                        for (int j = 0; j < part.padded_dim(); ++j) page_set_code(part, to, place, j, j < d ? codes[j] : 0);
                        std::memcpy(to + part.scales_offset() + 2 * PageSide::scale_index(place), &scale, 2);
                    }
                }
                begin = end;
            }
        }
    }
    const std::vector<std::uint8_t>& pool() const { return pool_; }

private:
    std::uint8_t* blob_of(std::int64_t page, int head) { return &pool_[(static_cast<std::size_t>(page) * case_.kv_heads + head) * layout_.blob_bytes()]; }

    AppendCase case_;
    PageLayout layout_;
    std::vector<std::uint8_t> pool_;
    Coder keys_, values_;
};

inline void check(const AppendCase& c) {
    const int d = c.page.head_dim, sequences = static_cast<int>(c.steps[0].size());
    std::mt19937 engine(c.seed);
    std::normal_distribution<float> normal;
    std::vector<int> total(sequences, 0), lengths(sequences, 0);
    for (const auto& step : c.steps) {
        for (int b = 0; b < sequences; ++b) total[b] += step[b];
    }
    int pages = 3;
    for (int n : total) pages += (n + kPageTokens - 1) / kPageTokens;
    std::vector<int> order(pages);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), engine);
    const int stride = *std::max_element(total.begin(), total.end()) / kPageTokens + 2;
    std::vector<std::int32_t> table(static_cast<std::size_t>(sequences) * stride, -7);
    for (int b = 0, next = 0; b < sequences; ++b) {
        for (int i = 0; i < (total[b] + kPageTokens - 1) / kPageTokens; ++i) table[static_cast<std::size_t>(b) * stride + i] = order[next++];
    }
    const std::size_t blob = cuda::blob_bytes(c.page);
    std::vector<std::uint8_t> start(static_cast<std::size_t>(pages) * c.kv_heads * blob);
    for (auto& byte : start) byte = static_cast<std::uint8_t>(engine());
    Oracle oracle(c, start);
    DeviceBuffer<std::uint8_t> pool(start), unfused(start);
    DeviceBuffer<std::int32_t> table_device(table);
    const bool turned = c.rope != cuda::RopeStyle::none;
    const RopeTables tables(turned ? c.rotary_dim : 2, turned ? c.max_position : 1);
    cuda::PagedCache cache;
    cache.spec = c.page;
    cache.kv_heads = c.kv_heads;
    cache.pages = pool.get();
    cache.head_stride = static_cast<std::int64_t>(blob);
    cache.page_stride = cache.head_stride * c.kv_heads;

    for (std::size_t n = 0; n < c.steps.size(); ++n) {
        std::vector<std::int64_t> slots;
        std::vector<int> previous;
        std::vector<std::int64_t> positions;
        std::vector<std::int32_t> first{0};
        for (int b = 0; b < sequences; ++b) {
            for (int i = 0; i < c.steps[n][b]; ++i) {
                const int position = lengths[b] + i, at = position / kPageTokens;
                const bool skip = c.skip_every && slots.size() % c.skip_every == static_cast<std::size_t>(c.skip_every) - 1;
                slots.push_back(skip ? -1 : static_cast<std::int64_t>(table[static_cast<std::size_t>(b) * stride + at]) * kPageTokens + position % kPageTokens);
                positions.push_back(skip ? -5'000'000'000 : position == 40 ? -1 : 17 * position);
                previous.push_back(c.with_sequences && at > 0 ? table[static_cast<std::size_t>(b) * stride + at - 1] : -1);
            }
            lengths[b] += c.steps[n][b];
            first.push_back(static_cast<std::int32_t>(slots.size()));
        }
        const std::size_t num = slots.size() * c.kv_heads * d;
        std::vector<std::uint16_t> half[2];
        DeviceBuffer<std::uint8_t> rows[2], turned_rows;
        for (int side = 0; side < 2; ++side) {
            half[side].resize(num);
            std::vector<std::uint8_t> bytes(num * (c.number == cuda::Number::fp32 ? 4 : 2));
            for (std::size_t i = 0; i < num; ++i) {
                float x = normal(engine) * (i % 7 == 0 ? 5.0f : 1.0f) + (side == 0 ? static_cast<float>(i % d % 11) : 0.0f);
                if (c.odd_numbers && engine() % 1000 == 0) x = std::vector<float>{INFINITY, -INFINITY, NAN, 1e30f, 1e-7f}[engine() % 5];
                if (c.number == cuda::Number::fp32) {
                    std::memcpy(&bytes[4 * i], &x, 4);
                } else {
                    const std::uint16_t bits = std::isnan(x) ? 0x7fc0 : to_bits(c.number, x);
                    std::memcpy(&bytes[2 * i], &bits, 2);
                    x = from_bits(c.number, bits);
                }
                half[side][i] = c.number == cuda::Number::fp16 && std::isnan(x) ? std::uint16_t{0x7fc0} : float_to_half(x);
            }
            rows[side] = DeviceBuffer<std::uint8_t>(bytes);
            if (side == 1 || !turned) continue;
            // What an engine's own rotation gives, in the rows' format.
            for (std::size_t token = 0; token < slots.size(); ++token) {
                const bool outside = positions[token] < 0 || positions[token] >= c.max_position;
                for (int h = 0; h < c.kv_heads; ++h) {
                    std::vector<float> row(d);
                    const std::size_t at = (token * c.kv_heads + h) * d;
                    for (int j = 0; j < d; ++j) {
                        if (c.number == cuda::Number::fp32) {
                            std::memcpy(&row[j], &bytes[4 * (at + j)], 4);
                        } else {
                            std::uint16_t b;
                            std::memcpy(&b, &bytes[2 * (at + j)], 2);
                            row[j] = from_bits(c.number, b);
                        }
                    }
                    const std::size_t entry = outside ? 0 : static_cast<std::size_t>(positions[token]) * tables.stride, length = static_cast<std::size_t>(tables.half);
                    reference::rope(c.rope == cuda::RopeStyle::half_split ? reference::RopePairs::halves : reference::RopePairs::neighbours, {&tables.cosines[entry], length},
                                    {&tables.sines[entry], length}, row.data());
                    for (int j = 0; j < d; ++j) {
                        if (outside && j < c.rotary_dim) row[j] = NAN;
                        if (c.number == cuda::Number::fp32) {
                            std::memcpy(&bytes[4 * (at + j)], &row[j], 4);
                        } else {
                            const std::uint16_t b = std::isnan(row[j]) ? 0x7fc0 : to_bits(c.number, row[j]);
                            std::memcpy(&bytes[2 * (at + j)], &b, 2);
                            row[j] = from_bits(c.number, b);
                        }
                        half[side][at + j] = float_to_half(row[j]);
                    }
                }
            }
            turned_rows = DeviceBuffer<std::uint8_t>(bytes);
        }
        DeviceBuffer<std::int64_t> slots_device(slots);
        DeviceBuffer<std::int32_t> first_device(first), lengths_device(std::vector<std::int32_t>(lengths.begin(), lengths.end()));
        cuda::AppendArgs args;
        args.tokens = static_cast<int>(slots.size());
        args.keys = rows[0].get();
        args.values = rows[1].get();
        args.number = c.number;
        args.key_token_stride = args.value_token_stride = static_cast<std::int64_t>(c.kv_heads) * d;
        args.key_head_stride = args.value_head_stride = d;
        args.slots = slots_device.get();
        if (c.with_sequences) {
            args.batch = sequences;
            args.query_start = first_device.get();
            args.lengths = lengths_device.get();
            args.block_table = table_device.get();
            args.table_stride = stride;
        }
        std::vector<std::uint8_t> position_bytes(positions.size() * c.position_bytes);
        for (std::size_t i = 0; i < positions.size(); ++i) {
            const std::int32_t narrow = static_cast<std::int32_t>(std::max<std::int64_t>(positions[i], -7));
            std::memcpy(&position_bytes[i * c.position_bytes], c.position_bytes == 8 ? static_cast<const void*>(&positions[i]) : &narrow, c.position_bytes);
        }
        DeviceBuffer<std::uint8_t> positions_device(position_bytes);
        if (turned) {
            cache.pages = unfused.get();
            args.keys = turned_rows.get();
            run_append(cache, args);
            cache.pages = pool.get();
            args.keys = rows[0].get();
            args.rope = {c.rope, c.rotary_dim, tables.device_cosines.get(), tables.device_sines.get(), tables.stride, c.max_position, positions_device.get(), c.position_bytes};
        }
        run_append(cache, args);
        if (turned) {
            ASSERT_EQ(pool.host(), unfused.host()) << "call " << n << ": fused and unfused rotation differ, d " << d;
        }
        oracle.append(half[0], half[1], slots, previous);
        const std::vector<std::uint8_t> got = pool.host();
        const auto [at, wanted] = std::mismatch(got.begin(), got.end(), oracle.pool().begin());
        const std::size_t where = static_cast<std::size_t>(at - got.begin());
        ASSERT_TRUE(at == got.end()) << "call " << n << ", d " << d << " k" << c.page.key_bits << "v" << c.page.value_bits << ": first wrong byte is " << where % blob << " of blob "
                                     << where / blob << " (of " << blob << " bytes)";
    }
}

inline cuda::PageSpec page(int head_dim, int key_bits, int value_bits) {
    cuda::PageSpec spec;
    spec.head_dim = head_dim;
    spec.key_bits = key_bits;
    spec.value_bits = value_bits;
    return spec;
}

const std::vector<std::vector<int>> kSteps = {{130, 5, 64, 16, 15, 1}, {1, 1, 1, 1, 1, 1}, {70, 0, 3, 48, 60, 63}, {5, 58, 1, 1, 1, 1}, {1, 1, 200, 90, 2, 64}};

}  // namespace turboquant::test

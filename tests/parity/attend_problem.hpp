// One attention call with everything laid out as strangely as the arguments allow, and its comparison with the oracle.
#pragma once

#include <gtest/gtest.h>

#include "parity/attend_oracle.hpp"
#include "parity/support.hpp"

namespace turboquant::parity {

enum class Masks { none, causal, holes, by_head, alibi, all_hidden };
inline constexpr Masks kMasks[] = {Masks::none, Masks::causal, Masks::holes, Masks::by_head, Masks::alibi};

struct Problem {
    AttendCase c;
    TileStore *keys, *values;
    Masks masks = Masks::none;
    int num_cells = 0;           // of each stream
    int first_stream = 0;
    float scale = 0, softcap = 0;
    std::vector<float> slopes, sinks;
    std::vector<float> query;    // [stream][query][head], padded: rows are not where a naive reader would look
    std::vector<std::uint16_t> mask;
    std::size_t query_stride, query_head_stride, query_stream_stride;
    std::size_t mask_stride = 0, mask_head_stride = 0, mask_stream_stride = 0;

    Problem(const AttendCase& the_case, TileStore& key_store, TileStore& value_store, Masks which = Masks::none)
        : c(the_case), keys(&key_store), values(&value_store), masks(which), num_cells(the_case.tokens) {
        scale = 1.5f / std::sqrt(static_cast<float>(c.key_dim));
        query_head_stride = c.key_dim + 3;
        query_stride = query_head_stride * num_heads() + 1;
        query_stream_stride = query_stride * c.queries + 2;
        query = gaussian(query_stream_stride * c.streams, c.seed + 17);
        make_masks();
    }

    int num_heads() const { return c.kv_heads * c.group_size; }
    const float* query_at(int s, int h, int i) const { return &query[s * query_stream_stride + h * query_head_stride + i * query_stride]; }

    void make_masks() {
        if (masks == Masks::none) return;
        mask_stride = num_cells + 3;
        mask_head_stride = masks == Masks::by_head ? mask_stride * c.queries + 1 : 0;
        mask_stream_stride = mask_stride * c.queries * (masks == Masks::by_head ? num_heads() + 1 : 1);
        mask.assign(mask_stream_stride * c.streams, 0x7e00);  // NaN wherever nobody should look
        std::mt19937_64 engine(c.seed);
        for (int s = 0; s < c.streams; ++s) {
            for (int h = 0; h < (mask_head_stride ? num_heads() : 1); ++h) {
                for (int i = 0; i < c.queries; ++i) {
                    for (int t = 0; t < num_cells; ++t) {
                        const bool future = t > num_cells - c.queries + i;
                        float m = future ? -INFINITY : 0;
                        if (masks == Masks::holes || masks == Masks::by_head) m = engine() % 3 == 0 ? -INFINITY : engine() % 5 == 0 ? -0.7f : 0;
                        if (masks == Masks::holes && i % 4 == 3) m = -INFINITY;  // a whole row hidden
                        if (masks == Masks::alibi && !future) m = static_cast<float>(t - (num_cells - c.queries + i));
                        if (masks == Masks::all_hidden) m = -INFINITY;
                        mask[s * mask_stream_stride + h * mask_head_stride + i * mask_stride + t] = float_to_half(m);
                    }
                }
            }
        }
        mask.resize(mask.size() - 3 * (num_cells > 0));  // the last row ends where it ends: sanitizers watch
        if (masks == Masks::alibi) {
            for (int h = 0; h < num_heads(); ++h) slopes.push_back(std::exp2(-8.0f * static_cast<float>(h + 1) / static_cast<float>(num_heads())));
        }
    }

    std::vector<float> run(int num_threads, AttentionScratch& scratch) const {
        AttentionArgs args;
        args.num_queries = c.queries;
        args.num_heads = num_heads();
        args.num_streams = c.streams;
        args.first_stream = first_stream;
        args.num_cells = num_cells;
        args.query = query.data();
        args.query_stride = query_stride;
        args.query_head_stride = query_head_stride;
        args.query_stream_stride = query_stream_stride;
        args.mask = masks == Masks::none ? nullptr : mask.data();
        args.mask_stride = mask_stride;
        args.mask_head_stride = mask_head_stride;
        args.mask_stream_stride = mask_stream_stride;
        args.slopes = slopes.empty() ? nullptr : slopes.data();
        args.sinks = sinks.empty() ? nullptr : sinks.data();
        args.scale = scale;
        args.softcap = softcap;
        args.out_stride = c.value_dim + 5;
        args.out_query_stride = args.out_stride * num_heads() + 2;
        args.out_stream_stride = args.out_query_stride * c.queries + 1;
        std::vector<float> padded(args.out_stream_stride * c.streams, kCanary);
        args.out = padded.data();
        on_team(num_threads, [&](Worker worker) { attend(worker, *keys, *values, args, scratch); });
        std::vector<float> out;
        for (int s = 0; s < c.streams; ++s) {
            for (int i = 0; i < c.queries; ++i) {
                for (int h = 0; h < num_heads(); ++h) {
                    float* row = &padded[s * args.out_stream_stride + i * args.out_query_stride + h * args.out_stride];
                    out.insert(out.end(), row, row + c.value_dim);
                    std::fill_n(row, c.value_dim, kCanary);
                }
            }
        }
        for (const float v : padded) EXPECT_EQ(v, kCanary) << "written between the rows";
        return out;
    }

    std::vector<Expected> expected() const {
        const Decoded k = decoded(*keys), v = decoded(*values);
        const Coder coder = make_coder(keys->spec(), Side::key);
        std::vector<Expected> rows;
        for (int s = 0; s < c.streams; ++s) {
            for (int i = 0; i < c.queries; ++i) {
                for (int h = 0; h < num_heads(); ++h) {
                    std::vector<float> row_mask;
                    for (int t = 0; t < num_cells && masks != Masks::none; ++t) {
                        row_mask.push_back(half_to_float(mask[s * mask_stream_stride + h * mask_head_stride + i * mask_stride + t]));
                    }
                    reference::AttendOptions options;
                    options.scale = scale;
                    options.softcap = softcap;
                    options.slope = slopes.empty() ? 1.0f : slopes[h];
                    options.sink = sinks.empty() ? nullptr : &sinks[h];
                    const std::size_t first = static_cast<std::size_t>(first_stream + s) * keys->shape().cells_per_stream;
                    const float* q = query_at(s, h, i);
                    rows.push_back(expected_row(k, v, first, num_cells, c.kv_heads, h / c.group_size, {q, q + c.key_dim}, coder,
                                                keys->balance(h / c.group_size), row_mask, options));
                }
            }
        }
        return rows;
    }

    static constexpr float kCanary = 12345.5f;
};

// Every number within its row's tolerance, NaN exactly where expected; and, since most of the tolerance allows for roundings that
// conspire, the root mean square of the errors within a hundredth of the tolerances' (measured: a third of that at most).
inline void expect_as_expected(const std::vector<float>& found, const std::vector<Expected>& rows) {
    double error_power = 0, tolerance_power = 0;
    std::size_t at = 0;
    for (std::size_t r = 0; r < rows.size(); ++r) {
        for (const float wanted : rows[r].out) {
            const float got = found.at(at++);
            const double error = std::abs(static_cast<double>(got) - wanted);
            if (std::isnan(wanted) ? std::isnan(got) : error <= rows[r].tolerance) {
                error_power += std::isnan(wanted) ? 0 : error * error;
                tolerance_power += std::isnan(rows[r].tolerance) ? 0 : rows[r].tolerance * rows[r].tolerance;
                continue;
            }
            FAIL() << "row " << r << ", dim " << (at - 1) % rows[r].out.size() << ": " << got << " instead of " << wanted << ", tolerance " << rows[r].tolerance;
        }
    }
    EXPECT_EQ(at, found.size());
    EXPECT_LE(error_power, 1e-4 * tolerance_power);
}

}  // namespace turboquant::parity

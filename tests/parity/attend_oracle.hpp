// What attend() must give: reference::attend in double precision on the rows that the stores hold, and how far from it a
// result may be.
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "core/codebook.hpp"
#include "core/scheme.hpp"
#include "parity/filled_stores.hpp"

namespace turboquant::parity {

// The rows of one side as attention sees them: sealed ones decoded without the rounding to binary16 of read_rows().
struct Decoded {
    int dim = 0;
    std::vector<float> rows;      // [cell][head][dim]
    std::vector<float> scale;     // [cell][head] of the codes; 0: exact
    std::vector<double> norm, off_reference, reference;  // [cell][head] |row|, |row - reference| balanced, |reference|
    const float* row(std::size_t at) const { return &rows[at * dim]; }
};

inline double norm_of(const float* x, int dim) {
    double power = 0;
    for (int j = 0; j < dim; ++j) power += static_cast<double>(x[j]) * x[j];
    return std::sqrt(power);
}

inline Decoded decoded(const TileStore& store) {
    const StoreShape& shape = store.shape();
    const std::size_t heads = shape.num_kv_heads, d = store.spec().head_dim;
    const std::int64_t cells = shape.cells_per_stream * shape.num_streams;
    const Side side = shape.side == CacheSide::keys ? Side::key : Side::value;
    Coder coder = make_coder(store.spec(), side);
    coder.bits = store.bits();
    const TileLayout layout{side, coder.head_dim, coder.bits};
    std::vector<std::uint16_t> halves(cells * heads * d);
    store.read_rows(0, cells, halves.data());
    std::vector<std::unique_ptr<const RowScheme>> schemes;
    for (std::size_t head = 0; head < heads && uses_records(store.spec(), side); ++head) {
        schemes.push_back(make_scheme(store.spec(), side, store.outliers(static_cast<int>(head))));
    }
    Decoded out;
    out.dim = static_cast<int>(d);
    out.rows.resize(halves.size());
    for (std::size_t i = 0; i < halves.size(); ++i) out.rows[i] = half_to_float(halves[i]);
    out.scale.assign(cells * heads, 0);
    out.reference.assign(cells * heads, 0);
    out.off_reference.assign(cells * heads, 0);
    for (std::int64_t cell = 0; cell < cells; ++cell) {
        for (std::size_t head = 0; head < heads; ++head) {
            const std::int64_t in_stream = cell % shape.cells_per_stream, t = in_stream % kTileTokens;
            const std::size_t at = cell * heads + head;
            const auto blob = store.sealed_blob(static_cast<int>(cell / shape.cells_per_stream), in_stream / kTileTokens, static_cast<int>(head));
            const bool kept = store.kept_rows(static_cast<int>(cell / shape.cells_per_stream), in_stream / kTileTokens, static_cast<int>(head)) >> t & 1;
            if (!blob.empty() && in_stream >= store.spec().sink_tokens && !schemes.empty()) {
                float* row = &out.rows[at * d];
                schemes[head]->decode(blob.data() + t * schemes[head]->record_bytes(), row);
                out.off_reference[at] = 3 * norm_of(row, out.dim);  // a sketch's random matrix is no rotation: norms up to 2 sqrt(d)
            } else if (!blob.empty() && in_stream >= store.spec().sink_tokens && !kept) {
                std::vector<std::uint8_t> codes(d);
                for (std::size_t j = 0; j < d; ++j) codes[j] = static_cast<std::uint8_t>(tile_get_code(layout, blob.data(), static_cast<int>(t), static_cast<int>(j)));
                std::uint16_t scale;
                std::memcpy(&scale, &blob[layout.scales_offset() + 2 * t], 2);
                float* row = &out.rows[at * d];
                reference::decode(coder, codes.data(), scale, row);
                out.scale[at] = half_to_float(scale);
                out.off_reference[at] = norm_of(row, out.dim);
                for (std::size_t j = 0; j < d && side == Side::key; ++j) {
                    std::uint16_t mean;
                    std::memcpy(&mean, &blob[layout.reference_offset() + 2 * j], 2);
                    out.reference[at] += static_cast<double>(half_to_float(mean)) * half_to_float(mean);
                    if (!store.balance(static_cast<int>(head)).empty()) row[j] = std::ldexp(row[j], -store.balance(static_cast<int>(head))[j]);
                    row[j] += half_to_float(mean);
                }
                out.reference[at] = std::sqrt(out.reference[at]);
            }
            out.norm.push_back(norm_of(out.row(at), out.dim));
        }
    }
    return out;
}

struct Expected {
    std::vector<float> out;
    double tolerance = 0;
};

// One query of one query head. mask: one number per cell, or empty. cells are those of one stream, from first_cell on.
//
// The tolerance, for q the query times the scale (balanced where it meets codes), |x| the Euclidean norm, e = 2^-24 (float
// rounding), d dims:
//   logits   fixed point: coordinates of the rotated q are rounded to units of max|q_rot| / top, so a coded key's logit is off
//              by at most 0.5 max|q_rot| / top * |k_rot|_1 <= 0.5 max|q_rot| / top * sqrt(d) |k - reference|
//            floats: sums of d products in any order, and at most 48 roundings per coordinate on the way through a rotation:
//              (d + 64) e |q| (|k - reference| + |reference| + |k|)
//            soft cap: tanh is off by less than 1e-6; it shrinks what went before. Mask: two more roundings of the logit.
//   weights  a logit off by w, and exp itself by 3e-7: relative error n = e^w - 1 + 4e-7; the mean of the values then moves by
//              at most 2 n max|v_j|
//   values   fixed point: a coded cell's weight times scale is rounded to units of its tile's largest / top, in rotated space;
//              a cell moves the result by at most min(0.5 unit / scale, weight) |v|
//            floats: 64 cells per tile, two roundings per tile when sums are scaled, a few per split, and un-rotation:
//              (64 + 4 tiles + 64) e max|v|
inline Expected expected_row(const Decoded& keys, const Decoded& values, std::size_t first_cell, int n, int heads, int head, const std::vector<float>& query,
                             const Coder& key_coder, std::span<const std::int8_t> balance, const std::vector<float>& mask, const reference::AttendOptions& options) {
    const int dk = keys.dim, dv = values.dim;
    std::vector<float> k(static_cast<std::size_t>(n) * dk), v(static_cast<std::size_t>(n) * dv);
    for (int t = 0; t < n; ++t) {
        const std::size_t at = (first_cell + t) * heads + head;
        std::copy_n(keys.row(at), dk, &k[static_cast<std::size_t>(t) * dk]);
        std::copy_n(values.row(at), dv, &v[static_cast<std::size_t>(t) * dv]);
    }
    Expected result;
    result.out.resize(dv);
    reference::attend(query, k.data(), v.data(), mask.empty() ? nullptr : mask.data(), n, dv, options, result.out.data());

    const double e = 0x1p-24, top = std::min(32639.0, std::floor(2147483647.0 / (127.0 * dk)));
    std::vector<float> rotated = query;
    for (float& x : rotated) x *= options.scale;
    double q = norm_of(rotated.data(), dk);
    for (std::size_t j = 0; j < balance.size(); ++j) rotated[j] = std::ldexp(rotated[j], -balance[j]);
    q = std::max(q, norm_of(rotated.data(), dk));
    rotate_forward(*key_coder.rotation, rotated.data());
    double q_max = 0, logit_error = 0, largest = options.sink ? *options.sink : -INFINITY, v_norm = 0, v_max = 0;
    for (const float x : rotated) q_max = std::max(q_max, static_cast<double>(std::abs(x)));
    std::vector<double> p(n, -INFINITY);
    for (int t = 0; t < n; ++t) {
        const std::size_t at = (first_cell + t) * heads + head;
        if (!mask.empty() && mask[t] == -INFINITY) continue;
        double dot = 0;
        for (int j = 0; j < dk; ++j) dot += static_cast<double>(query[j]) * k[static_cast<std::size_t>(t) * dk + j];
        dot *= options.scale;
        if (options.softcap != 0) dot = options.softcap * std::tanh(dot / options.softcap);
        p[t] = dot + (mask.empty() ? 0 : static_cast<double>(options.slope) * mask[t]);
        largest = std::max(largest, p[t]);
        const double fixed_point = keys.scale[at] != 0 ? 0.5 * q_max / top * std::sqrt(dk) * keys.off_reference[at] : 0;
        const double floats = (dk + 64) * e * q * (keys.off_reference[at] + keys.reference[at] + keys.norm[at]);
        logit_error = std::max(logit_error, fixed_point + floats + 1e-6 * options.softcap + 2 * e * std::abs(p[t]));
        v_norm = std::max(v_norm, values.norm[at]);
        for (int j = 0; j < dv; ++j) v_max = std::max(v_max, static_cast<double>(std::abs(v[static_cast<std::size_t>(t) * dv + j])));
    }
    double total = options.sink ? std::exp(*options.sink - largest) : 0, fixed_point = 0;
    for (double& x : p) total += x = x == -INFINITY ? 0 : std::exp(x - largest);
    for (int first = 0; first < n && total > 0; first += kTileTokens) {
        const int end = std::min(n, first + kTileTokens);
        const auto coded = [&](int t) { return static_cast<double>(values.scale[(first_cell + t) * heads + head]); };
        double unit = 0;
        for (int t = first; t < end; ++t) unit = std::max(unit, p[t] / total * coded(t) / 32639);
        for (int t = first; t < end; ++t) {
            if (coded(t) > 0) fixed_point += std::min(0.5 * unit / coded(t), p[t] / total) * values.norm[(first_cell + t) * heads + head];
        }
    }
    result.tolerance = 2 * (std::expm1(logit_error) + 4e-7) * v_max + fixed_point + (128 + 4.0 * n / kTileTokens) * e * v_norm;
    return result;
}

}  // namespace turboquant::parity

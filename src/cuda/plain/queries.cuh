// Rows of queries: which they are, how they are made ready for records, and how a finished one is written. A warp has four.
#pragma once

#include "cuda/plain/decode.cuh"
#include "cuda/plain/memory.cuh"

namespace turboquant::cuda {

// Four rows of one (sequence, KV head). Row i of all of them is query i / group, head i % group of the KV head's.
struct PlainRows {
    int sequence, kv_head, tile;
    int length, queries;             // tokens of the sequence, and its query positions
    std::int64_t first_token;        // in the query and output tensors

    TQ_DEV PlainRows(const PlainAttendParams& p, std::int64_t unit) {
        tile = static_cast<int>(unit % p.tiles);
        kv_head = static_cast<int>(unit / p.tiles % p.kv_heads);
        sequence = static_cast<int>(unit / p.tiles / p.kv_heads);
        length = p.lengths[sequence];
        first_token = p.query_start ? p.query_start[sequence] : static_cast<std::int64_t>(sequence) * p.num_queries;
        queries = p.query_start ? p.query_start[sequence + 1] - p.query_start[sequence] : p.num_queries;
    }
    // Rows beyond the last are idle: they take its place and are not written.
    TQ_DEV int wanted(int r) const { return tile * kPlainRows + r; }
    TQ_DEV int last(const PlainAttendParams& p) const { return queries * p.group - 1; }
    TQ_DEV int row(const PlainAttendParams& p, int r) const { return wanted(r) < last(p) ? wanted(r) : last(p); }
    TQ_DEV bool idle(const PlainAttendParams& p, int r) const { return wanted(r) > last(p); }
    // In the sequence; negative: before its first token, sees nothing.
    TQ_DEV int position(const PlainAttendParams& p, int r) const { return length - queries + row(p, r) / p.group; }
    TQ_DEV std::int64_t token(const PlainAttendParams& p, int r) const { return first_token + row(p, r) / p.group; }
    TQ_DEV int head(const PlainAttendParams& p, int r) const { return kv_head * p.group + row(p, r) % p.group; }
};

// S x for the Gaussian S, sums in ascending order of x: lane l gets the sums l, l + 32, ... of each of the vectors.
template <int kHeadDim, int kVectors>
TQ_DEV void sketch_product(const float* table, const float (*x)[kStrided<kHeadDim>], float (*out)[kStrided<kHeadDim>]) {
    const int lane = device::lane_id();
    TQ_UNROLL
    for (int r = 0; r < kVectors; ++r) {
        TQ_UNROLL
        for (int k = 0; k < kStrided<kHeadDim>; ++k) out[r][k] = 0;
    }
    TQ_UNROLL
    for (int part = 0; part < kStrided<kHeadDim>; ++part) {
        for (int l = 0; l < 32 && 32 * part + l < kHeadDim; ++l) {
            const float* numbers = table + static_cast<std::size_t>(32 * part + l) * kHeadDim;
            float value[kVectors];
            TQ_UNROLL
            for (int r = 0; r < kVectors; ++r) value[r] = device::from_lane(x[r][part], l);
            TQ_UNROLL
            for (int k = 0; k < kStrided<kHeadDim>; ++k) {
                const float s = lane + 32 * k < kHeadDim ? numbers[lane + 32 * k] : 0.0f;
                TQ_UNROLL
                for (int r = 0; r < kVectors; ++r) out[r][k] = out[r][k] + value[r] * s;
            }
        }
    }
}

// S x, whichever S there is, of vectors that have been rotated.
template <int kHeadDim, int kVectors>
TQ_DEV void sketch_vectors(const PlainSketch& sketch, float norm, const float (*x)[kStrided<kHeadDim>], float (*out)[kStrided<kHeadDim>]) {
    if (sketch.table) return sketch_product<kHeadDim, kVectors>(sketch.table, x, out);
    TQ_UNROLL
    for (int r = 0; r < kVectors; ++r) {
        TQ_UNROLL
        for (int k = 0; k < kStrided<kHeadDim>; ++k) out[r][k] = sketch.root * x[r][k];
        device::rotate_strided<kHeadDim>(out[r], sketch.rotation.sign, sketch.rotation.paley);
        TQ_UNROLL
        for (int k = 0; k < kStrided<kHeadDim>; ++k) out[r][k] = out[r][k] * norm;
    }
}

// Scores then are powers of two: the softmax scale and log2(e) are in the queries.
template <int kHeadDim>
TQ_DEV void prepare_queries(const PlainAttendParams& p, const PlainRows& rows, PreparedQueries<kHeadDim>& to) {
    const int lane = device::lane_id();
    const bool prod = p.page.keys.kind == RecordKind::prod;
    float x[kPlainRows][kStrided<kHeadDim>];
    const auto keep = [&](FourRows* list, float factor) {
        TQ_UNROLL
        for (int k = 0; k < kStrided<kHeadDim>; ++k) {
            if (lane + 32 * k >= kHeadDim) continue;
            TQ_UNROLL
            for (int r = 0; r < kPlainRows; ++r) list[lane + 32 * k].row[r] = factor * x[r][k];
        }
    };
    TQ_UNROLL
    for (int r = 0; r < kPlainRows; ++r) {
        const std::int64_t at = rows.token(p, r) * p.query_token_stride + rows.head(p, r) * p.query_head_stride;
        TQ_UNROLL
        for (int k = 0; k < kStrided<kHeadDim>; ++k) x[r][k] = lane + 32 * k < kHeadDim ? p.scale * load_number(p.query, at + lane + 32 * k, p.query_number) : 0.0f;
    }
    if (!prod) keep(to.second, 1);
    TQ_UNROLL
    for (int r = 0; r < kPlainRows; ++r) {
        device::rotate_strided<kHeadDim>(x[r], p.keys.sign, p.keys.paley);
        TQ_UNROLL
        for (int k = 0; k < kStrided<kHeadDim>; ++k) x[r][k] *= p.norm;
    }
    keep(to.rotated, 1);
    if (prod) {
        float sketched[kPlainRows][kStrided<kHeadDim>];
        sketch_vectors<kHeadDim, kPlainRows>(p.sketch, p.norm, x, sketched);
        TQ_UNROLL
        for (int r = 0; r < kPlainRows; ++r) {
            TQ_UNROLL
            for (int k = 0; k < kStrided<kHeadDim>; ++k) x[r][k] = sketched[r][k];
        }
        keep(to.second, p.sketch.factor);
    }
    device::sync_lanes();
}

// sum: the weighted values; m, l: the reference of the weights (log2) and their sum. A warp writes one row.
template <int kHeadDim>
TQ_DEV void write_plain_row(const PlainAttendParams& p, const PlainRows& rows, int r, float* sum, float m, float l) {
    if (rows.idle(p, r)) return;
    const int lane = device::lane_id(), head = rows.head(p, r);
    float factor = 1;
    if (p.sinks) {
        const float sink = p.sinks[head] * device::kLog2E, top = fmaxf(m, sink);
        factor = device::exp2_fast(m - top);
        l = l * factor + device::exp2_fast(sink - top);
        m = top;
    }
    if (p.log_sum && lane == 0) p.log_sum[rows.token(p, r) * p.kv_heads * p.group + head] = l == 0 ? -INFINITY : (m + device::log2_fast(l)) * 0.6931471805599453f;
    factor = l == 0 ? 0.0f : factor / l;
    if (p.page.values.kind == RecordKind::codes) {
        device::unrotate_strided<kHeadDim>(sum, p.values.sign, p.values.paley);
        factor = factor * p.norm;
    }
    const std::int64_t at = rows.token(p, r) * p.output_token_stride + head * p.output_head_stride + lane;
    TQ_UNROLL
    for (int k = 0; k < kStrided<kHeadDim>; ++k) {
        if (lane + 32 * k < kHeadDim) store_plain_number(p.output, at + 32 * k, p.output_number, sum[k] * factor);
    }
}

}  // namespace turboquant::cuda

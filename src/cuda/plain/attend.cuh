// Attention on pages of records, one warp: a piece of the pages that four query rows see, 32 tokens at a time. Where a unit's pages are cut
// into pieces, the warp that brings the last one puts them together, in the order of the pages.
#pragma once

#include "cuda/plain/queries.cuh"

namespace turboquant::cuda {

// What a warp keeps in shared memory; levels are filled in by the whole CTA, of 8-bit codes too.
template <int kHeadDim>
struct AttendWarpMemory {
    PreparedQueries<kHeadDim> queries;
};
struct LevelTables {
    float key[256], value[256];
};

// Entry i of both tables.
TQ_DEV void fill_levels(const PlainAttendParams& p, int i, LevelTables& levels) {
    levels.key[i] = p.page.keys.bits == 8 ? static_cast<float>(i - 128) : p.key_code.level[i & 31];
    levels.value[i] = p.page.values.bits == 8 ? static_cast<float>(i - 128) : p.value_code.level[i & 31];
}

// Running sums of four rows: weights are 2^(score - m).
template <int kHeadDim>
struct PlainSums {
    float x[kPlainRows][kStrided<kHeadDim>], m[kPlainRows], l[kPlainRows];

    TQ_DEV void clear() {
        TQ_UNROLL
        for (int r = 0; r < kPlainRows; ++r) {
            m[r] = device::kNothing;
            l[r] = 0;
            TQ_UNROLL
            for (int k = 0; k < kStrided<kHeadDim>; ++k) x[r][k] = 0;
        }
    }
    TQ_DEV void raise(int r, float top) {
        const float factor = device::exp2_fast(m[r] - top);
        m[r] = top;
        l[r] *= factor;
        TQ_UNROLL
        for (int k = 0; k < kStrided<kHeadDim>; ++k) x[r][k] *= factor;
    }
};

// Tokens [first, first + 32) of one page. position: of the rows. l is summed per lane.
template <int kHeadDim>
TQ_DEV void attend_to_tokens(const PlainAttendParams& p, const LevelTables& levels, const AttendWarpMemory<kHeadDim>& memory, const std::uint8_t* blob, int first,
                             const int* position, const float* reference, PlainSums<kHeadDim>& sums) {
    const int token = first + device::lane_id(), place = token % kTokensPerPage;
    bool seen[kPlainRows], any = false;
    TQ_UNROLL
    for (int r = 0; r < kPlainRows; ++r) {
        seen[r] = token <= position[r] && (p.window == 0 || token > position[r] - p.window);
        any = any || seen[r];
    }
    if (!device::any_lane(any)) return;
    float weight[kPlainRows] = {};
    if (any) score_record<kHeadDim>(p.page.keys, p.key_code, levels.key, blob + place * p.page.keys.record_bytes(), memory.queries, weight);
    TQ_UNROLL
    for (int r = 0; r < kPlainRows; ++r) {
        float score = weight[r] + reference[r];
        if (p.cap != 0) {  // cap * tanh(score / cap)
            const float e = device::exp2_fast(2 * device::kLog2E * score / p.cap);
            score = p.cap * (1 - 2 / (e + 1));
        }
        float top = seen[r] ? score : device::kNothing;
        TQ_UNROLL
        for (int h = 16; h >= 1; h /= 2) top = fmaxf(top, device::exchange(top, h));
        if (top > sums.m[r]) sums.raise(r, top);
        weight[r] = seen[r] ? device::exp2_fast(score - sums.m[r]) : 0.0f;
        sums.l[r] += weight[r];
    }
    const std::uint8_t* values = blob + p.page.offset(Side::value);
    for (std::uint32_t left = device::ballot(any), t = 0; left; left >>= 1, ++t) {
        if ((left & 1) == 0) continue;
        float w[kPlainRows];
        TQ_UNROLL
        for (int r = 0; r < kPlainRows; ++r) w[r] = device::from_lane(weight[r], static_cast<int>(t));
        add_record<kHeadDim>(p.page.values, p.value_code, levels.value, values + (first + static_cast<int>(t)) % kTokensPerPage * p.page.values.record_bytes(), w, sums.x);
    }
}

// Puts together what `pieces` warps left of row r of a unit.
template <int kHeadDim>
TQ_DEV void gather_row(const float* first_piece, int pieces, int r, float* x, float* m, float* l) {
    const std::size_t stride = plain_piece_floats(kHeadDim);
    const float* row = first_piece + r * plain_row_floats(kHeadDim);
    const std::size_t tail = 32 * kStrided<kHeadDim>;
    *m = device::kNothing;
    *l = 0;
    TQ_UNROLL
    for (int k = 0; k < kStrided<kHeadDim>; ++k) x[k] = 0;
    for (int i = 0; i < pieces; ++i) *m = fmaxf(*m, load_fresh(row + i * stride + tail));
    for (int i = 0; i < pieces; ++i) {
        const float* piece = row + i * stride;
        const float weight = device::exp2_fast(load_fresh(piece + tail) - *m);
        *l += weight * load_fresh(piece + tail + 1);
        TQ_UNROLL
        for (int k = 0; k < kStrided<kHeadDim>; ++k) x[k] += weight * load_fresh(piece + device::lane_id() + 32 * k);
    }
}

// item: unit * splits + split.
template <int kHeadDim>
TQ_DEV void attend_item(const PlainAttendParams& p, std::int64_t item, const LevelTables& levels, AttendWarpMemory<kHeadDim>& memory) {
    const std::int64_t unit = item / p.splits;
    const int split = static_cast<int>(item % p.splits), lane = device::lane_id();
    const PlainRows rows(p, unit);
    if (rows.idle(p, 0)) return;
    int position[kPlainRows], highest = 0, lowest = 0;
    TQ_UNROLL
    for (int r = 0; r < kPlainRows; ++r) position[r] = rows.position(p, r);
    lowest = position[0];  // rows ascend with their positions
    highest = position[kPlainRows - 1];
    const int begin = p.window > 0 && lowest >= p.window ? lowest - p.window + 1 : 0;
    const int first_page = begin / kTokensPerPage, num_pages = highest < 0 ? 0 : highest / kTokensPerPage - first_page + 1;
    const int per_piece = (num_pages + p.splits - 1) / p.splits, pieces = num_pages == 0 ? 1 : (num_pages + per_piece - 1) / per_piece;
    if (split >= pieces) return;

    PlainSums<kHeadDim> sums;
    sums.clear();
    if (num_pages > 0) prepare_queries<kHeadDim>(p, rows, memory.queries);
    const int page_end = first_page + (per_piece * (split + 1) < num_pages ? per_piece * (split + 1) : num_pages);
    for (int page = first_page + per_piece * split; page < page_end; ++page) {
        const std::int64_t number = p.block_table[static_cast<std::int64_t>(rows.sequence) * p.table_stride + page];
        const std::uint8_t* blob = p.pool + number * p.page_stride + rows.kv_head * p.head_stride;
        float reference[kPlainRows] = {};
        if (p.page.keys.has_reference()) score_reference<kHeadDim>(blob + p.page.keys.reference_offset(), memory.queries, reference);
        attend_to_tokens<kHeadDim>(p, levels, memory, blob, page * kTokensPerPage, position, reference, sums);
        attend_to_tokens<kHeadDim>(p, levels, memory, blob, page * kTokensPerPage + 32, position, reference, sums);
    }
    TQ_UNROLL
    for (int h = 16; h >= 1; h /= 2) {
        TQ_UNROLL
        for (int r = 0; r < kPlainRows; ++r) sums.l[r] += device::exchange(sums.l[r], h);
    }
    if (pieces == 1) {
        TQ_UNROLL
        for (int r = 0; r < kPlainRows; ++r) write_plain_row<kHeadDim>(p, rows, r, sums.x[r], sums.m[r], sums.l[r]);
        return;
    }
    float* own = p.pieces + static_cast<std::size_t>(item) * plain_piece_floats(kHeadDim);
    TQ_UNROLL
    for (int r = 0; r < kPlainRows; ++r) {
        float* row = own + r * plain_row_floats(kHeadDim);
        TQ_UNROLL
        for (int k = 0; k < kStrided<kHeadDim>; ++k) row[lane + 32 * k] = sums.x[r][k];
        if (lane == 0) {
            row[32 * kStrided<kHeadDim>] = sums.m[r];
            row[32 * kStrided<kHeadDim> + 1] = sums.l[r];
        }
    }
    if (arrive(p.counters + unit) != static_cast<unsigned>(pieces - 1)) return;
    if (lane == 0) p.counters[unit] = 0;
    const float* all = p.pieces + static_cast<std::size_t>(unit) * p.splits * plain_piece_floats(kHeadDim);
    for (int r = 0; r < kPlainRows; ++r) {
        float x[kStrided<kHeadDim>], m, l;
        gather_row<kHeadDim>(all, pieces, r, x, &m, &l);
        write_plain_row<kHeadDim>(p, rows, r, x, m, l);
    }
}

}  // namespace turboquant::cuda

// Coding one new key or value, one warp: its reference, its codes, its record. Compile with -fmad=false.
#pragma once

#include "cuda/pages/images.hpp"
#include "cuda/plain/encode.cuh"

namespace turboquant::cuda {

// Where a key's reference comes from; include/turboquant/cuda.hpp says which it is.
struct PlainReference {
    enum From : std::int32_t { none, stored, mean } from;
    std::int64_t page;               // stored: which page's
    std::int32_t run, length;        // mean: over these rows
};

TQ_DEV std::int64_t slot_at(const PlainAppendParams& p, int i) { return i >= 0 && i < p.tokens ? p.slots[i] : -1; }
// Token i stands in the slot after that of token i - 1, in the same page.
TQ_DEV bool is_linked(const PlainAppendParams& p, int i) {
    const std::int64_t before = slot_at(p, i - 1), slot = slot_at(p, i);
    return before >= 0 && slot == before + 1 && slot % kTokensPerPage != 0;
}

// The page before the one that token begins; negative: none.
TQ_DEV std::int64_t plain_page_before(const PlainAppendParams& p, int token) {
    if (p.query_start == nullptr || p.batch == 0 || token < p.query_start[0] || token >= p.query_start[p.batch]) return -1;
    int low = 0, high = p.batch;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (p.query_start[middle] <= token) low = middle; else high = middle;
    }
    const int position = p.lengths[low] - (p.query_start[low + 1] - token);
    return position < kTokensPerPage ? -1 : p.block_table[static_cast<std::int64_t>(low) * p.table_stride + position / kTokensPerPage - 1];
}

TQ_DEV PlainReference reference_of(const PlainAppendParams& p, int token) {
    constexpr int kLongRun = 16;     // rows whose mean may be a reference although there is a page before
    const std::int64_t slot = p.slots[token];
    PlainReference reference{p.centred ? PlainReference::stored : PlainReference::none, slot / kTokensPerPage, 0, 0};
    if (!p.centred) return reference;
    int begin = token;
    while (is_linked(p, begin)) --begin;
    // Where slots of the page were skipped in this call, the run that begins the page counts, if it is in this call.
    const int place = static_cast<int>(p.slots[begin] % kTokensPerPage);
    if (place != 0) {
        if (slot_at(p, begin - place) != p.slots[begin] - place) return reference;
        begin -= place;
    }
    int end = begin + 1;
    while (is_linked(p, end)) ++end;
    reference = {PlainReference::mean, reference.page, begin, end - begin};
    if (reference.length >= kLongRun) return reference;
    const std::int64_t before = plain_page_before(p, begin);
    if (before < 0) return reference;
    // The page before may begin in this very call: then its reference is the mean of its 64 rows; or, if some of these are skipped,
    // whatever another warp is about to settle: the run takes its own mean.
    if (slot_at(p, begin - kTokensPerPage) == before * kTokensPerPage) {
        bool whole = slot_at(p, begin - 1) == before * kTokensPerPage + kTokensPerPage - 1;
        for (int i = begin - kTokensPerPage + 1; i < begin && whole; ++i) whole = is_linked(p, i);
        if (whole) reference = {PlainReference::mean, reference.page, begin - kTokensPerPage, kTokensPerPage};
        return reference;
    }
    return {PlainReference::stored, before, 0, 0};
}

TQ_DEV std::uint16_t row_half(const PlainAppendParams& p, const PlainAppendSide& side, int token, int head, int dim) {
    const std::int64_t at = token * side.token_stride + head * side.head_stride + dim;
    return p.number == Number::fp16 ? static_cast<const std::uint16_t*>(side.rows)[at] : device::half_bits(load_number(side.rows, at, p.number));
}

// The mean over a run's rows, those with an infinity or NaN aside (core/reference.cpp, tile_reference()).
template <int kHeadDim>
TQ_DEV void mean_of_run(const PlainAppendParams& p, int run, int length, int head, std::uint16_t* mean) {
    const int lane = device::lane_id();
    std::uint64_t counted = 0;
    int count = 0;
    for (int t = 0; t < length; ++t) {
        bool broken = false;
        for (int k = 0; k < kStrided<kHeadDim>; ++k) broken = broken || (has_number<kHeadDim>(k) && (row_half(p, p.keys, run + t, head, lane + 32 * k) & 0x7c00u) == 0x7c00u);
        if (device::any_lane(broken)) continue;
        counted |= 1ull << t;
        ++count;
    }
    for (int k = 0; k < kStrided<kHeadDim>; ++k) {
        float column[kTokensPerPage];
        for (int t = 0; t < kTokensPerPage; ++t) {
            column[t] = counted >> t & 1 && has_number<kHeadDim>(k) ? device::half_value(row_half(p, p.keys, run + t, head, lane + 32 * k)) : 0.0f;
        }
        for (int h = kTokensPerPage / 2; h >= 1; h /= 2) {
            for (int t = 0; t < h; ++t) column[t] = column[t] + column[t + h];
        }
        mean[k] = count == 0 ? std::uint16_t{0} : device::half_bits(column[0] / static_cast<float>(count));
    }
}

// item: 2 * (token * kv_heads + head) + side.
template <int kHeadDim>
TQ_DEV void append_item(const PlainAppendParams& p, std::int64_t item, EncodeWarpMemory<kHeadDim>& memory) {
    constexpr int kNum = kStrided<kHeadDim>;
    const bool value = item % 2 != 0;
    const int head = static_cast<int>(item / 2 % p.kv_heads), token = static_cast<int>(item / 2 / p.kv_heads), lane = device::lane_id();
    const std::int64_t slot = p.slots[token];
    if (slot < 0) return;
    const PlainAppendSide& side = value ? p.values : p.keys;
    const RecordSide& records = value ? p.page.values : p.page.keys;
    const auto blob_of = [&](std::int64_t page) { return p.pool + page * p.page_stride + head * p.head_stride; };
    std::uint8_t* part = blob_of(slot / kTokensPerPage) + (value ? p.page.offset(Side::value) : 0);
    const int place = static_cast<int>(slot % kTokensPerPage);
    float x[kNum];
    for (int k = 0; k < kNum; ++k) x[k] = has_number<kHeadDim>(k) ? device::half_value(row_half(p, side, token, head, lane + 32 * k)) : 0.0f;
    if (records.has_reference()) {
        const PlainReference reference = reference_of(p, token);
        std::uint16_t numbers[kNum] = {};
        if (reference.from == PlainReference::mean) {
            mean_of_run<kHeadDim>(p, reference.run, reference.length, head, numbers);
        } else if (reference.from == PlainReference::stored) {
            const auto* stored = reinterpret_cast<const std::uint16_t*>(blob_of(reference.page) + records.reference_offset());
            for (int k = 0; k < kNum; ++k) numbers[k] = has_number<kHeadDim>(k) ? stored[lane + 32 * k] : std::uint16_t{0};
        }
        for (int k = 0; k < kNum; ++k) {
            if (!has_number<kHeadDim>(k)) continue;
            x[k] = x[k] - device::half_value(numbers[k]);
            if (place == 0) reinterpret_cast<std::uint16_t*>(part + records.reference_offset())[lane + 32 * k] = numbers[k];
        }
    }
    std::uint8_t codes[kNum], signs[kNum];
    std::uint16_t halves[2 * kNum] = {};
    if (records.kind == RecordKind::group) {
        encode_group<kHeadDim>(records.bits, x, codes, halves);
    } else {
        device::rotate_strided<kHeadDim>(x, side.rotation.sign, side.rotation.paley);
        for (int k = 0; k < kNum; ++k) x[k] = x[k] * p.norm;
        if (records.kind == RecordKind::prod) encode_prod<kHeadDim>(side.book, p.sketch, records.code_bits(), p.norm, x, codes, signs, halves);
        else halves[0] = encode_codes<kHeadDim>(side.book, records, x, memory, codes);
    }
    const bool prod = records.kind == RecordKind::prod;
    for (int k = 0; k < kNum; ++k) {
        memory.codes[lane + 32 * k] = codes[k];
        if (prod) memory.signs[lane + 32 * k] = signs[k];
    }
    device::sync_lanes();
    std::uint8_t* record = part + place * records.record_bytes();
    for (int i = lane; i < records.codes_bytes(); i += 32) record[i] = row_byte(records.code_bits(), memory.codes, i);
    for (int i = lane; prod && i < kHeadDim / 8; i += 32) record[records.signs_offset() + i] = row_byte(1, memory.signs, i);
    TQ_UNROLL
    for (int i = 0; i < 2 * kNum; ++i) {
        if (lane == 0 && i < records.num_halves()) reinterpret_cast<std::uint16_t*>(record + records.halves_offset())[i] = halves[i];
    }
}

}  // namespace turboquant::cuda

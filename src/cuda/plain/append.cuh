// Coding one new key or value, one warp: its reference, its codes, its record. Compile with -fmad=false.
#pragma once

#include "cuda/append/page_before.cuh"
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

// Bit i: token first + i is linked. A warp.
TQ_DEV std::uint64_t links_from(const PlainAppendParams& p, int first) {
    const std::uint32_t low = device::ballot(is_linked(p, first + device::lane_id())), high = device::ballot(is_linked(p, first + 32 + device::lane_id()));
    return static_cast<std::uint64_t>(high) << 32 | low;
}

// A warp.
TQ_DEV PlainReference reference_of(const PlainAppendParams& p, int token) {
    constexpr int kLongRun = 16;     // rows whose mean may be a reference although there is a page before
    const std::int64_t slot = p.slots[token];
    PlainReference reference{p.centred ? PlainReference::stored : PlainReference::none, slot / kTokensPerPage, 0, 0};
    if (!p.centred) return reference;
    int begin = token;
    for (std::uint64_t links = links_from(p, token - 63); links >> 63; links <<= 1) --begin;
    // Where slots of the page were skipped in this call, the run that begins the page counts, if it is in this call.
    const int place = static_cast<int>(p.slots[begin] % kTokensPerPage);
    if (place != 0) {
        if (slot_at(p, begin - place) != p.slots[begin] - place) return reference;
        begin -= place;
    }
    int end = begin + 1;
    for (std::uint64_t links = links_from(p, end); links & 1; links >>= 1) ++end;
    reference = {PlainReference::mean, reference.page, begin, end - begin};
    if (reference.length >= kLongRun) return reference;
    const std::int64_t before = page_before(p, begin);
    if (before < 0) return reference;
    // The page before may begin in this very call: then its reference is the mean of its 64 rows; or, if some of these are skipped,
    // whatever another warp is about to settle: the run takes its own mean.
    if (slot_at(p, begin - kTokensPerPage) == before * kTokensPerPage) {
        constexpr std::uint64_t kAll = ~0ull >> 1;  // of its rows but the first
        if ((links_from(p, begin - kTokensPerPage + 1) & kAll) == kAll) reference = {PlainReference::mean, reference.page, begin - kTokensPerPage, kTokensPerPage};
        return reference;
    }
    return {PlainReference::stored, before, 0, 0};
}

TQ_DEV std::uint16_t row_half(const PlainAppendParams& p, const PlainAppendSide& side, int token, int head, int dim) {
    const std::int64_t at = token * side.token_stride + head * side.head_stride + dim;
    return p.number == Number::fp16 ? static_cast<const std::uint16_t*>(side.rows)[at] : device::half_bits(load_number(side.rows, at, p.number));
}

// One dim of a run's rows. The branch on their format is around all of it: then the loads of a step are under way together.
template <Number kNumber>
struct RunColumn {
    const void* rows;
    std::int64_t first, stride;      // in numbers
    int length;

    TQ_DEV std::uint16_t half(int t) const {
        if (t >= length) return 0;
        const std::int64_t at = first + t * stride;
        return kNumber == Number::fp16 ? static_cast<const std::uint16_t*>(rows)[at] : device::half_bits(load_number(rows, at, kNumber));
    }
    // Bit t: row t has an infinity or NaN there.
    TQ_DEV std::uint64_t broken() const {
        std::uint64_t bits = 0;
        for (int t = 0; t < kTokensPerPage; t += 16) {
            std::uint32_t some = 0;
            TQ_UNROLL
            for (int i = 0; i < 16; ++i) some |= static_cast<std::uint32_t>((half(t + i) & 0x7c00u) == 0x7c00u) << i;
            bits |= static_cast<std::uint64_t>(some) << t;
        }
        return bits;
    }
    // The tree sum over 64 rows: those of equal remainder mod 8 first, which the tree adds up first.
    TQ_DEV float sum(std::uint64_t counted) const {
        const auto row = [&](int t) { return counted >> t & 1 ? device::half_value(half(t)) : 0.0f; };
        const auto eight = [&](int t) { return ((row(t) + row(t + 32)) + (row(t + 16) + row(t + 48))) + ((row(t + 8) + row(t + 40)) + (row(t + 24) + row(t + 56))); };
        float even = 0, odd = 0;
        for (int t = 0; t < 2; ++t) {
            even = odd;
            odd = (eight(t) + eight(t + 4)) + (eight(t + 2) + eight(t + 6));
        }
        return even + odd;
    }
};

// Calls work with the column of a dim, in its format.
template <class Work>
TQ_DEV void with_column(const PlainAppendParams& p, int run, int length, int head, int dim, Work&& work) {
    const std::int64_t stride = p.keys.token_stride, first = run * stride + head * p.keys.head_stride + dim;
    if (p.number == Number::bf16) work(RunColumn<Number::bf16>{p.keys.rows, first, stride, length});
    else if (p.number == Number::fp16) work(RunColumn<Number::fp16>{p.keys.rows, first, stride, length});
    else work(RunColumn<Number::fp32>{p.keys.rows, first, stride, length});
}

// The mean over a run's rows, those with an infinity or NaN aside (core/reference.cpp, tile_reference()).
template <int kHeadDim>
TQ_DEV void mean_of_run(const PlainAppendParams& p, int run, int length, int head, std::uint16_t* mean) {
    const int lane = device::lane_id();
    std::uint64_t broken = 0;
    for (int k = 0; k < kStrided<kHeadDim>; ++k) {
        if (has_number<kHeadDim>(k)) with_column(p, run, length, head, lane + 32 * k, [&](const auto& column) { broken |= column.broken(); });
    }
    std::uint32_t low = static_cast<std::uint32_t>(broken), high = static_cast<std::uint32_t>(broken >> 32);
    TQ_UNROLL
    for (int h = 16; h >= 1; h /= 2) {
        low |= device::exchange(low, h);
        high |= device::exchange(high, h);
    }
    const std::uint64_t counted = ~(static_cast<std::uint64_t>(high) << 32 | low) & (~0ull >> (kTokensPerPage - length));
    int count = 0;
    for (std::uint64_t left = counted; left; left &= left - 1) ++count;
    for (int k = 0; k < kStrided<kHeadDim>; ++k) {
        mean[k] = 0;
        if (!has_number<kHeadDim>(k) || count == 0) continue;
        with_column(p, run, length, head, lane + 32 * k, [&](const auto& column) { mean[k] = device::half_bits(column.sum(counted) / static_cast<float>(count)); });
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

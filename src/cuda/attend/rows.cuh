// Query rows: where they come from, what position they stand at, and how a finished one is written.
#pragma once

#include "cuda/attend/plan.cuh"
#include "cuda/device/bulk_copy.cuh"
#include "cuda/device/rotation.cuh"

namespace turboquant::cuda {

// What a kernel does first, by AttendParams::early.
__device__ __forceinline__ void start_early(const AttendParams& p) {
    if (p.early == 1 || p.early == 2) device::launch_dependents();
    if (p.early & 1) device::wait_for_predecessor();
    if (p.early >= 3) device::launch_dependents();
}

// Row r of a unit: position r / group of the sequence's queries, head r % group of the KV head's. Rows beyond the last are idle: they take
// the last one's place and are not written.
struct Row {
    bool idle;
    int position;              // in the sequence
    std::int64_t token;        // in the query and output tensors
    int head;
};

template <int kRows>
__device__ Row row_of(const AttendParams& p, const Unit& unit, int r) {
    const int wanted = unit.tile() * kRows + r, last = unit.queries * p.group - 1, row = min(wanted, last);
    const int query = static_cast<int>(p.group == 1 ? row : __umulhi(row, p.group_inverse));
    // Sequences shorter than their queries answer the last of them only.
    const std::int64_t first = p.query_start ? p.query_start[unit.sequence + 1] - unit.queries
                                             : static_cast<std::int64_t>(unit.sequence + 1) * p.num_queries - unit.queries;
    return {wanted > last, unit.length - unit.queries + query, first + query, unit.kv_head() * p.group + row - query * p.group};
}

// The 16 bytes at number `first` of a row of 16-bit numbers.
__device__ inline uint4 load_query16(const AttendParams& p, const Row& row, int first) {
    const auto* numbers = static_cast<const std::uint16_t*>(p.query) + row.token * p.query_token_stride + row.head * p.query_head_stride;
    return *reinterpret_cast<const uint4*>(numbers + first);
}

__device__ inline void widen(const AttendParams& p, std::uint32_t two, float* x) {
    if (p.query_number == Number::bf16) {
        x[0] = __uint_as_float(two << 16);
        x[1] = __uint_as_float(two & 0xffff0000u);
    } else {
        x[0] = device::low_half(two);
        x[1] = device::high_half(two);
    }
}

__device__ inline void store_number(void* to, std::int64_t at, Number number, float value) {
    if (number == Number::bf16) static_cast<__nv_bfloat16*>(to)[at] = __float2bfloat16(value);
    else if (number == Number::fp16) static_cast<__half*>(to)[at] = __float2half_rn(value);
    else static_cast<float*>(to)[at] = value;
}

__device__ inline std::uint32_t pack_bf16(float low, float high) {
    const __nv_bfloat162 two = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&two);
}

// Eight numbers side by side, times factor; 16-byte aligned.
__device__ inline void store_eight(void* to, std::int64_t at, Number number, const float* x, float factor) {
    if (number == Number::fp32) {
        float4* four = reinterpret_cast<float4*>(static_cast<float*>(to) + at);
#pragma unroll
        for (int i = 0; i < 2; ++i) four[i] = make_float4(x[4 * i] * factor, x[4 * i + 1] * factor, x[4 * i + 2] * factor, x[4 * i + 3] * factor);
        return;
    }
    std::uint32_t two[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) two[i] = number == Number::bf16 ? pack_bf16(x[2 * i] * factor, x[2 * i + 1] * factor) : device::pack_halves(x[2 * i] * factor, x[2 * i + 1] * factor);
    *reinterpret_cast<uint4*>(static_cast<std::uint16_t*>(to) + at) = make_uint4(two[0], two[1], two[2], two[3]);
}

// What a row's weighted sums are multiplied with; m, l: their reference, and the sum of weights. The sink takes part, and one thread of a row writes the
// logarithm of the sum.
__device__ __forceinline__ float close_row(const AttendParams& p, const Row& row, float m, float l, bool writes) {
    float factor = 1;
    if (p.sinks) {
        const float sink = p.sinks[row.head] * device::kLog2E, top = fmaxf(m, sink);
        factor = device::exp2_fast(m - top);
        l = l * factor + device::exp2_fast(sink - top);
        m = top;
    }
    if (p.log_sum && writes) {
        p.log_sum[row.token * p.kv_heads * p.group + row.head] = l == 0 ? -INFINITY : (m + __log2f(l)) * 0.6931471805599453f;
    }
    return l == 0 ? 0.0f : factor * p.norm / l;
}

// A warp writes one row. x[k]: number lane + 32 k of the weighted sum in rotated space; m, l: its reference and sum of weights.
template <int kHeadDim>
__device__ void write_row(const AttendParams& p, const Row& row, float* x, float m, float l) {
    if (row.idle) return;
    const int lane = threadIdx.x & 31;
    const float factor = close_row(p, row, m, l, lane == 0);
    device::unrotate_strided<kHeadDim>(x, p.values.sign, p.values.paley);
    const std::int64_t at = row.token * p.output_token_stride + row.head * p.output_head_stride + lane;
#pragma unroll
    for (int k = 0; k < device::RotationShape<kHeadDim>::kPadded / 32; ++k) {
        if (lane + 32 * k < kHeadDim) store_number(p.output, at + 32 * k, p.output_number, x[k] * factor);
    }
}

// Queries that see nothing: those of empty sequences, and those before a sequence's first token. All threads of all CTAs together.
template <int kHeadDim>
__device__ void write_empty(const AttendParams& p, const Sequence* sequences) {
    const int heads = p.kv_heads * p.group;
    for (int b = blockIdx.x; b < p.batch; b += gridDim.x) {
        const std::int64_t begin = p.query_start ? p.query_start[b] : static_cast<std::int64_t>(b) * p.num_queries;
        const std::int64_t end = p.query_start ? p.query_start[b + 1] : begin + p.num_queries;
        for (std::int64_t token = begin; token < end - sequences[b].queries(); ++token) {
            for (int i = threadIdx.x; i < heads * kHeadDim; i += blockDim.x) {
                const int head = i / kHeadDim;
                store_number(p.output, token * p.output_token_stride + head * p.output_head_stride + i % kHeadDim, p.output_number, 0);
                if (p.log_sum && i % kHeadDim == 0) p.log_sum[token * heads + head] = p.sinks ? p.sinks[head] : -INFINITY;
            }
        }
    }
}

}  // namespace turboquant::cuda

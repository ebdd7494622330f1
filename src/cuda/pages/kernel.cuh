// Copies pages, and converts them to and from the other layouts: a CTA per (entry, KV head). Codes go through shared memory, one to a byte;
// core/page_convert.hpp says what must come out.
#pragma once

#include "cuda/device/bulk_copy.cuh"
#include "cuda/pages/images.hpp"
#include "cuda/pages/params.hpp"

namespace turboquant::cuda {

inline constexpr int kPagesThreads = 256, kLargestHead = 256;

__device__ inline std::int32_t listed(const std::int32_t* list, int entry) { return list ? list[entry] : entry; }
__device__ inline std::uint8_t* at_page(const Pages& pages, std::int32_t page, int head) { return pages.data + page * pages.page_stride + head * pages.head_stride; }

static __global__ void __launch_bounds__(kPagesThreads) copy_kernel(const __grid_constant__ CopyParams p) {
    if (p.early) {
        device::launch_dependents();
        device::wait_for_predecessor();
    }
    const int entry = blockIdx.x / p.kv_heads, head = blockIdx.x % p.kv_heads;
    const std::int32_t source = listed(p.source, entry), destination = listed(p.destination, entry);
    if (source < 0 || destination < 0) return;
    if (head == 0 && threadIdx.x == 0) forget_page(p.overlay, destination);
    const uint4* from = reinterpret_cast<const uint4*>(at_page(p.from, source, head));
    uint4* to = reinterpret_cast<uint4*>(at_page(p.to, destination, head));
#pragma unroll 4
    for (int i = threadIdx.x; i < p.blob_units; i += kPagesThreads) to[i] = from[i];
}

// One side of a page from or to its image. codes: [64][head_dim] bytes in shared memory.
__device__ inline void export_side(const ConvertParams& p, const PageSide& side, const std::uint8_t* part, std::uint8_t* image, std::uint8_t* codes) {
    for (int i = threadIdx.x; i < kPageTokens * side.head_dim; i += kPagesThreads) {
        codes[i] = static_cast<std::uint8_t>(page_get_code(side, part, i / side.head_dim, i % side.head_dim));
    }
    const auto* scales = reinterpret_cast<const std::uint16_t*>(part + side.scales_offset());
    __syncthreads();
    if (p.images_are == Layout::rows) {
        const RowLayout row{side.head_dim, p.layout.key_bits, p.layout.value_bits};
        const int bytes = static_cast<int>(RowLayout::packed_bytes(side.head_dim, side.bits)), record = static_cast<int>(row.record_bytes());
        std::uint8_t* first = image + (side.side == Side::key ? 0 : row.value_offset());
        for (int i = threadIdx.x; i < kPageTokens * bytes; i += kPagesThreads) {
            const int token = i / bytes, byte = i % bytes;
            first[token * record + byte] = row_byte(side.bits, codes + token * side.head_dim, byte);
        }
        for (int t = threadIdx.x; t < kPageTokens; t += kPagesThreads) *reinterpret_cast<std::uint16_t*>(first + t * record + bytes) = scales[PageSide::scale_index(t)];
    } else {
        const TileLayout tile{side.side, side.head_dim, side.bits};
        std::uint8_t* first = image + (side.side == Side::key ? 0 : TileLayout{Side::key, side.head_dim, p.layout.key_bits}.blob_bytes());
        for (int i = threadIdx.x; i < static_cast<int>(tile.codes_bytes()); i += kPagesThreads) first[i] = tile_byte(tile, codes, i);
        auto* to = reinterpret_cast<std::uint16_t*>(first + tile.scales_offset());
        for (int t = threadIdx.x; t < kPageTokens; t += kPagesThreads) to[t] = scales[PageSide::scale_index(t)];
    }
    __syncthreads();
}

__device__ inline void import_side(const ConvertParams& p, const PageSide& side, const std::uint8_t* image, std::uint8_t* part, std::uint8_t* codes) {
    auto* scales = reinterpret_cast<std::uint16_t*>(part + side.scales_offset());
    if (p.images_are == Layout::rows) {
        const RowLayout row{side.head_dim, p.layout.key_bits, p.layout.value_bits};
        const int bytes = static_cast<int>(RowLayout::packed_bytes(side.head_dim, side.bits)), record = static_cast<int>(row.record_bytes());
        const std::uint8_t* first = image + (side.side == Side::key ? 0 : row.value_offset());
        for (int i = threadIdx.x; i < kPageTokens * side.head_dim; i += kPagesThreads) {
            codes[i] = static_cast<std::uint8_t>(row_get_code(first + i / side.head_dim * record, side.bits, i % side.head_dim));
        }
        for (int t = threadIdx.x; t < kPageTokens; t += kPagesThreads) scales[PageSide::scale_index(t)] = *reinterpret_cast<const std::uint16_t*>(first + t * record + bytes);
    } else {
        const TileLayout tile{side.side, side.head_dim, side.bits};
        const std::uint8_t* first = image + (side.side == Side::key ? 0 : TileLayout{Side::key, side.head_dim, p.layout.key_bits}.blob_bytes());
        for (int i = threadIdx.x; i < kPageTokens * side.head_dim; i += kPagesThreads) {
            codes[i] = static_cast<std::uint8_t>(tile_get_code(tile, first, i / side.head_dim, i % side.head_dim));
        }
        const auto* from = reinterpret_cast<const std::uint16_t*>(first + tile.scales_offset());
        for (int t = threadIdx.x; t < kPageTokens; t += kPagesThreads) scales[PageSide::scale_index(t)] = from[t];
    }
    __syncthreads();
    for (int job = threadIdx.x; job < kWarpLanes * groups_per_lane(side); job += kPagesThreads) {
        const int lane = job % kWarpLanes, group = job / kWarpLanes;
        std::uint32_t words[8];
        page_words(side, codes, lane, group, words);
        for (int w = 0; w < side.bits; ++w) *reinterpret_cast<std::uint32_t*>(part + side.word_offset(lane, side.group_word(group, w))) = words[w];
    }
    __syncthreads();
}

template <bool kImport>
__global__ void __launch_bounds__(kPagesThreads) convert_kernel(const __grid_constant__ ConvertParams p) {
    __shared__ std::uint8_t codes[kPageTokens * kLargestHead];
    if (p.early) {
        device::launch_dependents();
        device::wait_for_predecessor();
    }
    const int entry = blockIdx.x / p.kv_heads, head = blockIdx.x % p.kv_heads;
    const std::int32_t page = listed(p.page_list, entry), image = listed(p.image_list, entry);
    if (page < 0 || image < 0) return;
    if (kImport && head == 0 && threadIdx.x == 0) forget_page(p.overlay, page);
    std::uint8_t* blob = at_page(p.pages, page, head);
    std::uint8_t* other = at_page(p.images, image, head);
    for (Side which : {Side::key, Side::value}) {
        std::uint8_t* part = blob + p.layout.offset(which);
        if constexpr (kImport) import_side(p, p.layout.of(which), other, part, codes);
        else export_side(p, p.layout.of(which), part, other, codes);
    }
    const int head_dim = p.layout.head_dim;
    auto* reference = reinterpret_cast<std::uint16_t*>(blob + p.layout.keys().reference_offset());
    auto* beside = p.images_are == Layout::simd64 ? reinterpret_cast<std::uint16_t*>(other + TileLayout{Side::key, head_dim, p.layout.key_bits}.reference_offset())
                   : p.references                 ? p.references + (static_cast<std::int64_t>(image) * p.kv_heads + head) * head_dim
                                                  : nullptr;
    if (beside == nullptr) return;
    for (int j = threadIdx.x; j < (kImport ? p.layout.keys().padded_dim() : head_dim); j += kPagesThreads) {
        if constexpr (kImport) reference[j] = j < head_dim ? beside[j] : 0;
        else beside[j] = reference[j];
    }
}

}  // namespace turboquant::cuda

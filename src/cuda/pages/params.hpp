// What one launch of the copying and converting kernels is handed: plain data, trusted. include/turboquant/cuda.hpp says what it means to
// users.
#pragma once

#include "core/page.hpp"
#include "cuda/overlay/tables.hpp"
#include "turboquant/cuda.hpp"

namespace turboquant::cuda {

struct Pages {
    std::uint8_t* data;
    std::int64_t page_stride, head_stride;  // bytes
};

struct CopyParams {
    Pages from, to;
    const std::int32_t* source;             // or null: page i
    const std::int32_t* destination;
    OverlayTables overlay;                  // of `to`, whose pages lose their slots
    std::int32_t kv_heads, blob_units;      // units of 16 bytes
    std::int32_t early;
};

struct ConvertParams {
    Pages pages, images;
    std::uint16_t* references;              // of rows, or null
    const std::int32_t* page_list;          // or null: page i
    const std::int32_t* image_list;
    OverlayTables overlay;                  // of an import's pages
    PageLayout layout;
    Layout images_are;
    std::int32_t kv_heads, early;
};

}  // namespace turboquant::cuda

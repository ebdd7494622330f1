// copy_pages(), export_pages(), import_pages(): judge the arguments, fill the params, launch.
#include "cuda/checks.hpp"
#include "cuda/launch.hpp"
#include "cuda/overlay/overlay.hpp"
#include "cuda/pages/kernel.cuh"

namespace turboquant::cuda {
namespace {

OverlayTables tables_of(const PagedCache& cache) { return has_overlay(cache) ? overlay_layout(cache.overlay).tables(cache.overlay.memory) : OverlayTables{}; }

Pages pages_of(const PagedCache& cache) { return {static_cast<std::uint8_t*>(cache.pages), cache.page_stride, cache.head_stride}; }

Status convert(const PagedCache& cache, const PageImages& images, const PageList& list, bool import, void* stream) {
    if (Status s = check_images(cache, images, list); !s.ok()) return s;
    if (list.num == 0) return {};
    ConvertParams p{};
    p.pages = pages_of(cache);
    p.images = {static_cast<std::uint8_t*>(images.data), images.page_stride, images.head_stride};
    p.references = static_cast<std::uint16_t*>(images.references);
    p.page_list = import ? list.destination : list.source;
    p.image_list = import ? list.source : list.destination;
    p.layout = page_layout(cache.spec);
    p.images_are = images.layout;
    if (import) p.overlay = tables_of(cache);
    p.kv_heads = cache.kv_heads;
    p.early = list.start != Start::after;
    void* arguments[] = {&p};
    const void* kernel = import ? reinterpret_cast<const void*>(&convert_kernel<true>) : reinterpret_cast<const void*>(&convert_kernel<false>);
    return launch(kernel, list.num * cache.kv_heads, kPagesThreads, 0, p.early, arguments, stream);
}

}  // namespace

Status copy_pages(const PagedCache& from, const PagedCache& to, const PageList& list, void* stream) {
    if (Status s = check_copy(from, to, list); !s.ok()) return s;
    if (list.num == 0) return {};
    CopyParams p{};
    p.from = pages_of(from);
    p.to = pages_of(to);
    p.source = list.source;
    p.destination = list.destination;
    p.overlay = tables_of(to);
    p.kv_heads = from.kv_heads;
    p.blob_units = static_cast<std::int32_t>(blob_bytes(from.spec) / 16);
    p.early = list.start != Start::after;
    void* arguments[] = {&p};
    return launch(reinterpret_cast<const void*>(&copy_kernel), list.num * from.kv_heads, kPagesThreads, 0, p.early, arguments, stream);
}

Status export_pages(const PagedCache& from, const PageImages& to, const PageList& list, void* stream) { return convert(from, to, list, false, stream); }
Status import_pages(const PageImages& from, const PagedCache& to, const PageList& list, void* stream) { return convert(to, from, list, true, stream); }

}  // namespace turboquant::cuda

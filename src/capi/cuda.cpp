// The C interface of the CUDA verbs: structs are completed, translated field by field, and messages copied. Nothing is decided here.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "turboquant/cuda.hpp"
#include "turboquant/turboquant.h"

namespace {

using turboquant::Status;
using turboquant::StatusCode;
namespace cuda = turboquant::cuda;

tq_status report(const Status& status, char* message, size_t message_size) {
    if (message && message_size > 0) {
        const size_t length = std::min(message_size - 1, status.message().size());
        std::memcpy(message, status.message().data(), length);
        message[length] = 0;
    }
    switch (status.code()) {
        case StatusCode::ok: return TQ_OK;
        case StatusCode::invalid_argument: return TQ_INVALID_ARGUMENT;
        case StatusCode::unsupported: return TQ_UNSUPPORTED;
        case StatusCode::out_of_memory: return TQ_OUT_OF_MEMORY;
        case StatusCode::corrupt: return TQ_CORRUPT;
    }
    return TQ_UNSUPPORTED;
}

// A struct of this header from one of any older header.
template <class T>
Status complete(const char* name, const T* given, T* whole) {
    if (!given) return turboquant::invalid_argument(std::string(name) + " is null");
    if (given->size < sizeof(size_t) || given->size > sizeof(T)) {
        return turboquant::invalid_argument(std::string(name) + ".size is " + std::to_string(given->size) + "; this library knows up to " + std::to_string(sizeof(T)));
    }
    std::memset(static_cast<void*>(whole), 0, sizeof(T));
    std::memcpy(static_cast<void*>(whole), given, given->size);
    return {};
}

Status translate(const tq_page_spec* given, cuda::PageSpec* spec) {
    tq_page_spec c;
    if (Status s = complete("spec", given, &c); !s.ok()) return s;
    spec->head_dim = c.head_dim;
    spec->key_bits = c.key_bits;
    spec->value_bits = c.value_bits;
    spec->centred_keys = c.centred_keys != 0;
    spec->gain_search = c.gain_search != 0;
    spec->trellis_codes = c.trellis_codes != 0;
    if (c.seed != 0) spec->seed = c.seed;
    if (c.key_estimator < 0 || c.key_estimator > 1) return turboquant::invalid_argument("key_estimator is " + std::to_string(c.key_estimator) + "; supported: TQ_MSE, TQ_PROD");
    if (c.sketch < 0 || c.sketch > 1) return turboquant::invalid_argument("sketch is " + std::to_string(c.sketch) + "; supported: TQ_GAUSSIAN, TQ_ORTHOGONAL");
    if (c.value_scheme < 0 || c.value_scheme > 1) return turboquant::invalid_argument("value_scheme is " + std::to_string(c.value_scheme) + "; supported: TQ_ROTATED, TQ_GROUP");
    spec->key_estimator = static_cast<turboquant::Estimator>(c.key_estimator);
    spec->sketch = static_cast<turboquant::Sketch>(c.sketch);
    spec->value_scheme = static_cast<turboquant::ValueScheme>(c.value_scheme);
    return cuda::validate(*spec);
}

Status translate(const tq_paged_cache* given, cuda::PagedCache* cache) {
    tq_paged_cache c;
    if (Status s = complete("cache", given, &c); !s.ok()) return s;
    cache->pages = c.pages;
    cache->page_stride = c.page_stride;
    cache->head_stride = c.head_stride;
    cache->kv_heads = c.kv_heads;
    if (c.overlay) {
        tq_overlay o;
        if (Status s = complete("overlay", c.overlay, &o); !s.ok()) return s;
        cache->overlay = {o.memory, o.num_slots, o.num_pages};
    }
    cache->sketch_table = c.sketch_table;
    return translate(c.spec, &cache->spec);
}

Status translate(const tq_attend_args* given, cuda::AttendArgs* args) {
    tq_attend_args c;
    if (Status s = complete("args", given, &c); !s.ok()) return s;
    args->batch = c.batch;
    args->query_heads = c.query_heads;
    args->num_queries = c.num_queries;
    args->window = c.window;
    args->query = c.query;
    args->output = c.output;
    args->query_number = static_cast<cuda::Number>(c.query_number);
    args->output_number = static_cast<cuda::Number>(c.output_number);
    args->query_token_stride = c.query_token_stride;
    args->query_head_stride = c.query_head_stride;
    args->output_token_stride = c.output_token_stride;
    args->output_head_stride = c.output_head_stride;
    args->log_sum = c.log_sum;
    args->lengths = c.lengths;
    args->block_table = c.block_table;
    args->query_start = c.query_start;
    args->sinks = c.sinks;
    args->table_stride = c.table_stride;
    args->start = static_cast<cuda::Start>(c.start);
    args->scale = c.scale;
    args->softcap = c.softcap;
    args->workspace = c.workspace;
    args->workspace_bytes = c.workspace_bytes;
    args->scratch = c.scratch;
    args->scratch_bytes = c.scratch_bytes;
    return {};
}

// What older headers have as padding, with whatever bytes, must not be read as a field.
static_assert(offsetof(tq_append_args, padding) == offsetof(tq_append_args, start) + 4 && offsetof(tq_append_args, rope_style) % 8 == 0);

Status translate(const tq_append_args* given, cuda::AppendArgs* args) {
    tq_append_args c;
    if (Status s = complete("args", given, &c); !s.ok()) return s;
    args->tokens = c.tokens;
    args->number = static_cast<cuda::Number>(c.number);
    args->keys = c.keys;
    args->values = c.values;
    args->key_token_stride = c.key_token_stride;
    args->key_head_stride = c.key_head_stride;
    args->value_token_stride = c.value_token_stride;
    args->value_head_stride = c.value_head_stride;
    args->slots = c.slots;
    args->query_start = c.query_start;
    args->lengths = c.lengths;
    args->block_table = c.block_table;
    args->batch = c.batch;
    args->table_stride = c.table_stride;
    args->start = static_cast<cuda::Start>(c.start);
    args->rope = {static_cast<cuda::RopeStyle>(c.rope_style), c.rotary_dim, c.rope_cosines, c.rope_sines, c.rope_position_stride, c.max_position, c.positions,
                  c.position_bytes == 0 ? 4 : c.position_bytes};
    return {};
}

Status translate(const tq_page_list* given, cuda::PageList* list) {
    tq_page_list c;
    if (Status s = complete("list", given, &c); !s.ok()) return s;
    list->num = c.num;
    list->source = c.source;
    list->destination = c.destination;
    list->start = static_cast<cuda::Start>(c.start);
    return {};
}

Status translate(const tq_page_images* given, cuda::PageImages* images) {
    tq_page_images c;
    if (Status s = complete("images", given, &c); !s.ok()) return s;
    images->layout = static_cast<cuda::Layout>(c.layout);
    images->data = c.data;
    images->page_stride = c.page_stride;
    images->head_stride = c.head_stride;
    images->references = c.references;
    return {};
}

}  // namespace

tq_status tq_blob_bytes(const tq_page_spec* spec, size_t* bytes, char* message, size_t message_size) {
    cuda::PageSpec translated;
    if (Status s = translate(spec, &translated); !s.ok()) return report(s, message, message_size);
    if (!bytes) return report(turboquant::invalid_argument("bytes is null"), message, message_size);
    *bytes = cuda::blob_bytes(translated);
    return report({}, message, message_size);
}

tq_status tq_sketch_table_bytes(const tq_page_spec* spec, size_t* bytes, char* message, size_t message_size) {
    cuda::PageSpec translated;
    if (Status s = translate(spec, &translated); !s.ok()) return report(s, message, message_size);
    if (!bytes) return report(turboquant::invalid_argument("bytes is null"), message, message_size);
    *bytes = cuda::sketch_table_bytes(translated);
    return report({}, message, message_size);
}

tq_status tq_fill_sketch_table(const tq_page_spec* spec, float* table, char* message, size_t message_size) {
    cuda::PageSpec translated;
    Status s = translate(spec, &translated);
    if (s.ok()) s = cuda::fill_sketch_table(translated, table);
    return report(s, message, message_size);
}

tq_status tq_attend_workspace(const tq_page_spec* spec, int32_t kv_heads, int32_t query_heads, int32_t num_queries, size_t* bytes, size_t* zeroed, char* message, size_t message_size) {
    cuda::PageSpec translated;
    if (Status s = translate(spec, &translated); !s.ok()) return report(s, message, message_size);
    if (!bytes || !zeroed) return report(turboquant::invalid_argument(!bytes ? "bytes is null" : "zeroed is null"), message, message_size);
    const auto workspace = cuda::attend_workspace(translated, kv_heads, query_heads, num_queries);
    if (!workspace.ok()) return report(workspace.status(), message, message_size);
    *bytes = workspace.value().bytes;
    *zeroed = workspace.value().zeroed;
    return report({}, message, message_size);
}

tq_status tq_attend(const tq_paged_cache* cache, const tq_attend_args* args, void* stream, char* message, size_t message_size) {
    cuda::PagedCache translated_cache;
    cuda::AttendArgs translated;
    Status s = translate(cache, &translated_cache);
    if (s.ok()) s = translate(args, &translated);
    if (s.ok()) s = cuda::attend(translated_cache, translated, stream);
    return report(s, message, message_size);
}

tq_status tq_prefill_workspace(const tq_page_spec* spec, size_t* bytes, char* message, size_t message_size) {
    cuda::PageSpec translated;
    if (Status s = translate(spec, &translated); !s.ok()) return report(s, message, message_size);
    if (!bytes) return report(turboquant::invalid_argument("bytes is null"), message, message_size);
    const auto workspace = cuda::prefill_workspace(translated);
    if (!workspace.ok()) return report(workspace.status(), message, message_size);
    *bytes = workspace.value().bytes;
    return report({}, message, message_size);
}

tq_status tq_prefill(const tq_paged_cache* cache, const tq_attend_args* args, void* stream, char* message, size_t message_size) {
    cuda::PagedCache translated_cache;
    cuda::AttendArgs translated;
    Status s = translate(cache, &translated_cache);
    if (s.ok()) s = translate(args, &translated);
    if (s.ok()) s = cuda::prefill(translated_cache, translated, stream);
    return report(s, message, message_size);
}

tq_status tq_overlay_memory(const tq_page_spec* spec, int32_t kv_heads, int32_t num_pages, int32_t num_slots, size_t* bytes, size_t* zeroed, char* message, size_t message_size) {
    cuda::PageSpec translated;
    if (Status s = translate(spec, &translated); !s.ok()) return report(s, message, message_size);
    if (!bytes || !zeroed) return report(turboquant::invalid_argument(!bytes ? "bytes is null" : "zeroed is null"), message, message_size);
    const auto memory = cuda::overlay_memory(translated, kv_heads, num_pages, num_slots);
    if (!memory.ok()) return report(memory.status(), message, message_size);
    *bytes = memory.value().bytes;
    *zeroed = memory.value().zeroed;
    return report({}, message, message_size);
}

tq_status tq_overlay_scratch(const tq_page_spec* spec, int32_t query_heads, int64_t tokens, size_t* bytes, char* message, size_t message_size) {
    cuda::PageSpec translated;
    if (Status s = translate(spec, &translated); !s.ok()) return report(s, message, message_size);
    if (!bytes) return report(turboquant::invalid_argument("bytes is null"), message, message_size);
    *bytes = cuda::overlay_scratch(translated, query_heads, tokens);
    return report({}, message, message_size);
}

tq_status tq_append(const tq_paged_cache* cache, const tq_append_args* args, void* stream, char* message, size_t message_size) {
    cuda::PagedCache translated_cache;
    cuda::AppendArgs translated;
    Status s = translate(cache, &translated_cache);
    if (s.ok()) s = translate(args, &translated);
    if (s.ok()) s = cuda::append(translated_cache, translated, stream);
    return report(s, message, message_size);
}

tq_status tq_image_bytes(const tq_page_spec* spec, tq_layout layout, size_t* bytes, char* message, size_t message_size) {
    cuda::PageSpec translated;
    if (Status s = translate(spec, &translated); !s.ok()) return report(s, message, message_size);
    if (layout != TQ_ROWS && layout != TQ_SIMD64) {
        return report(turboquant::invalid_argument("layout is " + std::to_string(layout) + "; supported: TQ_ROWS, TQ_SIMD64"), message, message_size);
    }
    if (!bytes) return report(turboquant::invalid_argument("bytes is null"), message, message_size);
    *bytes = cuda::image_bytes(translated, static_cast<cuda::Layout>(layout));
    return report({}, message, message_size);
}

tq_status tq_copy_pages(const tq_paged_cache* from, const tq_paged_cache* to, const tq_page_list* list, void* stream, char* message, size_t message_size) {
    cuda::PagedCache translated_from, translated_to;
    cuda::PageList translated;
    Status s = translate(from, &translated_from);
    if (s.ok()) s = translate(to, &translated_to);
    if (s.ok()) s = translate(list, &translated);
    if (s.ok()) s = cuda::copy_pages(translated_from, translated_to, translated, stream);
    return report(s, message, message_size);
}

tq_status tq_export_pages(const tq_paged_cache* from, const tq_page_images* to, const tq_page_list* list, void* stream, char* message, size_t message_size) {
    cuda::PagedCache translated_cache;
    cuda::PageImages images;
    cuda::PageList translated;
    Status s = translate(from, &translated_cache);
    if (s.ok()) s = translate(to, &images);
    if (s.ok()) s = translate(list, &translated);
    if (s.ok()) s = cuda::export_pages(translated_cache, images, translated, stream);
    return report(s, message, message_size);
}

tq_status tq_import_pages(const tq_page_images* from, const tq_paged_cache* to, const tq_page_list* list, void* stream, char* message, size_t message_size) {
    cuda::PagedCache translated_cache;
    cuda::PageImages images;
    cuda::PageList translated;
    Status s = translate(from, &images);
    if (s.ok()) s = translate(to, &translated_cache);
    if (s.ok()) s = translate(list, &translated);
    if (s.ok()) s = cuda::import_pages(images, translated_cache, translated, stream);
    return report(s, message, message_size);
}

tq_status tq_forget_pages(const tq_paged_cache* cache, const tq_page_list* list, void* stream, char* message, size_t message_size) {
    cuda::PagedCache translated_cache;
    cuda::PageList translated;
    Status s = translate(cache, &translated_cache);
    if (s.ok()) s = translate(list, &translated);
    if (s.ok()) s = cuda::forget_pages(translated_cache, translated, stream);
    return report(s, message, message_size);
}

const char* tq_status_name(tq_status status) {
    switch (status) {
        case TQ_OK: return "ok";
        case TQ_INVALID_ARGUMENT: return "invalid argument";
        case TQ_UNSUPPORTED: return "unsupported";
        case TQ_OUT_OF_MEMORY: return "out of memory";
        case TQ_CORRUPT: return "corrupt";
    }
    return "unknown status";
}

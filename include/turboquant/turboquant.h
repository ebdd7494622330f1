/* The C interface: attention and encoding on compressed pages in GPU memory. What arguments mean, their units and their limits are said
 * in turboquant/cuda.hpp, whose structs these are, field by field. Built with TQ_CUDA=ON.
 *
 * Every struct begins with `size`: set it to sizeof the struct you compiled against. A struct that is smaller than the library's (from an
 * older header) is completed with zeros, a larger one is refused.
 *
 * Calls enqueue one kernel or a few on `stream` (a cudaStream_t); they do not allocate, synchronise, print or abort. A status other than TQ_OK comes
 * with a message: the caller may pass a buffer for it, `message` of `message_size` bytes (or NULL, 0). It is cut to fit and ends with 0. */
#ifndef TURBOQUANT_H
#define TURBOQUANT_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define TQ_API __declspec(dllexport)
#else
#define TQ_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tq_status {
    TQ_OK = 0,
    TQ_INVALID_ARGUMENT = 1, /* the caller's mistake: which argument, what was given, what is supported */
    TQ_UNSUPPORTED = 2,      /* a sensible request that this build or machine cannot serve */
    TQ_OUT_OF_MEMORY = 3,
    TQ_CORRUPT = 4
} tq_status;

typedef enum tq_number { TQ_BF16 = 0, TQ_FP16 = 1, TQ_FP32 = 2 } tq_number;
typedef enum tq_start { TQ_AFTER = 0, TQ_OVERLAPPED = 1, TQ_OVERLAPPED_TABLES = 2 } tq_start;

typedef enum tq_estimator { TQ_MSE = 0, TQ_PROD = 1 } tq_estimator;
typedef enum tq_sketch { TQ_GAUSSIAN = 0, TQ_ORTHOGONAL = 1 } tq_sketch;
typedef enum tq_value_scheme { TQ_ROTATED = 0, TQ_GROUP = 1 } tq_value_scheme;

typedef struct tq_page_spec {
    size_t size;
    int32_t head_dim, key_bits, value_bits;
    int32_t centred_keys, gain_search, trellis_codes; /* 0 or 1 */
    uint64_t seed;                                    /* 0: the default one */
    int32_t key_estimator, sketch, value_scheme;      /* tq_estimator, tq_sketch, tq_value_scheme */
    int32_t reserved;                                 /* 0 */
} tq_page_spec;

typedef struct tq_overlay {
    size_t size;
    void* memory;                 /* tq_overlay_memory says how much */
    int32_t num_slots, num_pages; /* num_slots 0: no overlay */
} tq_overlay;

typedef struct tq_paged_cache {
    size_t size;
    const tq_page_spec* spec;
    void* pages;
    int64_t page_stride, head_stride; /* bytes */
    int32_t kv_heads;
    int32_t reserved;          /* 0 */
    const tq_overlay* overlay; /* NULL: none */
    const float* sketch_table; /* device; for TQ_PROD with TQ_GAUSSIAN, else not read */
} tq_paged_cache;

typedef struct tq_attend_args {
    size_t size;
    int32_t batch, query_heads, num_queries, window;
    const void* query;
    void* output;
    int32_t query_number, output_number; /* tq_number */
    int64_t query_token_stride, query_head_stride, output_token_stride, output_head_stride; /* numbers */
    float* log_sum;
    const int32_t* lengths;
    const int32_t* block_table;
    const int32_t* query_start;
    const float* sinks;
    int32_t table_stride, start; /* start: tq_start */
    float scale, softcap;
    void* workspace;
    size_t workspace_bytes;
    void* scratch; /* with an overlay only; tq_overlay_scratch */
    size_t scratch_bytes;
} tq_attend_args;

/* Rotary position embedding of keys, as a part of tq_append; turboquant/cuda.hpp (Rope) says what it computes. */
typedef enum tq_rope_style { TQ_ROPE_NONE = 0, TQ_ROPE_HALF_SPLIT = 1, TQ_ROPE_INTERLEAVED = 2 } tq_rope_style;

typedef struct tq_append_args {
    size_t size;
    int32_t tokens, number; /* number: tq_number */
    const void* keys;
    const void* values;
    int64_t key_token_stride, key_head_stride, value_token_stride, value_head_stride; /* numbers */
    const int64_t* slots;
    const int32_t* query_start;
    const int32_t* lengths;
    const int32_t* block_table;
    int32_t batch, table_stride, start; /* start: tq_start */
    int32_t padding;                    /* not read: older headers have padding here */
    int32_t rope_style;                 /* tq_rope_style; what follows is read unless it is TQ_ROPE_NONE */
    int32_t rotary_dim;                 /* even, 2 to head_dim */
    int32_t position_bytes;             /* of each entry of positions: 4 or 8; 0: 4 */
    int32_t reserved;                   /* 0 */
    const float* rope_cosines;          /* [max_position][rotary_dim / 2] */
    const float* rope_sines;
    int64_t rope_position_stride;       /* numbers, of both tables */
    int64_t max_position;
    const void* positions;              /* [tokens] int32_t or int64_t */
} tq_append_args;

typedef enum tq_layout { TQ_ROWS = 0, TQ_SIMD64 = 1 } tq_layout;

typedef struct tq_page_list {
    size_t size;
    const int32_t* source;
    const int32_t* destination;
    int32_t num, start; /* start: tq_start */
} tq_page_list;

typedef struct tq_page_images {
    size_t size;
    void* data;
    void* references;
    int64_t page_stride, head_stride; /* bytes */
    int32_t layout, reserved;         /* layout: tq_layout; reserved: 0 */
} tq_page_images;

/* Bytes of a blob of one (page, KV head). */
TQ_API tq_status tq_blob_bytes(const tq_page_spec* spec, size_t* bytes, char* message, size_t message_size);

/* The table of a Gaussian sketch: its bytes (0: the spec needs none), and the table in host memory, which the caller copies to the device. */
TQ_API tq_status tq_sketch_table_bytes(const tq_page_spec* spec, size_t* bytes, char* message, size_t message_size);
TQ_API tq_status tq_fill_sketch_table(const tq_page_spec* spec, float* table, char* message, size_t message_size);

/* Bytes of the workspace of tq_attend on the current device, and how many of its first ones must be zero before the first use. */
TQ_API tq_status tq_attend_workspace(const tq_page_spec* spec, int32_t kv_heads, int32_t query_heads, int32_t num_queries, size_t* bytes, size_t* zeroed, char* message,
                                     size_t message_size);

TQ_API tq_status tq_attend(const tq_paged_cache* cache, const tq_attend_args* args, void* stream, char* message, size_t message_size);

/* Attention of many query positions per sequence; the arguments are those of tq_attend, but the workspace is this one, and the output is aligned
 * to 16 bytes and its strides are multiples of 8. Enqueues two kernels. */
TQ_API tq_status tq_prefill_workspace(const tq_page_spec* spec, size_t* bytes, char* message, size_t message_size);
TQ_API tq_status tq_prefill(const tq_paged_cache* cache, const tq_attend_args* args, void* stream, char* message, size_t message_size);

/* Bytes of an exact overlay's memory, and how many of its first ones must be zero before the first use; bytes of the scratch that attention
 * needs beside it for so many query tokens. */
TQ_API tq_status tq_overlay_memory(const tq_page_spec* spec, int32_t kv_heads, int32_t num_pages, int32_t num_slots, size_t* bytes, size_t* zeroed, char* message, size_t message_size);
TQ_API tq_status tq_overlay_scratch(const tq_page_spec* spec, int32_t query_heads, int64_t tokens, size_t* bytes, char* message, size_t message_size);

TQ_API tq_status tq_append(const tq_paged_cache* cache, const tq_append_args* args, void* stream, char* message, size_t message_size);

/* Bytes of one (page, KV head) in another layout. */
TQ_API tq_status tq_image_bytes(const tq_page_spec* spec, tq_layout layout, size_t* bytes, char* message, size_t message_size);
TQ_API tq_status tq_copy_pages(const tq_paged_cache* from, const tq_paged_cache* to, const tq_page_list* list, void* stream, char* message, size_t message_size);
TQ_API tq_status tq_export_pages(const tq_paged_cache* from, const tq_page_images* to, const tq_page_list* list, void* stream, char* message, size_t message_size);
TQ_API tq_status tq_import_pages(const tq_page_images* from, const tq_paged_cache* to, const tq_page_list* list, void* stream, char* message, size_t message_size);

/* Pages list->destination were replaced by other means than these functions: they lose their slots in the cache's overlay. */
TQ_API tq_status tq_forget_pages(const tq_paged_cache* cache, const tq_page_list* list, void* stream, char* message, size_t message_size);

/* "ok", "invalid argument", ...: never NULL. */
TQ_API const char* tq_status_name(tq_status status);

#ifdef __cplusplus
}
#endif

#endif /* TURBOQUANT_H */

/* The llama.cpp plug-in's own C interface: static registration, policy and statistics.
 *
 * A program that links the plug-in's objects registers it with ggml_backend_register(tq_ggml_reg()).
 * A program that loaded libggml-turboquant.so finds the other functions by name through
 * ggml_backend_reg_get_proc_address(reg, "tq_ggml_set_policy"), and so on.
 * Nothing here throws, aborts or prints. All functions are thread-safe, but tq_ggml_get_stats reads caches: call it while no
 * context of this process computes.
 */
#ifndef TURBOQUANT_GGML_H
#define TURBOQUANT_GGML_H

#include <stddef.h>
#include <stdint.h>

#include "ggml-backend.h"

#if defined(__GNUC__)
#define TQ_GGML_API __attribute__((visibility("default")))
#else
#define TQ_GGML_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The registry entry: one device, "TQ0". Never NULL. */
TQ_GGML_API ggml_backend_reg_t tq_ggml_reg(void);

/* Sets what caches created from now on use; overrides TQ_PRESET and TQ_LAYERS.
 * preset: a name from `turboquant info`, or NULL for the environment's (default k4v4).
 * layers: a TQ_LAYERS text such as "0=k8v4,5-7=f16", or NULL for the environment's.
 * Returns 0, or -1 when a text cannot be used; then *message (if not NULL) points to the reason
 * (valid until this thread's next call) and nothing has changed. */
TQ_GGML_API int tq_ggml_set_policy(const char * preset, const char * layers, const char ** message);

/* Sums over every live cache tensor of this process. Bytes are what the process holds for the cache now. */
struct tq_ggml_stats {
    uint64_t size;             /* sizeof(struct tq_ggml_stats), set by the caller */
    uint64_t elements;         /* K and V numbers in cells that have been written */
    uint64_t resident_bytes;   /* pages resident in the cache's mappings, and its bookkeeping: everything */
    uint64_t coded_bytes;      /* of these: codes, scales and key references of sealed tiles */
    uint64_t exact_bytes;      /* of these: open tiles, the tail and the sinks, in f16 */
    uint64_t plain_bytes;      /* of these: tensors that fell back to plain f16 */
    uint64_t f16_bytes;        /* what an f16 cache holds for the same written cells */
    uint64_t full_elements;       /* elements and resident_bytes of the tensors with the most cells only: all of them, or */
    uint64_t full_resident_bytes; /* those that attend to everything where others have a sliding window */
    uint32_t packed_tensors;   /* cache tensors kept in codes */
    uint32_t plain_tensors;    /* cache tensors kept in plain f16, by choice or by fall-back */
    uint32_t wide_key_layers;  /* layers whose keys were given 8 bits automatically */
    uint32_t noisy_key_layers; /* layers that would need 8-bit keys and whose preset has none: their output is likely wrong */
};

/* Fills *stats; returns 0, or -1 when stats is NULL or its size is unknown. */
TQ_GGML_API int tq_ggml_get_stats(struct tq_ggml_stats * stats);

/* One live cache tensor: the keys or the values of a layer. */
struct tq_ggml_tensor {
    uint64_t size;             /* sizeof(struct tq_ggml_tensor), set by the caller */
    int64_t  cells;            /* of all its streams */
    double   logit_noise;      /* of attention's logits with the preset's key bits, before keys were widened; 0: not known (yet) */
    int32_t  layer;
    int32_t  is_values;        /* 0: keys */
    int32_t  state;            /* 0: nothing attended yet, 1: kept in codes, 2: plain f16 */
    int32_t  num_kv_heads;     /* 0 unless in codes */
    int32_t  head_dim;         /* 0 unless in codes */
    int32_t  bits;             /* per code; 0 unless in codes */
};

/* Fills *tensor with the index-th one, in the order in which they were created; returns 0, or -1 when there are no more, or tensor
 * is NULL or its size is unknown. As tq_ggml_get_stats, it reads caches. */
TQ_GGML_API int tq_ggml_get_tensor(uint32_t index, struct tq_ggml_tensor * tensor);

#ifdef __cplusplus
}
#endif

#endif

/* Stands in for the engine's header where none is given: turboquant_ggml.h must compile as C anyway. */
#ifndef TQ_STAND_IN_GGML_BACKEND_H
#define TQ_STAND_IN_GGML_BACKEND_H
typedef struct ggml_backend_reg * ggml_backend_reg_t;
#endif

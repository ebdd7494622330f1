// Running a graph: the engine's CPU backend computes it, on its own threads; the nodes that touch a packed cache are exchanged
// for custom operations of ours while it does.
#pragma once

#include <memory>

#include "ggml-backend-impl.h"

namespace turboquant::ggml {

// How a node uses caches.
enum class NodeUse {
    none,       // no cache of ours, or only a view of one
    write,      // SET_ROWS of whole rows into a packed cache
    attend,     // FLASH_ATTN_EXT over two packed caches
    in_place,   // ROPE of a packed cache onto itself
    foreign,    // anything else: the caches involved have to be plain f16
};

// Looks at a node, and fixes head sizes as attention reveals them.
NodeUse classify(const ggml_tensor* node);

// Makes every cache that the node touches plain f16.
void make_plain(const ggml_tensor* node);

class GraphRunner {
public:
    explicit GraphRunner(ggml_backend_t inner);
    ~GraphRunner();
    ggml_status run(ggml_cgraph* graph);
    ggml_backend_t inner() const { return inner_; }

private:
    struct Scratch;
    ggml_status run_exchanged(ggml_cgraph* graph);
    ggml_status run_in_pieces(ggml_cgraph* graph);

    ggml_backend_t inner_;
    std::unique_ptr<Scratch> scratch_;
};

}  // namespace turboquant::ggml

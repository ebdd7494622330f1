#include "graph.hpp"

#include <cmath>
#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "cache_tensor.hpp"
#include "log.hpp"
#include "report.hpp"
#include "turboquant/cache.hpp"

namespace turboquant::ggml {
namespace {

bool is_view_op(const ggml_tensor* node) {
    return node->op == GGML_OP_NONE || node->op == GGML_OP_VIEW || node->op == GGML_OP_RESHAPE || node->op == GGML_OP_PERMUTE ||
           node->op == GGML_OP_TRANSPOSE;
}

bool is_packed(const CacheTensor* cache) { return cache && cache->state() == CacheTensor::State::packed; }

// Whole heads of consecutive cells, as the engine's get_k and get_v make them.
bool is_cache_view(const CacheTensor& cache, const ggml_tensor* view) {
    const ggml_tensor* root = cache.root();
    const auto offset = static_cast<std::size_t>(static_cast<const char*>(view->data) - static_cast<const char*>(root->data));
    return view->type == GGML_TYPE_F16 && view->nb[1] == root->nb[1] && (view->ne[2] == 1 || view->nb[2] == view->ne[0] * sizeof(std::uint16_t)) &&
           view->ne[0] * view->ne[2] == root->ne[0] && (view->ne[3] == 1 || view->nb[3] == root->nb[2]) && (root->data == nullptr || offset % root->nb[2] == 0);
}

// Fixes both caches' head sizes. False when this attention cannot run on codes.
bool attention_on_codes(const ggml_tensor* node) {
    const ggml_tensor *q = node->src[0], *k = node->src[1], *v = node->src[2], *mask = node->src[3];
    CacheTensor *keys = find_cache_tensor(k), *values = find_cache_tensor(v);
    if (!keys || !values || keys == values || keys->side() != CacheSide::keys || values->side() != CacheSide::values) return false;
    if (q->type != GGML_TYPE_F32 || node->type != GGML_TYPE_F32 || q->nb[0] != sizeof(float)) return false;
    if (mask && (mask->type != GGML_TYPE_F16 || (mask->ne[2] != 1 && mask->ne[2] != q->ne[2]))) return false;
    if (!is_cache_view(*keys, k) || !is_cache_view(*values, v) || k->ne[2] != v->ne[2] || q->ne[2] % k->ne[2] != 0) return false;
    if (!keys->packs(static_cast<int>(k->ne[0])) || !values->packs(static_cast<int>(v->ne[0]))) return false;
    keys->use_head_dim(static_cast<int>(k->ne[0]));
    values->use_head_dim(static_cast<int>(v->ne[0]));
    return is_packed(keys) && is_packed(values);
}

bool is_row_write(const ggml_tensor* node) {
    const CacheTensor* cache = find_cache_tensor(node);
    const ggml_tensor *rows = node->src[0], *cells = node->src[1];
    return cache && node->ne[0] == cache->root()->ne[0] && rows->type == GGML_TYPE_F32 && cells->type == GGML_TYPE_I64 && rows->nb[0] == sizeof(float) &&
           rows->ne[2] == 1 && rows->ne[3] == 1 && node->data == cache->root()->data;
}

// Everything about one exchanged node.
struct Exchange {
    ggml_tensor* original;
    CacheTensor *keys = nullptr, *values = nullptr;  // for a write: the one in `keys`
    AttentionArgs args;
    std::vector<float> slopes;
    Team* team;
    AttentionScratch* scratch;
};

void compute_write(ggml_tensor*, int index, int num_threads, void* data) {
    const Exchange& x = *static_cast<Exchange*>(data);
    const ggml_tensor *rows = x.original->src[0], *cells = x.original->src[1];
    x.keys->store()->write({x.team, index, num_threads}, static_cast<const float*>(rows->data), rows->nb[1] / sizeof(float),
                           static_cast<const std::int64_t*>(cells->data), static_cast<int>(rows->ne[1]));
}

void compute_attend(ggml_tensor*, int index, int num_threads, void* data) {
    const Exchange& x = *static_cast<Exchange*>(data);
    attend({x.team, index, num_threads}, *x.keys->store(), *x.values->store(), x.args, *x.scratch);
}

// Slopes of ALiBi as ggml defines them; empty without.
std::vector<float> alibi_slopes(float max_bias, int num_heads) {
    if (max_bias <= 0) return {};
    const auto power = static_cast<float>(1u << static_cast<unsigned>(std::floor(std::log2(num_heads))));
    const float m0 = std::pow(2.0f, -max_bias / power), m1 = std::pow(2.0f, -max_bias / 2 / power);
    std::vector<float> slopes;
    for (int h = 0; h < num_heads; ++h) {
        slopes.push_back(static_cast<float>(h) < power ? std::pow(m0, static_cast<float>(h + 1)) : std::pow(m1, 2 * (static_cast<float>(h) - power) + 1));
    }
    return slopes;
}

void describe_attention(Exchange& x) {
    const ggml_tensor *node = x.original, *q = node->src[0], *k = node->src[1], *mask = node->src[3], *sinks = node->src[4];
    float parameters[3];
    std::memcpy(parameters, node->op_params, sizeof parameters);
    const auto [scale, max_bias, softcap] = parameters;
    AttentionArgs& a = x.args;
    a.num_queries = static_cast<int>(q->ne[1]);
    a.num_heads = static_cast<int>(q->ne[2]);
    a.num_streams = static_cast<int>(q->ne[3]);
    const auto offset = static_cast<std::size_t>(static_cast<const char*>(k->data) - static_cast<const char*>(x.keys->root()->data));
    a.first_stream = static_cast<int>(offset / x.keys->root()->nb[2]);
    a.num_cells = k->ne[1];
    a.query = static_cast<const float*>(q->data);
    a.query_stride = q->nb[1] / sizeof(float);
    a.query_head_stride = q->nb[2] / sizeof(float);
    a.query_stream_stride = q->nb[3] / sizeof(float);
    if (mask) {
        a.mask = static_cast<const std::uint16_t*>(mask->data);
        a.mask_stride = mask->nb[1] / 2;
        a.mask_head_stride = mask->ne[2] == 1 ? 0 : mask->nb[2] / 2;
        a.mask_stream_stride = mask->ne[3] == 1 ? 0 : mask->nb[3] / 2;
    }
    x.slopes = alibi_slopes(max_bias, a.num_heads);
    a.slopes = x.slopes.empty() ? nullptr : x.slopes.data();
    a.sinks = sinks ? static_cast<const float*>(sinks->data) : nullptr;
    a.scale = scale;
    a.softcap = softcap;
    a.out = static_cast<float*>(node->data);
    a.out_stride = node->nb[1] / sizeof(float);
    a.out_query_stride = node->nb[2] / sizeof(float);
    a.out_stream_stride = node->nb[3] / sizeof(float);
}

}  // namespace

NodeUse classify(const ggml_tensor* node) {
    if (is_view_op(node)) return NodeUse::none;
    bool touches = is_packed(find_cache_tensor(node));
    bool undecided = false;
    const auto look = [&](const ggml_tensor* tensor) {
        const CacheTensor* cache = tensor ? find_cache_tensor(tensor) : nullptr;
        touches |= is_packed(cache);
        undecided |= cache && cache->state() == CacheTensor::State::undecided;
    };
    look(node);
    for (const ggml_tensor* source : node->src) look(source);
    if (!touches && !undecided) return NodeUse::none;
    switch (node->op) {
        case GGML_OP_SET_ROWS: return is_row_write(node) ? NodeUse::write : NodeUse::foreign;
        case GGML_OP_FLASH_ATTN_EXT: return attention_on_codes(node) ? NodeUse::attend : NodeUse::foreign;
        case GGML_OP_ROPE: return find_cache_tensor(node) && find_cache_tensor(node) == find_cache_tensor(node->src[0]) ? NodeUse::in_place : NodeUse::foreign;
        default: return NodeUse::foreign;
    }
}

void make_plain(const ggml_tensor* node) {
    const auto is_plain = [](const ggml_tensor* tensor) {
        const CacheTensor* cache = tensor ? find_cache_tensor(tensor) : nullptr;
        return cache && cache->state() == CacheTensor::State::plain;
    };
    const bool partner_is_plain = node->op == GGML_OP_FLASH_ATTN_EXT && (is_plain(node->src[1]) || is_plain(node->src[2]));
    const auto plain = [&](const ggml_tensor* tensor) {
        CacheTensor* cache = tensor ? find_cache_tensor(tensor) : nullptr;
        if (!cache) return;
        std::string why = std::string("the model reads it with ") + ggml_op_name(node->op);
        if (partner_is_plain) {
            why.clear();
        } else if (node->op == GGML_OP_FLASH_ATTN_EXT) {
            why = "no codes for attention with key heads of " + std::to_string(node->src[1]->ne[0]) + " and value heads of " + std::to_string(node->src[2]->ne[0]);
        } else if (node->op == GGML_OP_SET_ROWS || node->op == GGML_OP_MUL_MAT) {
            why = "flash attention is off, so that the model does not read whole rows; turn it on with -fa on";
        }
        cache->become_plain(why);
    };
    plain(node);
    for (const ggml_tensor* source : node->src) plain(source);
}

struct GraphRunner::Scratch {
    ggml_context* context = nullptr;
    std::size_t capacity = 0;
    std::deque<Exchange> exchanges;
    Team team;
    AttentionScratch attention;

    // A context for this many tensors and a graph of them; what was in it before is gone.
    ggml_context* fresh(std::size_t tensors) {
        if (tensors > capacity) {
            if (context) ggml_free(context);
            capacity = tensors;
            context = ggml_init({ggml_tensor_overhead() * tensors + ggml_graph_overhead_custom(tensors, false), nullptr, true});
        } else {
            ggml_reset(context);
        }
        return context;
    }
    ~Scratch() {
        if (context) ggml_free(context);
    }
};

GraphRunner::GraphRunner(ggml_backend_t inner) : inner_(inner), scratch_(std::make_unique<Scratch>()) {}
GraphRunner::~GraphRunner() { ggml_backend_free(inner_); }

ggml_status GraphRunner::run(ggml_cgraph* graph) {
    report_placement();
    bool in_place = false;
    const int num_nodes = ggml_graph_n_nodes(graph);
    // Attention first: it tells the head sizes that the writes before it need.
    for (int i = 0; i < num_nodes; ++i) {
        if (ggml_graph_node(graph, i)->op == GGML_OP_FLASH_ATTN_EXT) classify(ggml_graph_node(graph, i));
    }
    for (int i = 0; i < num_nodes; ++i) {
        const ggml_tensor* node = ggml_graph_node(graph, i);
        NodeUse use = classify(node);
        const CacheTensor* target = use == NodeUse::write ? find_cache_tensor(node) : nullptr;
        if (target && !is_packed(target)) use = NodeUse::foreign;  // written, and nothing told its head size
        if (use == NodeUse::foreign) make_plain(node);
        in_place |= use == NodeUse::in_place;
    }
    const ggml_status status = in_place ? run_in_pieces(graph) : run_exchanged(graph);
    report_progress();
    return status;
}

ggml_status GraphRunner::run_exchanged(ggml_cgraph* graph) {
    Scratch& s = *scratch_;
    ggml_tensor** nodes = ggml_graph_nodes(graph);
    const int num_nodes = ggml_graph_n_nodes(graph);
    s.exchanges.clear();
    std::vector<std::pair<int, ggml_tensor*>> restore;
    ggml_context* context = s.fresh(static_cast<std::size_t>(num_nodes) + 1);
    for (int i = 0; i < num_nodes; ++i) {
        const NodeUse use = classify(nodes[i]);
        if (use != NodeUse::write && use != NodeUse::attend) continue;
        Exchange& x = s.exchanges.emplace_back();
        x.original = nodes[i];
        x.team = &s.team;
        x.scratch = &s.attention;
        x.keys = find_cache_tensor(use == NodeUse::write ? nodes[i] : nodes[i]->src[1]);
        if (use == NodeUse::attend) {
            x.values = find_cache_tensor(nodes[i]->src[2]);
            describe_attention(x);
        }
        ggml_tensor* custom = ggml_custom_inplace(context, nodes[i], nullptr, 0, use == NodeUse::write ? compute_write : compute_attend, GGML_N_TASKS_MAX, &x);
        custom->flags = nodes[i]->flags;
        custom->buffer = nodes[i]->buffer;
        restore.emplace_back(i, nodes[i]);
        nodes[i] = custom;
    }
    const ggml_status status = ggml_backend_graph_compute(inner_, graph);
    for (const auto& [i, node] : restore) nodes[i] = node;
    return status;
}

// For graphs that change a packed cache in place (context shift): each such node runs alone, on the decoded rows.
ggml_status GraphRunner::run_in_pieces(ggml_cgraph* graph) {
    const int num_nodes = ggml_graph_n_nodes(graph);
    ggml_context* context = scratch_->fresh(static_cast<std::size_t>(num_nodes) + 1);
    std::vector<ggml_tensor*> pending;
    const auto flush = [&]() {
        if (pending.empty()) return GGML_STATUS_SUCCESS;
        ggml_reset(context);
        ggml_cgraph* piece = ggml_new_graph_custom(context, pending.size(), false);
        for (ggml_tensor* node : pending) ggml_graph_add_node(piece, node);
        pending.clear();
        return ggml_backend_graph_compute(inner_, piece);
    };
    for (int i = 0; i < num_nodes; ++i) {
        ggml_tensor* node = ggml_graph_node(graph, i);
        const NodeUse use = classify(node);
        if (use == NodeUse::none) {
            pending.push_back(node);
            continue;
        }
        if (const ggml_status status = flush(); status != GGML_STATUS_SUCCESS) return status;
        if (use != NodeUse::in_place) {
            log_line(GGML_LOG_LEVEL_ERROR, "a graph both shifts and reads the cache (%s); please report this with the model's name", ggml_op_name(node->op));
            return GGML_STATUS_FAILED;
        }
        CacheTensor* cache = find_cache_tensor(node);
        cache->lay_out();
        pending.push_back(node);
        const ggml_status status = flush();
        cache->take_back();
        if (status != GGML_STATUS_SUCCESS) return status;
    }
    return flush();
}

}  // namespace turboquant::ggml

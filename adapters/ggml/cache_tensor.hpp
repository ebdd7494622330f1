// One cache tensor of the engine (cache_k_l7, cache_v_l7, ...) and how it is kept.
//
// A tensor starts undecided: the engine allocates [row numbers, cells, streams] and does not say what a head is. The first
// attention that names it gives the head size; then it becomes packed (a TileStore) or plain f16 in its own addresses.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ggml.h"
#include "turboquant/cache.hpp"

namespace turboquant::ggml {

class CacheTensor {
public:
    CacheTensor(ggml_tensor* root, int layer, CacheSide side, const Spec* wanted);
    ~CacheTensor();

    enum class State { undecided, packed, plain };
    State state() const { return state_; }
    TileStore* store() const { return store_.get(); }
    ggml_tensor* root() const { return root_; }
    int layer() const { return layer_; }
    CacheSide side() const { return side_; }
    int num_kv_heads() const { return static_cast<int>(root_->ne[0]) / head_dim_; }

    // Decides for codes with this head size, if that is possible; otherwise the tensor becomes plain, with one line that says why.
    void use_head_dim(int head_dim);
    // Whether use_head_dim would (or did) give codes.
    bool packs(int head_dim) const;
    // Plain f16 from now on; what is packed is decoded into the tensor's own addresses first.
    void become_plain(const std::string& why);

    // Bytes of the tensor as the engine sees it: f16, [row, cell, stream], from byte offset on.
    void get(void* data, std::size_t offset, std::size_t size) const;
    void set(const void* data, std::size_t offset, std::size_t size);
    void fill(std::uint8_t value, std::size_t offset, std::size_t size);
    void clear(std::uint8_t value);
    // A whole stream onto another one of the same tensor.
    void copy_stream(int from, int to);

    // Decodes everything into the tensor's own addresses; take_back() writes the rows that have changed since, and gives the memory back.
    void lay_out();
    void take_back();

    StoreUsage usage() const;  // of a plain tensor: pages of its own addresses
    std::size_t row_bytes() const { return root_->nb[1]; }

private:
    std::uint8_t* bytes() const { return static_cast<std::uint8_t*>(root_->data); }
    void release_own_pages();

    ggml_tensor* root_;
    int layer_;
    CacheSide side_;
    bool wanted_;
    Spec spec_;
    int head_dim_ = 1;
    State state_ = State::undecided;
    std::unique_ptr<TileStore> store_;
    std::int64_t written_rows_ = 0;  // of a plain or undecided tensor: one past the last row set
};

// The cache tensor that this tensor is or is a view of, if it lies in one of our buffers; null otherwise.
CacheTensor* find_cache_tensor(const ggml_tensor* tensor);
// Whether a root's name is that of a cache of keys or values; its layer and side.
bool parse_cache_name(const char* name, int& layer, CacheSide& side);

}  // namespace turboquant::ggml

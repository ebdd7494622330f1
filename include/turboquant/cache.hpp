// The cache of one layer on the CPU: where open tiles, the exact tail, sealing, sinks and memory accounting live.
//
// A TileStore holds one side (keys or values) of one layer: num_streams x cells_per_stream cells of num_kv_heads x head_dim
// numbers. Cells are written in any order, any number of times; 64 neighbouring cells of a stream are a tile.
// A tile is empty, open (binary16 rows) or sealed (codes). The newest tiles stay open; attention reads both kinds.
//
// Verbs that take a Worker are called by every thread of a team together, like an OpenMP region; they meet at the
// team's barrier inside. All others are called by one thread while no verb runs.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "turboquant/spec.hpp"
#include "turboquant/status.hpp"

namespace turboquant {

// Where the threads that run a verb together meet. Reusable; the caller brings the threads.
class Team {
public:
    void wait(int num_threads);  // until that many threads are here

private:
    std::atomic<int> arrived_{0};
    std::atomic<int> generation_{0};
};

// One of the threads.
struct Worker {
    Team* team;
    int index;  // 0 .. num_threads - 1
    int num_threads;
    void wait() const { team->wait(num_threads); }
};

enum class CacheSide : std::uint8_t { keys, values };

struct StoreShape {
    CacheSide side = CacheSide::keys;
    int num_kv_heads = 1;
    std::int64_t cells_per_stream = 0;
    int num_streams = 1;
};

// The logit noise above which keys take 8 bits (src/core/noise.hpp).
double wide_key_noise();

// Bytes and numbers of one store, as they are now.
struct StoreUsage {
    std::uint64_t elements = 0;        // numbers in cells that have been written
    std::uint64_t resident_bytes = 0;  // pages in memory plus bookkeeping: everything
    std::uint64_t coded_bytes = 0;     // of sealed tiles
    std::uint64_t exact_bytes = 0;     // of open tiles, sinks and kept keys
    std::uint64_t kept_keys = 0;       // keys (per KV head) that stay exact in sealed tiles
};

class TileStore {
public:
    // spec.head_dim is this side's. Errors: an invalid spec, a shape without cells or heads, no address space.
    static Result<std::unique_ptr<TileStore>> create(const Spec& spec, const StoreShape& shape);
    ~TileStore();

    const Spec& spec() const;
    const StoreShape& shape() const;
    int bits() const;           // stored now: spec's, or 8 for keys that were widened
    bool widened() const;       // keys took 8 bits because of their logit noise
    // Standard deviation of what coding these keys with spec's bits adds to a logit, judged from the keys and queries that are there
    // when the first tile leaves the tail. 0 before that, for values, and without a tail, where rows are coded before any query.
    double logit_noise() const;
    bool noisy() const;         // it is above wide_key_noise(), and spec allows no 8-bit keys: expect wrong output

    // Writes num_rows rows of num_kv_heads * head_dim floats, row_stride floats apart, to cells[i] (stream * cells_per_stream + cell).
    // A cell out of range is ignored.
    void write(Worker worker, const float* rows, std::size_t row_stride, const std::int64_t* cells, int num_rows);

    // Seals the tiles that are no longer among the newest. Keys whose width is not decided yet wait for attend().
    void seal(Worker worker);

    // One thread's variants, on binary16 rows (num_kv_heads * head_dim numbers each, contiguous). Unwritten cells read as zero.
    void read_rows(std::int64_t first_cell, std::int64_t num_rows, std::uint16_t* rows) const;
    void write_rows(std::int64_t first_cell, std::int64_t num_rows, const std::uint16_t* rows);

    // Makes stream `to` hold what stream `from` holds, codes and all.
    void copy_stream(int from, int to);
    void clear();

    StoreUsage usage() const;

    // Exponents of a KV head's key channels (docs/format.md); empty when keys are not balanced, or not yet.
    std::span<const std::int8_t> balance(int kv_head) const;

    // Channels of a KV head that Spec::outlier_split codes apart, ascending; empty without it, or not yet.
    std::span<const std::uint16_t> outliers(int kv_head) const;

    // The sealed blob of a tile (simd64 layout or 64 records, docs/format.md) and KV head; empty when the tile is not sealed.
    std::span<const std::uint8_t> sealed_blob(int stream, std::int64_t tile, int kv_head) const;

    // Rows of a sealed tile whose keys stay exact (Spec::kept_keys), as a bit mask; 0 when the tile is not sealed.
    std::uint64_t kept_rows(int stream, std::int64_t tile, int kv_head) const;

    struct Impl;
    Impl& impl() const { return *impl_; }

private:
    explicit TileStore(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// What one attention call reads beside the caches. Strides are in elements. H = num_heads (a multiple of the KV heads),
// N = num_queries, S = num_streams.
struct AttentionArgs {
    int num_queries = 1;
    int num_heads = 1;
    int num_streams = 1;
    int first_stream = 0;
    std::int64_t num_cells = 0;        // cells of each stream that may be attended to
    const float* query = nullptr;      // [S][H][N][key head_dim]
    std::size_t query_stride = 0, query_head_stride = 0, query_stream_stride = 0;
    const std::uint16_t* mask = nullptr;  // binary16 [S][H or 1][N][num_cells], added to the scores times slope; may be null
    std::size_t mask_stride = 0, mask_head_stride = 0, mask_stream_stride = 0;
    const float* slopes = nullptr;     // [H] ALiBi slopes; null: 1
    const float* sinks = nullptr;      // [H] extra logits that take weight but have no value; may be null
    float scale = 1;                   // of q . k
    float softcap = 0;                 // 0: none
    float* out = nullptr;              // [S][N][H][value head_dim]
    std::size_t out_stride = 0, out_query_stride = 0, out_stream_stride = 0;  // from head to head, query to query, stream to stream
};

// Scratch memory of attend(), kept between calls.
class AttentionScratch {
public:
    AttentionScratch();
    ~AttentionScratch();
    struct Impl;
    Impl& impl() { return *impl_; }

private:
    std::unique_ptr<Impl> impl_;
};

// Attention of all queries over both stores, straight on the codes; then seals what is no longer among the newest.
// A row whose mask hides every cell gives zeros.
void attend(Worker worker, TileStore& keys, TileStore& values, const AttentionArgs& args, AttentionScratch& scratch);


}  // namespace turboquant

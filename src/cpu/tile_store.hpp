// Inside of a TileStore: tiles, their states, and the steps that change them.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "core/scheme.hpp"
#include "cpu/arena.hpp"
#include "cpu/kept_keys.hpp"
#include "cpu/tile_codec.hpp"
#include "turboquant/cache.hpp"

namespace turboquant {

// Tiles per stream, oldest first, whose rows are looked at when something about a layer is decided.
inline constexpr std::size_t kMostDecidingTiles = 16;

// Working memory of the calling thread, for all stores: one per store and thread would outweigh a short cache.
cpu::CodecScratch& thread_codec_scratch();

struct TileStore::Impl {
    static constexpr std::uint32_t kNone = 0xffffffff;

    // open_slot and sealed_slot may both be taken: a tile that was sealed and then written to keeps its codes, so that the
    // rows that did not change get the very same ones when it is sealed again.
    struct Tile {
        std::uint64_t written = 0;  // rows ever written
        std::uint64_t dirty = 0;    // rows written since the tile was opened
        std::uint32_t open_slot = kNone;
        std::uint32_t sealed_slot = kNone;
        bool is_open() const { return open_slot != kNone; }
        bool is_sealed() const { return sealed_slot != kNone && !is_open(); }
        bool is_empty() const { return open_slot == kNone && sealed_slot == kNone; }
    };

    Impl(const Spec& spec, const StoreShape& shape);

    std::int64_t tiles_per_stream() const { return (shape.cells_per_stream + kTileTokens - 1) / kTileTokens; }
    std::int64_t num_cells() const { return shape.cells_per_stream * shape.num_streams; }
    std::size_t tile_index(int stream, std::int64_t tile) const { return static_cast<std::size_t>(stream * tiles_per_stream() + tile); }
    int rows_in_tile(std::int64_t tile) const;  // 64, or fewer in a stream's last tile
    std::size_t row_numbers() const { return static_cast<std::size_t>(shape.num_kv_heads) * spec.head_dim; }

    std::uint16_t* open_rows(const Tile& tile) const { return reinterpret_cast<std::uint16_t*>(open.at(tile.open_slot)); }
    std::uint8_t* blob(const Tile& tile, int kv_head) const { return sealed.at(tile.sealed_slot) + kv_head * blob_bytes; }
    std::uint16_t* sink_rows(int stream) { return sink_storage.data() + static_cast<std::size_t>(stream) * spec.sink_tokens * row_numbers(); }
    std::uint64_t sink_mask(std::size_t index) const;  // rows of this tile that are sinks

    bool decide(int bits);  // fixes the stored width; until then nothing is sealed. False: no address space
    void set_balance(int kv_head, const std::vector<std::int8_t>& exponents);
    cpu::BalanceFactors balance_of(int kv_head) const;

    void open_tile(std::size_t index, std::uint64_t about_to_write);
    void discard(std::size_t index);
    void touch(std::size_t index);           // among the newest of its stream from now on
    void plan_write(const std::int64_t* cells, int num_rows);
    bool keeps_keys() const { return shape.side == CacheSide::keys && spec.kept_keys > 0 && codec.coder().bits <= kMostKeptBits; }
    KeptKeys& kept_of(std::size_t index, int kv_head) { return kept[index * shape.num_kv_heads + kv_head]; }
    const KeptKeys& kept_of(std::size_t index, int kv_head) const { return kept[index * shape.num_kv_heads + kv_head]; }
    void forget_kept(std::size_t index);     // of all heads
    void choose_kept(std::size_t index, int kv_head);
    std::uint64_t off_codewords(const std::vector<std::uint16_t>& decoded, const std::array<float, kTileTokens>& squared, std::uint64_t rows,
                                int kv_head, const std::vector<float>& wide) const;
    void limit_kept();                       // sets most_kept
    void collect_old_tiles();                // fills `leaving`
    void seal_part(std::size_t index, int kv_head);
    void finish_sealing();                   // gives the open rows of `leaving` back
    void seal_alone();                       // both steps and what is between, on one thread
    void decoded_tile(std::size_t index, std::uint16_t* rows) const;

    // record_tiles.cpp: both ways to code a side.
    const RowScheme* scheme_of(int kv_head) const { return schemes.empty() ? nullptr : schemes[kv_head].get(); }  // null: by tiles
    void make_schemes();
    bool decide_outliers();  // outlier_split: fixes the channels, then as decide()
    void recode(int kv_head, const std::uint16_t* rows, std::size_t row_stride, std::uint64_t which, std::uint8_t* blob) const;
    void open_blob(int kv_head, const std::uint8_t* blob, std::uint16_t* rows, std::size_t row_stride) const;
    std::size_t scheme_bytes() const;

    Spec spec;
    StoreShape shape;
    cpu::TileCodec codec;
    bool by_records;                              // else by tiles
    std::vector<std::uint16_t> outliers;          // [num_kv_heads][head_dim / 4] channels, ascending; empty without, or not yet
    std::vector<std::shared_ptr<const RowScheme>> schemes;  // [num_kv_heads] once rows can be coded as records
    std::size_t blob_bytes = 0;                   // of a sealed tile and KV head
    bool decided = false;
    bool judged;                                  // noise is known, or never will be: values, and keys without a tail
    bool widened = false;
    double noise = 0;
    std::vector<std::int8_t> balance;             // [num_kv_heads][head_dim] exponents; empty without
    std::vector<float> forward, inverse;          // the same as factors
    std::vector<double> query_power;              // [num_kv_heads][head_dim] sums of squares seen while not judged
    double query_rows = 0;                        // rows per KV head in these sums
    std::vector<float> balanced_query_power;      // [num_kv_heads] mean |q|^2, scaled and balanced; fixed with the balance
    QueryTrend trend;                             // when keys are kept
    std::vector<KeptKeys> kept;                   // [tile][num_kv_heads], when keys are kept
    std::vector<bool> given;                      // [tile] rows came by write_rows since it was opened, when keys are kept
    int most_kept = 0;                            // per tile and head, of those being sealed
    std::vector<Tile> tiles;
    std::vector<std::deque<std::size_t>> newest;  // per stream, oldest first
    std::vector<std::size_t> leaving;             // tiles being sealed
    std::vector<std::uint16_t> sink_storage;      // [stream][sink][row_numbers], valid while tile 0 is sealed
    cpu::Arena open, sealed;
    std::atomic<int> next_item{0};
    std::vector<std::uint16_t> direct_rows;       // rows of a write that is coded at once (no tail)
    struct DirectTile {
        std::size_t index;
        std::uint64_t rows;
    };
    std::vector<DirectTile> direct;
};

}  // namespace turboquant

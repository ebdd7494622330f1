#include "cpu/tile_store.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <thread>

#include "core/noise.hpp"

namespace turboquant {

using cpu::kernels;

cpu::CodecScratch& thread_codec_scratch() {
    static thread_local cpu::CodecScratch scratch;
    return scratch;
}

void Team::wait(int num_threads) {
    if (num_threads == 1) return;
    const int generation = generation_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == num_threads - 1) {
        arrived_.store(0, std::memory_order_relaxed);
        generation_.fetch_add(1, std::memory_order_release);
        return;
    }
    // The others are about to arrive; a thread without a core of its own must not keep them from it.
    for (int spins = 0; generation_.load(std::memory_order_acquire) == generation; ++spins) {
        if (spins > 4000) std::this_thread::yield();
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
}

namespace {

constexpr std::size_t kHeapBlockBytes = 16;  // what the allocator adds to a block

Side coder_side(const StoreShape& shape) { return shape.side == CacheSide::keys ? Side::key : Side::value; }
int spec_bits(const Spec& spec, const StoreShape& shape) { return shape.side == CacheSide::keys ? spec.key_bits : spec.value_bits; }

}  // namespace

TileStore::Impl::Impl(const Spec& wanted, const StoreShape& wanted_shape)
    : spec(wanted), shape(wanted_shape), codec(make_coder(wanted, coder_side(wanted_shape))),
      by_records(uses_records(wanted, coder_side(wanted_shape))), judged(wanted_shape.side == CacheSide::values || wanted.tail_tiles == 0) {
    if (by_records && !spec.outlier_split) make_schemes();
    tiles.resize(static_cast<std::size_t>(tiles_per_stream() * shape.num_streams));
    newest.resize(shape.num_streams);
    if (keeps_keys()) {
        kept.resize(tiles.size() * shape.num_kv_heads);
        given.resize(tiles.size());
    }
    sink_storage.resize(static_cast<std::size_t>(shape.num_streams) * spec.sink_tokens * row_numbers());
}

int TileStore::Impl::rows_in_tile(std::int64_t tile) const {
    return static_cast<int>(std::min<std::int64_t>(kTileTokens, shape.cells_per_stream - tile * kTileTokens));
}

std::uint64_t TileStore::Impl::sink_mask(std::size_t index) const {
    return index % static_cast<std::size_t>(tiles_per_stream()) == 0 ? (1ull << spec.sink_tokens) - 1 : 0;
}

bool TileStore::Impl::decide(int bits) {
    if (bits != codec.coder().bits) {
        Coder wider = codec.coder();
        wider.bits = bits;
        codec = cpu::TileCodec(wider);
    }
    blob_bytes = by_records ? sealed_tile_bytes(spec, coder_side(shape)) : codec.layout().blob_bytes();
    decided = sealed.reserve(blob_bytes * shape.num_kv_heads, tiles.size());
    return decided;
}

void TileStore::Impl::set_balance(int kv_head, const std::vector<std::int8_t>& exponents) {
    const std::size_t d = spec.head_dim, first = kv_head * d;
    balance.resize(row_numbers());
    forward.resize(row_numbers());
    inverse.resize(row_numbers());
    for (std::size_t j = 0; j < d; ++j) {
        balance[first + j] = exponents[j];
        forward[first + j] = std::ldexp(1.0f, exponents[j]);
        inverse[first + j] = std::ldexp(1.0f, -exponents[j]);
    }
}

cpu::BalanceFactors TileStore::Impl::balance_of(int kv_head) const {
    if (balance.empty()) return {};
    const std::size_t first = static_cast<std::size_t>(kv_head) * spec.head_dim;
    return {forward.data() + first, inverse.data() + first};
}

void TileStore::Impl::discard(std::size_t index) {
    Tile& tile = tiles[index];
    if (tile.open_slot != kNone) open.release(tile.open_slot);
    if (tile.sealed_slot != kNone) sealed.release(tile.sealed_slot);
    forget_kept(index);
    tile = {};
}

void TileStore::Impl::open_tile(std::size_t index, std::uint64_t about_to_write) {
    Tile& tile = tiles[index];
    if (tile.is_open()) return;
    tile.dirty = 0;
    tile.open_slot = open.take();
    const std::size_t row = row_numbers();
    if (tile.sealed_slot == kNone) {
        std::memset(open_rows(tile), 0, 2 * row * kTileTokens);
    } else if ((tile.written & ~about_to_write) == 0) {  // nothing of the old content stays
        sealed.release(tile.sealed_slot);
        forget_kept(index);
        tile.sealed_slot = kNone;
        tile.written = 0;
        std::memset(open_rows(tile), 0, 2 * row * kTileTokens);
    } else {
        decoded_tile(index, open_rows(tile));
    }
}

void TileStore::Impl::touch(std::size_t index) {
    auto& list = newest[index / static_cast<std::size_t>(tiles_per_stream())];
    if (!list.empty() && list.back() == index) return;
    if (const auto at = std::find(list.begin(), list.end(), index); at != list.end()) list.erase(at);
    list.push_back(index);
}

void TileStore::Impl::plan_write(const std::int64_t* cells, int num_rows) {
    direct.clear();
    for (int i = 0; i < num_rows;) {
        if (cells[i] < 0 || cells[i] >= num_cells()) {
            ++i;
            continue;
        }
        const int stream = static_cast<int>(cells[i] / shape.cells_per_stream);
        const auto tile_of = [&](std::int64_t cell) { return cell % shape.cells_per_stream / kTileTokens; };
        const std::int64_t tile = tile_of(cells[i]);
        std::uint64_t rows = 0;
        for (; i < num_rows && cells[i] / shape.cells_per_stream == stream && tile_of(cells[i]) == tile && cells[i] >= 0; ++i) {
            rows |= 1ull << (cells[i] % shape.cells_per_stream % kTileTokens);
        }
        const std::size_t index = tile_index(stream, tile);
        if (spec.tail_tiles == 0) {
            if (tiles[index].sealed_slot == kNone) {
                tiles[index].sealed_slot = sealed.take();
                std::memset(blob(tiles[index], 0), 0, sealed.slot_bytes());
            }
            direct.push_back({index, rows});
        } else {
            open_tile(index, rows);
            tiles[index].dirty |= rows;
            touch(index);
        }
        tiles[index].written |= rows;
    }
}

void TileStore::Impl::collect_old_tiles() {
    leaving.clear();
    const auto too_many = [this](const auto& list) { return list.size() > static_cast<std::size_t>(spec.tail_tiles); };
    if (!decided && spec.outlier_split && std::any_of(newest.begin(), newest.end(), too_many)) decide_outliers();
    if (!decided || (keeps_keys() && !trend.any())) return;  // queries must have said which keys to keep
    for (auto& list : newest) {
        for (; too_many(list); list.pop_front()) {
            Tile& tile = tiles[list.front()];
            if (!tile.is_open()) continue;
            if (tile.sealed_slot == kNone) {
                tile.sealed_slot = sealed.take();
                tile.dirty = ~0ull;
                if (by_records) std::memset(blob(tile, 0), 0, sealed.slot_bytes());  // rows that are not counted stay so
            }
            leaving.push_back(list.front());
        }
    }
    if (keeps_keys() && !leaving.empty()) limit_kept();
}

void TileStore::Impl::seal_part(std::size_t index, int kv_head) {
    const Tile& tile = tiles[index];
    const std::uint64_t sinks = sink_mask(index);
    const std::uint16_t* rows = open_rows(tile) + static_cast<std::size_t>(kv_head) * spec.head_dim;
    // A key tile that has changed by half gets the mean of what it holds now; values have no reference to refresh.
    // (Records know nothing of each other at all.)
    const bool fresh = shape.side == CacheSide::values ? tile.dirty == ~0ull : std::popcount(tile.dirty) >= kTileTokens / 2;
    if (by_records || !fresh) {
        recode(kv_head, rows, row_numbers(), tile.dirty & tile.written & ~sinks, blob(tile, kv_head));
    } else {
        codec.seal(rows, row_numbers(), tile.written & ~sinks, spec.centred_keys, balance_of(kv_head), blob(tile, kv_head), thread_codec_scratch());
    }
    if (keeps_keys()) choose_kept(index, kv_head);
}

void TileStore::Impl::finish_sealing() {
    for (const std::size_t index : leaving) {
        Tile& tile = tiles[index];
        if (sink_mask(index)) {
            const int stream = static_cast<int>(index / static_cast<std::size_t>(tiles_per_stream()));
            std::copy_n(open_rows(tile), spec.sink_tokens * row_numbers(), sink_rows(stream));
        }
        open.release(tile.open_slot);
        tile.open_slot = kNone;
        tile.dirty = 0;
        if (keeps_keys()) given[index] = false;
    }
    leaving.clear();
}

void TileStore::Impl::seal_alone() {
    collect_old_tiles();
    for (const std::size_t index : leaving) {
        for (int head = 0; head < shape.num_kv_heads; ++head) seal_part(index, head);
    }
    finish_sealing();
}

void TileStore::Impl::decoded_tile(std::size_t index, std::uint16_t* rows) const {
    const Tile& tile = tiles[index];
    const std::size_t row = row_numbers();
    for (int head = 0; head < shape.num_kv_heads; ++head) {
        open_blob(head, blob(tile, head), rows + static_cast<std::size_t>(head) * spec.head_dim, row);
    }
    for (int head = 0; head < shape.num_kv_heads && keeps_keys(); ++head) {
        const KeptKeys& exact = kept_of(index, head);
        const std::uint16_t* from = exact.numbers.get();
        for (std::uint64_t left = exact.rows; left; left &= left - 1, from += spec.head_dim) {
            std::copy_n(from, spec.head_dim, rows + std::countr_zero(left) * row + static_cast<std::size_t>(head) * spec.head_dim);
        }
    }
    for (int t = 0; t < kTileTokens; ++t) {  // a row that was never written is zero, not the reference
        if (!(tile.written >> t & 1)) std::fill_n(rows + t * row, row, std::uint16_t{0});
    }
    if (sink_mask(index)) {
        const std::size_t stream = index / static_cast<std::size_t>(tiles_per_stream());
        std::copy_n(sink_storage.data() + stream * spec.sink_tokens * row, spec.sink_tokens * row, rows);
    }
}

// --- the public verbs ---

Result<std::unique_ptr<TileStore>> TileStore::create(const Spec& spec, const StoreShape& shape) {
    if (Status status = validate(spec); !status.ok()) return status;
    if (shape.num_kv_heads < 1 || shape.cells_per_stream < 1 || shape.num_streams < 1) {
        return invalid_argument("a store needs at least one KV head, cell and stream; given: " + std::to_string(shape.num_kv_heads) + ", " +
                                std::to_string(shape.cells_per_stream) + ", " + std::to_string(shape.num_streams));
    }
    auto impl = std::make_unique<Impl>(spec, shape);
    const Status no_addresses(StatusCode::out_of_memory, "the system has no addresses left for a cache of " + std::to_string(impl->num_cells()) + " cells");
    if (!impl->open.reserve(2 * impl->row_numbers() * kTileTokens, impl->tiles.size())) return no_addresses;
    // Width and balance of keys wait for the queries that will look at them.
    const bool waits = shape.side == CacheSide::keys && spec.tail_tiles > 0 && (spec.balanced_keys || impl->keeps_keys() || (spec.wide_keys && spec.key_bits < 8));
    if (!waits && !spec.outlier_split && !impl->decide(spec_bits(spec, shape))) return no_addresses;
    return std::unique_ptr<TileStore>(new TileStore(std::move(impl)));
}

TileStore::TileStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TileStore::~TileStore() = default;

const Spec& TileStore::spec() const { return impl_->spec; }
const StoreShape& TileStore::shape() const { return impl_->shape; }
bool TileStore::widened() const { return impl_->widened; }
double TileStore::logit_noise() const { return impl_->noise; }
bool TileStore::noisy() const { return impl_->noise > kWideKeyNoise && !impl_->widened; }
int TileStore::bits() const { return impl_->codec.coder().bits; }

void TileStore::write(Worker worker, const float* rows, std::size_t row_stride, const std::int64_t* cells, int num_rows) {
    Impl& m = *impl_;
    const int threads = worker.num_threads;
    const std::size_t row = m.row_numbers();
    if (worker.index == 0) {
        m.plan_write(cells, num_rows);
        if (!m.direct.empty()) m.direct_rows.resize(row * num_rows);
    }
    worker.wait();
    const int begin = static_cast<int>(static_cast<std::int64_t>(num_rows) * worker.index / threads);
    const int end = static_cast<int>(static_cast<std::int64_t>(num_rows) * (worker.index + 1) / threads);
    const bool direct = !m.direct.empty();
    for (int i = begin; i < end; ++i) {
        if (cells[i] < 0 || cells[i] >= m.num_cells()) continue;
        const std::int64_t in_stream = cells[i] % m.shape.cells_per_stream;
        std::uint16_t* out = m.direct_rows.data() + i * row;
        if (!direct) {
            const auto& tile = m.tiles[m.tile_index(static_cast<int>(cells[i] / m.shape.cells_per_stream), in_stream / kTileTokens)];
            out = m.open_rows(tile) + static_cast<std::size_t>(in_stream % kTileTokens) * row;
        }
        kernels().floats_to_halves(rows + i * row_stride, out, row);
    }
    worker.wait();
    if (!direct) return;
    // Without a tail rows are coded as they come; heads do not share bytes, so each thread takes some of them.
    for (int head = worker.index; head < m.shape.num_kv_heads; head += threads) {
        for (int i = 0; i < num_rows; ++i) {
            if (cells[i] < 0 || cells[i] >= m.num_cells()) continue;
            const std::int64_t in_stream = cells[i] % m.shape.cells_per_stream;
            const auto& tile = m.tiles[m.tile_index(static_cast<int>(cells[i] / m.shape.cells_per_stream), in_stream / kTileTokens)];
            const std::uint16_t* source = m.direct_rows.data() + i * row + static_cast<std::size_t>(head) * m.spec.head_dim;
            const int t = static_cast<int>(in_stream % kTileTokens);
            m.recode(head, source, 0, 1ull << t, m.blob(tile, head));
        }
    }
    worker.wait();
}

void TileStore::seal(Worker worker) {
    Impl& m = *impl_;
    if (worker.index == 0) {
        m.collect_old_tiles();
        m.next_item.store(0, std::memory_order_relaxed);
    }
    worker.wait();
    const int items = static_cast<int>(m.leaving.size()) * m.shape.num_kv_heads;
    if (items == 0) return;  // the same for every thread
    for (int i; (i = m.next_item.fetch_add(1, std::memory_order_relaxed)) < items;) {
        m.seal_part(m.leaving[i / m.shape.num_kv_heads], i % m.shape.num_kv_heads);
    }
    worker.wait();
    if (worker.index == 0) m.finish_sealing();
    worker.wait();
}

void TileStore::read_rows(std::int64_t first_cell, std::int64_t num_rows, std::uint16_t* rows) const {
    const Impl& m = *impl_;
    const std::size_t row = m.row_numbers();
    std::vector<std::uint16_t> decoded;
    for (std::int64_t i = 0; i < num_rows;) {
        const std::int64_t cell = first_cell + i, in_stream = cell % m.shape.cells_per_stream;
        const int t = static_cast<int>(in_stream % kTileTokens);
        const std::int64_t tile_number = in_stream / kTileTokens;
        const std::int64_t run = std::min<std::int64_t>(num_rows - i, m.rows_in_tile(tile_number) - t);
        const std::size_t index = m.tile_index(static_cast<int>(cell / m.shape.cells_per_stream), tile_number);
        const Impl::Tile& tile = m.tiles[index];
        std::uint16_t* out = rows + i * row;
        if (tile.is_empty()) {
            std::fill_n(out, run * row, std::uint16_t{0});
        } else if (tile.is_open()) {
            std::copy_n(m.open_rows(tile) + t * row, run * row, out);
        } else {
            decoded.resize(row * kTileTokens);
            m.decoded_tile(index, decoded.data());
            std::copy_n(decoded.data() + t * row, run * row, out);
        }
        i += run;
    }
}

void TileStore::write_rows(std::int64_t first_cell, std::int64_t num_rows, const std::uint16_t* rows) {
    Impl& m = *impl_;
    const std::size_t row = m.row_numbers();
    for (std::int64_t i = 0; i < num_rows;) {
        const std::int64_t cell = first_cell + i, in_stream = cell % m.shape.cells_per_stream, tile_number = in_stream / kTileTokens;
        const int t = static_cast<int>(in_stream % kTileTokens);
        const auto run = static_cast<int>(std::min<std::int64_t>(num_rows - i, m.rows_in_tile(tile_number) - t));
        std::int64_t cells[kTileTokens];
        for (int k = 0; k < run; ++k) cells[k] = cell + k;
        m.plan_write(cells, run);
        const Impl::Tile& tile = m.tiles[m.tile_index(static_cast<int>(cell / m.shape.cells_per_stream), tile_number)];
        if (m.keeps_keys()) m.given[m.tile_index(static_cast<int>(cell / m.shape.cells_per_stream), tile_number)] = true;
        if (m.direct.empty()) {
            std::copy_n(rows + i * row, run * row, m.open_rows(tile) + t * row);
            m.seal_alone();
        } else {
            for (int head = 0; head < m.shape.num_kv_heads; ++head) {
                const std::uint16_t* source = rows + i * row + static_cast<std::size_t>(head) * m.spec.head_dim;
                for (int k = 0; k < run; ++k) m.recode(head, source + k * row, 0, 1ull << (t + k), m.blob(tile, head));
            }
        }
        i += run;
    }
}

void TileStore::copy_stream(int from, int to) {
    Impl& m = *impl_;
    if (from == to) return;
    const std::int64_t per_stream = m.tiles_per_stream();
    for (std::int64_t i = 0; i < per_stream; ++i) {
        const std::size_t target = m.tile_index(to, i);
        m.discard(target);
        const Impl::Tile& source = m.tiles[m.tile_index(from, i)];
        Impl::Tile& copy = m.tiles[target];
        copy.written = source.written;
        copy.dirty = source.dirty;
        if (m.keeps_keys()) m.given[target] = m.given[m.tile_index(from, i)];
        if (source.open_slot != Impl::kNone) {
            copy.open_slot = m.open.take();
            std::memcpy(m.open.at(copy.open_slot), m.open.at(source.open_slot), m.open.slot_bytes());
        }
        if (source.sealed_slot != Impl::kNone) {
            copy.sealed_slot = m.sealed.take();
            std::memcpy(m.sealed.at(copy.sealed_slot), m.sealed.at(source.sealed_slot), m.sealed.slot_bytes());
        }
        for (int head = 0; head < m.shape.num_kv_heads && m.keeps_keys(); ++head) {
            m.kept_of(target, head) = m.kept_of(m.tile_index(from, i), head).copy(m.spec.head_dim);
        }
    }
    m.newest[to].clear();
    for (const std::size_t index : m.newest[from]) m.newest[to].push_back(m.tile_index(to, static_cast<std::int64_t>(index) - from * per_stream));
    std::copy_n(m.sink_rows(from), m.spec.sink_tokens * m.row_numbers(), m.sink_rows(to));
}

void TileStore::clear() {
    Impl& m = *impl_;
    std::fill(m.tiles.begin(), m.tiles.end(), Impl::Tile{});
    for (auto& list : m.newest) list.clear();
    for (KeptKeys& one : m.kept) one = {};
    m.given.assign(m.given.size(), false);
    m.trend = {};
    m.open.release_all();
    if (m.decided) m.sealed.release_all();
}

std::span<const std::int8_t> TileStore::balance(int kv_head) const {
    const Impl& m = *impl_;
    if (m.balance.empty() || kv_head < 0 || kv_head >= m.shape.num_kv_heads) return {};
    return {m.balance.data() + static_cast<std::size_t>(kv_head) * m.spec.head_dim, static_cast<std::size_t>(m.spec.head_dim)};
}

std::span<const std::uint16_t> TileStore::outliers(int kv_head) const {
    const Impl& m = *impl_;
    if (m.outliers.empty() || kv_head < 0 || kv_head >= m.shape.num_kv_heads) return {};
    const std::size_t count = m.outliers.size() / m.shape.num_kv_heads;
    return {m.outliers.data() + kv_head * count, count};
}

StoreUsage TileStore::usage() const {
    const Impl& m = *impl_;
    StoreUsage usage;
    for (const Impl::Tile& tile : m.tiles) usage.elements += std::popcount(tile.written) * m.row_numbers();
    usage.coded_bytes = m.sealed.used_slots() * m.sealed.slot_bytes();
    usage.exact_bytes = m.open.used_slots() * m.open.slot_bytes() + 2 * m.sink_storage.size();
    std::size_t kept_bytes = 0, blocks = 0;
    for (const KeptKeys& one : m.kept) {
        kept_bytes += one.bytes(m.spec.head_dim);
        blocks += one.rows != 0;
        usage.kept_keys += std::popcount(one.rows);
    }
    usage.exact_bytes += kept_bytes;
    usage.resident_bytes = m.open.resident_bytes() + m.sealed.resident_bytes() + 2 * m.sink_storage.size() +
                           m.tiles.size() * sizeof(Impl::Tile) + kept_bytes + blocks * kHeapBlockBytes + m.kept.size() * sizeof(KeptKeys) +
                           m.trend.bytes() + 9 * m.balance.size() + m.scheme_bytes() + sizeof(Impl);
    return usage;
}

std::uint64_t TileStore::kept_rows(int stream, std::int64_t tile_number, int kv_head) const {
    const Impl& m = *impl_;
    if (sealed_blob(stream, tile_number, kv_head).empty() || !m.keeps_keys()) return 0;
    return m.kept_of(m.tile_index(stream, tile_number), kv_head).rows;
}

std::span<const std::uint8_t> TileStore::sealed_blob(int stream, std::int64_t tile_number, int kv_head) const {
    const Impl& m = *impl_;
    if (stream < 0 || stream >= m.shape.num_streams || tile_number < 0 || tile_number >= m.tiles_per_stream()) return {};
    const Impl::Tile& tile = m.tiles[m.tile_index(stream, tile_number)];
    if (tile.sealed_slot == Impl::kNone || tile.is_open() || kv_head < 0 || kv_head >= m.shape.num_kv_heads) return {};
    return {m.blob(tile, kv_head), m.blob_bytes};
}

}  // namespace turboquant

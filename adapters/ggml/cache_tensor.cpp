#include "cache_tensor.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "log.hpp"
#include "policy.hpp"
#include "report.hpp"

namespace turboquant::ggml {

bool parse_cache_name(const char* name, int& layer, CacheSide& side) {
    if (std::strncmp(name, "cache_", 6) != 0) return false;
    const char* mark = std::strstr(name, "k_l");
    side = CacheSide::keys;
    if (!mark) {
        mark = std::strstr(name, "v_l");
        side = CacheSide::values;
    }
    if (!mark || mark[3] < '0' || mark[3] > '9') return false;
    char* end = nullptr;
    layer = static_cast<int>(std::strtol(mark + 3, &end, 10));
    return *end == '\0';
}

CacheTensor::CacheTensor(ggml_tensor* root, int layer, CacheSide side, const Spec* wanted)
    : root_(root), layer_(layer), side_(side), wanted_(wanted != nullptr), spec_(wanted ? *wanted : Spec{}) {
    report_created(this);
    if (root->type != GGML_TYPE_F16) {
        become_plain("codes take the place of an f16 cache; leave -ctk and -ctv at f16");
    } else if (!wanted_) {
        state_ = State::plain;
    }
}

CacheTensor::~CacheTensor() { report_destroyed(this); }

bool CacheTensor::packs(int head_dim) const {
    if (state_ != State::undecided) return state_ == State::packed && head_dim == head_dim_;
    Spec spec = spec_;
    spec.head_dim = head_dim;
    return root_->ne[0] % head_dim == 0 && validate(spec).ok();
}

void CacheTensor::use_head_dim(int head_dim) {
    if (state_ == State::plain || (state_ == State::packed && head_dim == head_dim_)) return;
    if (state_ == State::packed) return become_plain("two attentions read it with different head sizes");
    spec_.head_dim = head_dim;
    head_dim_ = head_dim;
    if (root_->ne[0] % head_dim != 0) return become_plain("its rows are no whole number of heads");
    auto store = TileStore::create(spec_, {side_, num_kv_heads(), root_->ne[1], static_cast<int>(root_->ne[2])});
    if (!store.ok()) return become_plain(store.status().message());
    store_ = std::move(store.value());
    state_ = State::packed;
    // Rows that were set before anything attended (a restored state).
    for (std::int64_t first = 0; first < written_rows_; first += kTileTokens) {
        const std::int64_t count = std::min<std::int64_t>(kTileTokens, written_rows_ - first);
        store_->write_rows(first, count, reinterpret_cast<const std::uint16_t*>(bytes() + first * row_bytes()));
    }
    if (written_rows_ > 0) release_own_pages();
}

void CacheTensor::become_plain(const std::string& why) {
    if (state_ == State::plain) return;
    if (state_ == State::packed) {
        lay_out();
        store_.reset();
    }
    state_ = State::plain;
    report_plain(*this, why);
}

void CacheTensor::lay_out() {
    const std::int64_t rows = root_->ne[1] * root_->ne[2];
    for (std::int64_t first = 0; first < rows; first += kTileTokens) {
        store_->read_rows(first, std::min<std::int64_t>(kTileTokens, rows - first), reinterpret_cast<std::uint16_t*>(bytes() + first * row_bytes()));
    }
}

void CacheTensor::take_back() {
    const std::int64_t rows = root_->ne[1] * root_->ne[2];
    const std::size_t numbers = row_bytes() / 2;
    std::vector<std::uint16_t> before(numbers * kTileTokens);
    for (std::int64_t first = 0; first < rows; first += kTileTokens) {
        const std::int64_t count = std::min<std::int64_t>(kTileTokens, rows - first);
        const auto* now = reinterpret_cast<const std::uint16_t*>(bytes() + first * row_bytes());
        store_->read_rows(first, count, before.data());
        const auto changed = [&](std::int64_t i) { return std::memcmp(before.data() + i * numbers, now + i * numbers, row_bytes()) != 0; };
        for (std::int64_t i = 0; i < count;) {
            std::int64_t end = i;
            while (end < count && changed(end)) ++end;
            if (end > i) store_->write_rows(first + i, end - i, now + i * numbers);
            i = end + 1;
        }
    }
    release_own_pages();
}

void CacheTensor::release_own_pages() {
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto begin = (reinterpret_cast<std::uintptr_t>(bytes()) + page - 1) / page * page;
    const auto end = (reinterpret_cast<std::uintptr_t>(bytes()) + ggml_nbytes(root_)) / page * page;
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

void CacheTensor::get(void* data, std::size_t offset, std::size_t size) const {
    if (state_ != State::packed) {
        std::memcpy(data, bytes() + offset, size);
        return;
    }
    const std::int64_t first = static_cast<std::int64_t>(offset / row_bytes()), last = static_cast<std::int64_t>((offset + size + row_bytes() - 1) / row_bytes());
    if (offset % row_bytes() == 0 && size % row_bytes() == 0) {
        store_->read_rows(first, last - first, static_cast<std::uint16_t*>(data));
        return;
    }
    std::vector<std::uint8_t> rows(static_cast<std::size_t>(last - first) * row_bytes());
    store_->read_rows(first, last - first, reinterpret_cast<std::uint16_t*>(rows.data()));
    std::memcpy(data, rows.data() + offset % row_bytes(), size);
}

void CacheTensor::set(const void* data, std::size_t offset, std::size_t size) {
    if (size == 0) return;
    if (state_ != State::packed) {
        std::memcpy(bytes() + offset, data, size);
        written_rows_ = std::max(written_rows_, static_cast<std::int64_t>((offset + size + row_bytes() - 1) / row_bytes()));
        return;
    }
    const std::int64_t first = static_cast<std::int64_t>(offset / row_bytes()), last = static_cast<std::int64_t>((offset + size + row_bytes() - 1) / row_bytes());
    if (offset % row_bytes() == 0 && size % row_bytes() == 0) {
        store_->write_rows(first, last - first, static_cast<const std::uint16_t*>(data));
        return;
    }
    std::vector<std::uint8_t> rows(static_cast<std::size_t>(last - first) * row_bytes());
    store_->read_rows(first, last - first, reinterpret_cast<std::uint16_t*>(rows.data()));
    std::memcpy(rows.data() + offset % row_bytes(), data, size);
    store_->write_rows(first, last - first, reinterpret_cast<const std::uint16_t*>(rows.data()));
}

void CacheTensor::fill(std::uint8_t value, std::size_t offset, std::size_t size) {
    if (offset == 0 && size == ggml_nbytes(root_)) return clear(value);
    const std::vector<std::uint8_t> constant(size, value);
    set(constant.data(), offset, size);
}

// The tensor's own addresses are the buffer's to clear.
void CacheTensor::clear(std::uint8_t value) {
    if (value != 0) {
        const std::vector<std::uint8_t> constant(ggml_nbytes(root_), value);
        return set(constant.data(), 0, constant.size());
    }
    if (store_) store_->clear();
    written_rows_ = 0;
}

void CacheTensor::copy_stream(int from, int to) {
    if (state_ == State::packed) {
        store_->copy_stream(from, to);
    } else {
        std::memcpy(bytes() + to * root_->nb[2], bytes() + from * root_->nb[2], root_->nb[2]);
        written_rows_ = std::max<std::int64_t>(written_rows_, (to + 1) * root_->ne[1]);
    }
}

StoreUsage CacheTensor::usage() const {
    if (store_) return store_->usage();
    StoreUsage usage;
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto begin = reinterpret_cast<std::uintptr_t>(bytes()) / page * page;
    const auto end = (reinterpret_cast<std::uintptr_t>(bytes()) + ggml_nbytes(root_) + page - 1) / page * page;
    std::vector<unsigned char> in_memory((end - begin) / page);
    if (mincore(reinterpret_cast<void*>(begin), end - begin, in_memory.data()) == 0) {
        usage.resident_bytes = page * static_cast<std::uint64_t>(std::count_if(in_memory.begin(), in_memory.end(), [](unsigned char c) { return c & 1; }));
    }
    usage.elements = usage.resident_bytes / ggml_type_size(root_->type) * ggml_blck_size(root_->type);
    return usage;
}

}  // namespace turboquant::ggml

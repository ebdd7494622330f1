#include "cpu/arena.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace turboquant::cpu {
namespace {

std::size_t page_bytes() {
    static const auto bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    return bytes;
}

}  // namespace

Arena::~Arena() {
    if (base_) munmap(base_, reserved_bytes_);
}

bool Arena::reserve(std::size_t slot_bytes, std::size_t num_slots) {
    const std::size_t page = page_bytes();
    slot_bytes_ = slot_bytes;
    reserved_bytes_ = std::max(page, (slot_bytes * num_slots + page - 1) / page * page);
    void* range = mmap(nullptr, reserved_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) return false;
    base_ = static_cast<std::uint8_t*>(range);
    madvise(base_, reserved_bytes_, MADV_NOHUGEPAGE);  // a huge page would hold far more than the slots in use
    return true;
}

std::uint32_t Arena::take() {
    if (free_.empty()) return next_++;
    const std::uint32_t slot = free_.top();
    free_.pop();
    return slot;
}

void Arena::release(std::uint32_t slot) {
    free_.push(slot);
    give_back(slot * slot_bytes_, (slot + 1) * slot_bytes_);
}

void Arena::release_all() {
    give_back(0, next_ * slot_bytes_);
    next_ = 0;
    free_ = {};
}

// Only whole pages inside the range can go; neighbours may live on the others.
void Arena::give_back(std::size_t begin, std::size_t end) {
    const std::size_t page = page_bytes();
    const std::size_t first = (begin + page - 1) / page * page, last = end / page * page;
    if (first < last) madvise(base_ + first, last - first, MADV_DONTNEED);
}

std::size_t Arena::resident_bytes() const {
    const std::size_t page = page_bytes();
    const std::size_t used = std::min(reserved_bytes_, (next_ * slot_bytes_ + page - 1) / page * page);
    if (used == 0) return 0;
    std::vector<unsigned char> in_memory(used / page);
    if (mincore(base_, used, in_memory.data()) != 0) return used;
    return page * static_cast<std::size_t>(std::count_if(in_memory.begin(), in_memory.end(), [](unsigned char c) { return c & 1; }));
}

}  // namespace turboquant::cpu

// Equal-sized slots in a reserved range of addresses. Memory is used only where slots have been taken, and goes back to the
// system when they are released. The lowest free slot is taken first, so that the used part stays dense.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <queue>
#include <vector>

namespace turboquant::cpu {

class Arena {
public:
    Arena() = default;
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    ~Arena();

    // Reserves addresses for num_slots slots of slot_bytes. False when the system refuses. Call once.
    bool reserve(std::size_t slot_bytes, std::size_t num_slots);

    std::uint32_t take();              // a slot's number; its bytes are undefined. There must be one left.
    void release(std::uint32_t slot);
    void release_all();
    std::uint8_t* at(std::uint32_t slot) const { return base_ + slot * slot_bytes_; }

    std::size_t slot_bytes() const { return slot_bytes_; }
    std::size_t used_slots() const { return next_ - free_.size(); }
    // Bytes of this range that are in memory now, asked of the system.
    std::size_t resident_bytes() const;

private:
    void give_back(std::size_t begin, std::size_t end);

    std::uint8_t* base_ = nullptr;
    std::size_t slot_bytes_ = 0, reserved_bytes_ = 0;
    std::uint32_t next_ = 0;  // slots from here on were never taken
    std::priority_queue<std::uint32_t, std::vector<std::uint32_t>, std::greater<>> free_;
};

}  // namespace turboquant::cpu

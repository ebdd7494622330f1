// One thread as the team that assigns the slots of an exact overlay: the twin of the CTA that does it on the device.
#pragma once

#include <cstdint>

namespace turboquant::test {

struct TeamOfOne {
    int rank() const { return 0; }
    int size() const { return 1; }
    int lane() const { return 0; }
    int lanes() const { return 1; }
    int group() const { return 0; }
    int groups() const { return 1; }
    void sync() const {}
    std::int32_t take(std::int32_t* counter) const { return (*counter)++; }
    std::int32_t exchange(std::int32_t* at, std::int32_t value) const {
        const std::int32_t before = *at;
        *at = value;
        return before;
    }
    std::int32_t scan(std::int32_t value, std::int32_t* all) const {
        *all = value;
        return 0;
    }
};

}  // namespace turboquant::test

#include "core/rope.hpp"

namespace turboquant::reference {

void rope(RopePairs pairs, std::span<const float> cosine, std::span<const float> sine, float* row) {
    const std::size_t half = cosine.size();
    for (std::size_t j = 0; j < half; ++j) {
        float& first = row[pairs == RopePairs::halves ? j : 2 * j];
        float& second = row[pairs == RopePairs::halves ? j + half : 2 * j + 1];
        const float a = first, b = second;
        const float ac = a * cosine[j], bs = b * sine[j], bc = b * cosine[j], as = a * sine[j];
        first = ac - bs;
        second = bc + as;
    }
}

}  // namespace turboquant::reference

// The core's codebook as the plain data that the encoding kernel is handed.
#pragma once

#include "core/codebook.hpp"
#include "core/reference.hpp"
#include "cuda/append/params.hpp"

namespace turboquant::cuda {

inline device::EncodeBook encode_book(int bits, Side side, bool gain_search) {
    static_assert(device::kEncodeGains == kGains);
    device::EncodeBook book{};
    book.bits = bits;
    book.norm_matched = side == Side::key;
    if (bits == 8) return book;
    const Codebook& levels = codebook(bits);
    book.half = levels.half;
    book.alpha = levels.alpha;
    book.first_gain = gain_search ? 0 : kGains / 2;
    book.gains = gain_search ? kGains : 1;
    for (int k = 0; k < levels.half; ++k) {
        book.positive[k] = levels.positive[k];
        book.threshold[k] = levels.threshold[k];
    }
    for (int g = 0; g < kGains; ++g) book.gain[g] = kGain[g];
    return book;
}

}  // namespace turboquant::cuda

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
    book.gain_search = gain_search;
    book.norm_matched = side == Side::key;
    if (bits == 8) return book;
    const Codebook& levels = codebook(bits);
    book.alpha = levels.alpha;
    for (int k = 0; k < levels.half; ++k) book.threshold[k] = levels.threshold[k];
    for (int g = 0; g < kGains; ++g) book.gain[g] = kGain[g];
    return book;
}

}  // namespace turboquant::cuda

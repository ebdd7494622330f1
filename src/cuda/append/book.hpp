// The core's codebook as the plain data that the encoding kernel is handed.
#pragma once

#include "core/codebook.hpp"
#include "core/reference.hpp"
#include "cuda/append/params.hpp"

namespace turboquant::cuda {

inline device::EncodeBook encode_book(int bits, Side side, bool gain_search) {
    static_assert(device::kEncodeGains == kGains && device::kLeastGain == kGain[0] && device::kMostGain == kGain[kGains - 1] && kGain[device::kMiddleGain] == 1);
    device::EncodeBook book{};
    book.bits = bits;
    book.gain_search = gain_search;
    book.norm_matched = side == Side::key;
    if (bits == 8) return book;
    book.alpha = codebook(bits).alpha;
    for (int g = 0; g < kGains; ++g) book.gain[g] = kGain[g];
    return book;
}

}  // namespace turboquant::cuda

// Codes that lie in rows, one byte each, become the words of a page's groups (core/page.hpp: 32 codes, `bits` words of a lane).
#pragma once

#include "core/page.hpp"
#include "cuda/device/warp.cuh"

namespace turboquant::device {

// The low halves of eight bytes, in order.
TQ_DEV std::uint32_t pack_nibbles(std::uint32_t a, std::uint32_t b) { return permute_bytes(a | a >> 4, b | b >> 4, 0x6420); }

// codes: the group's 32 codes in order, four to a word.
template <int kBits>
TQ_DEV void pack_group(const std::uint32_t* codes, std::uint32_t* words) {
    if constexpr (kBits == 8) {
        TQ_UNROLL
        for (int w = 0; w < 8; ++w) words[w] = codes[w];
    } else if constexpr (kBits == 2) {
        TQ_UNROLL
        for (int w = 0; w < 2; ++w) words[w] = pack_nibbles(codes[4 * w], codes[4 * w + 1]) | pack_nibbles(codes[4 * w + 2], codes[4 * w + 3]) << 2;
    } else {
        TQ_UNROLL
        for (int w = 0; w < kBits; ++w) words[w] = pack_nibbles(codes[2 * w % 8], codes[(2 * w + 1) % 8]);
        if constexpr (kBits == 3) {
            const std::uint32_t spare = pack_nibbles(codes[6], codes[7]);
            TQ_UNROLL
            for (int w = 0; w < 3; ++w) words[w] |= (spare >> w & 0x11111111u) << 3;
        }
    }
}

// One group of lane (g, t): its codes in order. row(token): the codes of a token of the page as words of four dims; at(token, word) gives
// one, or zero where the token is not there.
template <int kPadded, Side kSide, class At>
TQ_DEV void group_codes(int group, At&& at, std::uint32_t* codes) {
    const int g = lane_id() >> 2, t = lane_id() & 3;
    if constexpr (kSide == Side::key) {
        TQ_UNROLL
        for (int c = 0; c < 8; ++c) {
            const int position = 32 * group + 4 * c;
            codes[c] = at(8 * (position / (kPadded / 4)) + g, (kPadded / 4 * t + position % (kPadded / 4)) / 4);
        }
    } else {
        const int s = group / (kPadded / 32), j = group % (kPadded / 32);
        TQ_UNROLL
        for (int hh = 0; hh < 2; ++hh) {  // four tokens x four dims, transposed
            std::uint32_t w[4];
            TQ_UNROLL
            for (int b = 0; b < 4; ++b) w[b] = at(32 * s + 16 * hh + 8 * (b / 2) + 2 * t + b % 2, kPadded / 32 * g + j);
            const std::uint32_t low01 = permute_bytes(w[0], w[1], 0x5140), low23 = permute_bytes(w[2], w[3], 0x5140);
            const std::uint32_t high01 = permute_bytes(w[0], w[1], 0x7362), high23 = permute_bytes(w[2], w[3], 0x7362);
            codes[4 * hh] = permute_bytes(low01, low23, 0x5410);
            codes[4 * hh + 1] = permute_bytes(low01, low23, 0x7632);
            codes[4 * hh + 2] = permute_bytes(high01, high23, 0x5410);
            codes[4 * hh + 3] = permute_bytes(high01, high23, 0x7632);
        }
    }
}

}  // namespace turboquant::device

// A page's codes become two tiles of binary16 numbers in shared memory, as matrix units want them (device/warpgroup.cuh; ldmatrix is
// as content): keys with the dims of a token side by side, values with the tokens of a dim side by side. Order is chosen so that a
// lane has whole chunks of 16 bytes, and eight neighbouring lanes eight different ones:
//   tokens  row n of the key tile, and number n of each row of the value tile, is token_at(n)
//   dims    number p of a key row is dim key_dim_at(p); row n of the value tile is dim value_dim_at(n)
// Numbers are in units of 1 / 128 (device/halves.cuh).
//
// Lane logic on warp.cuh: `load` and `store` are the caller's, so that it runs on the CPU.
#pragma once

#include "core/page.hpp"
#include "cuda/device/halves.cuh"

namespace turboquant::cuda {

inline constexpr int kTileRowBytes = 128, kProducers = 4;  // warps that decode a part together, but where 8 do

template <int kHeadDim>
struct PrefillTiles {
    static constexpr int D = (kHeadDim + 31) / 32 * 32, kOctets = D / 32;  // octets: 8 dims of a token, of one lane
    static constexpr int kBlocks = (D + 63) / 64;                           // of a key tile
    static constexpr int kKeyBytes = kBlocks * kPageTokens * kTileRowBytes, kValueBytes = D * kTileRowBytes;

    static constexpr int token_at(int n) { return 32 * (n >> 5) + 16 * (n >> 1 & 1) + 8 * (n & 1) + 2 * (n >> 3 & 3) + (n >> 2 & 1); }
    static constexpr int key_dim_at(int p) { return D / 4 * (p >> 3 & 3) + 8 * (p >> 5) + (p & 7); }
    static constexpr unsigned key_position(unsigned dim) { return 8 * (4 * (dim % (D / 4) / 8) + dim / (D / 4)) + dim % 8; }
    static constexpr int value_dim_at(int n) { return D / 8 * (n >> 2 & 7) + 4 * (n >> 5) + (n & 3); }

    // Byte of number `inner` of row `row` in a tile whose blocks have `rows` rows. Unsigned here and below: shorter code.
    static constexpr unsigned place(unsigned rows, unsigned row, unsigned inner) {
        return (inner / 64 * rows + row) * kTileRowBytes + ((inner % 64 / 8) ^ (row & 7)) * 16 + inner % 8 * 2;
    }

    // place() is linear over exclusive-or, so that of its sum over disjoint bits only the swizzled ones have to be put together: own, what a lane brings, is
    // kept, and step, known when compiling, is an offset but for those.
    static constexpr unsigned place_from(unsigned own, unsigned step) { return (own ^ (step & 0x70)) + (step & ~0x70u); }

    static constexpr unsigned word_at(const PageSide& side, unsigned lane, unsigned word) {
        if (side.words_per_lane() % 4 != 0) return static_cast<unsigned>(side.word_offset(static_cast<int>(lane), static_cast<int>(word)));
        return word / 4 * 512 + lane * 16 + word % 4 * 4;
    }
    // PageSide::group_word for values, with the group in its two parts.
    static constexpr unsigned value_word(int bits, unsigned s, unsigned j, unsigned w) {
        if (bits == 4) return (2 * s + w / 2) * 2 * kOctets + 2 * j + w % 2;
        if (bits == 2) return (2 * s + w) * kOctets + j;
        return (s * kOctets + j) * bits + w;
    }

    // The words of a group. at(i): the byte of its i-th word.
    template <class At, class Load>
    static TQ_DEV void load_group(const PageSide& side, At&& at, Load&& load, std::uint32_t* words) {
        if (side.bits == 8 || (side.bits == 4 && side.side == Side::key)) {
            TQ_UNROLL
            for (int i = 0; i < 8; i += 4) {
                if (i < side.bits) load.four(at(i), words + i);
            }
        } else if (side.bits == 4 || (side.bits == 2 && side.side == Side::key)) {
            TQ_UNROLL
            for (int i = 0; i < 4; i += 2) {
                if (i < side.bits) load.two(at(i), words + i);
            }
        } else {
            TQ_UNROLL
            for (int i = 0; i < 3; ++i) {
                if (i < side.bits) words[i] = load.one(at(i));
            }
        }
    }

    // A warp's share of a page's keys. reference(chunk, four words): the 8 numbers added to those of chunk `chunk` of every token. Loads come
    // first, for they cannot pass stores.
    template <int kBits, int kWarps = kProducers, class Load, class Reference, class Store>
    static TQ_DEV void decode_keys(unsigned warp_number, unsigned lane, Load&& load, Reference&& reference, Store&& store) {
        constexpr PageSide kSide{Side::key, kHeadDim, kBits};
        constexpr bool kWholeRows = kOctets % 4 == 0;  // a group is one token's
        constexpr unsigned kTogether = D == 128 && kWarps == 4 ? 2 : 1;    // groups that share their references
        const unsigned g = lane >> 2 & 7, t = lane & 3, warp = warp_number & (kWarps - 1);
        // Row of token 8 r + of_g. What warp and g add to a row and an octet, and what the loops below add, are bits of their own where kOctets is a power of two.
        const auto key_row = [](unsigned r, unsigned of_g) { return 32 * (r >> 2) + 8 * (of_g >> 1) + 4 * (of_g & 1) + (r & 3); };
        constexpr bool kLinear = (kOctets & (kOctets - 1)) == 0;
        const unsigned own = place(kPageTokens, key_row(4 * warp / kOctets, g), 8 * (4 * (4 * warp % kOctets) + t));
        device::ByteTables<kBits> tables;
        tables.init();
        const std::uint32_t exponents = device::from_lane(device::kExponents, 0);
        TQ_UNROLL
        for (unsigned n = 0; n < D / 16; n += kWarps * kTogether) {
            std::uint32_t words[kTogether][8], bytes[kTogether][8], scales[kTogether];
            if (D / 16 % kWarps != 0 && n + warp >= D / 16) break;
            TQ_UNROLL
            for (unsigned i = 0; i < kTogether; ++i) {
                const unsigned group = n + kWarps * i + warp;
                load_group(kSide, [&](unsigned w) { return word_at(kSide, lane, group * kBits + w); }, load, words[i]);
                if (kWholeRows) scales[i] = load.half(static_cast<unsigned>(kSide.scales_offset()) + 2 * (8 * g + 4 * group / kOctets));
            }
            TQ_UNROLL
            for (unsigned i = 0; i < kTogether; ++i) device::decode_bytes<kBits>(tables, words[i], bytes[i]);
            TQ_UNROLL
            for (unsigned u = 0; u < 4; ++u) {
                const unsigned octet = (4 * (n + warp) + u) % kOctets;
                std::uint32_t plus[4];
                reference(4 * octet + t, plus);
                TQ_UNROLL
                for (unsigned i = 0; i < kTogether; ++i) {
                    const unsigned r = (4 * (n + kWarps * i + warp) + u) / kOctets;  // token 8 r + g
                    const std::uint32_t half = kWholeRows ? scales[i] : load.half(static_cast<unsigned>(kSide.scales_offset()) + 2 * (8 * g + r));
                    const std::uint32_t scale = device::permute_bytes(half, half, 0x1010);
                    const std::uint32_t out[4] = {device::fma_halves(device::halves_of<0, 1>(bytes[i][2 * u], exponents), scale, plus[0]),
                                                  device::fma_halves(device::halves_of<2, 3>(bytes[i][2 * u], exponents), scale, plus[1]),
                                                  device::fma_halves(device::halves_of<0, 1>(bytes[i][2 * u + 1], exponents), scale, plus[2]),
                                                  device::fma_halves(device::halves_of<2, 3>(bytes[i][2 * u + 1], exponents), scale, plus[3])};
                    const unsigned first = 4 * (n + kWarps * i) + u;
                    store(kLinear ? place_from(own, place(kPageTokens, key_row(first / kOctets, 0), 32 * (first % kOctets))) : place(kPageTokens, key_row(r, g), 8 * (4 * octet + t)), out);
                }
            }
        }
    }

    // A warp's share of a page's values. valid: tokens from there on count as zero, whatever is in their slots.
    template <int kBits, int kWarps = kProducers, class Load, class Store>
    static TQ_DEV void decode_values(unsigned warp_number, unsigned lane, int valid, Load&& load, Store&& store) {
        constexpr PageSide kSide{Side::value, kHeadDim, kBits};
        const unsigned g = lane >> 2 & 7, t = lane & 3, s = warp_number & 1, upper = warp_number >> 1 & (kWarps / 2 - 1);
        device::ByteTables<kBits> tables;
        tables.init();
        const std::uint32_t exponents = device::from_lane(device::kExponents, 0);
        std::uint32_t scale[4];  // of the chunk's tokens, in pairs that are 8 apart
        load.two(static_cast<unsigned>(kSide.scales_offset()) + 2 * (16 * t + 4 * s), scale);
        load.two(static_cast<unsigned>(kSide.scales_offset()) + 2 * (16 * t + 8 + 4 * s), scale + 2);
        if (valid < kPageTokens) {
            TQ_UNROLL
            for (int i = 0; i < 4; ++i) {
                const int token = static_cast<int>(32 * s + 2 * t) + 16 * (i & 1) + (i >> 1);
                if (token >= valid) scale[i] &= 0xffff0000u;
                if (token + 8 >= valid) scale[i] &= 0x0000ffffu;
            }
        }
        // A lane's part of a word's byte is kept as well, where the sum of the two parts' last two bits does not carry.
        constexpr bool kLinear = kBits != 3 && kOctets % (kWarps / 2) == 0;
        const unsigned own = place(D, 32 * upper + 4 * g, 8 * (4 * s + t)), own_word = word_at(kSide, lane, value_word(kBits, s, upper, 0));
        constexpr unsigned kTogether = kOctets == 4 && kWarps == 4 ? 2 : 1;
        TQ_UNROLL
        for (unsigned n = 0; n < kOctets; n += kWarps / 2 * kTogether) {
            if (kOctets % (kWarps / 2) != 0 && n + upper >= kOctets) break;
            std::uint32_t words[kTogether][8], bytes[kTogether][8];
            TQ_UNROLL
            for (unsigned i = 0; i < kTogether; ++i) {
                const auto at = [&](unsigned w) {
                    return kLinear ? own_word + word_at(kSide, 0, value_word(kBits, 0, n + kWarps / 2 * i, w)) : word_at(kSide, lane, value_word(kBits, s, n + kWarps / 2 * i + upper, w));
                };
                load_group(kSide, at, load, words[i]);
            }
            TQ_UNROLL
            for (unsigned i = 0; i < kTogether; ++i) {
                device::decode_bytes<kBits>(tables, words[i], bytes[i]);
                TQ_UNROLL
                for (unsigned q = 0; q < 4; ++q) {
                    const std::uint32_t out[4] = {device::multiply_halves(device::halves_of<0, 2>(bytes[i][q], exponents), scale[0]),
                                                  device::multiply_halves(device::halves_of<0, 2>(bytes[i][4 + q], exponents), scale[1]),
                                                  device::multiply_halves(device::halves_of<1, 3>(bytes[i][q], exponents), scale[2]),
                                                  device::multiply_halves(device::halves_of<1, 3>(bytes[i][4 + q], exponents), scale[3])};
                    store(place_from(own, place(D, 32 * (n + kWarps / 2 * i) + q, 0)), out);
                }
            }
        }
    }
};

}  // namespace turboquant::cuda

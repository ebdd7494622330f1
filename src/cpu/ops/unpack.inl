// Codes of a simd64 tile -> the operand B of the integer dot products, one 64-lane vector at a time.

namespace {

// Codeword bytes of vector i (0..7) of a chunk.
template <int kBits, int kVector>
[[gnu::always_inline]] inline Isa::Bytes codewords(const CoderParams& p, const std::uint8_t* chunk) {
    constexpr int kMain = kBits == 8 ? 8 : kBits >= 4 ? 4 : 2, kExtra = kBits - kMain;
    constexpr int kPerByte = 8 / kMain;
    const Isa::Bytes plane = Isa::load_bytes(chunk + kVector / kPerByte * 64);
    if constexpr (kBits == 8) {
        return Isa::flip_sign(plane);  // code - 128
    } else {
        const Isa::Bytes low = Isa::shift_mask<kVector % kPerByte * kMain>(plane, (1 << kMain) - 1);
        if constexpr (kExtra == 0) {
            return Isa::lookup(p.codeword, low);
        } else {
            constexpr int kExtraPerByte = 8 / kExtra, kShift = kVector % kExtraPerByte * kExtra;
            const Isa::Bytes high = Isa::load_bytes(chunk + 64 * kMain + kVector / kExtraPerByte * 64);
            const Isa::Bytes bit0 = Isa::shift_mask<kShift>(high, 1);
            if constexpr (kBits == 3) {
                return Isa::select_bytes(bit0, Isa::lookup(p.codeword + 4, low), Isa::lookup(p.codeword, low));
            } else {
                const Isa::Bytes even = Isa::select_bytes(bit0, Isa::lookup(p.codeword + 16, low), Isa::lookup(p.codeword, low));
                if constexpr (kBits == 5) {
                    return even;
                } else {
                    const Isa::Bytes odd = Isa::select_bytes(bit0, Isa::lookup(p.codeword + 48, low), Isa::lookup(p.codeword + 32, low));
                    return Isa::select_bytes(Isa::shift_mask<kShift + 1>(high, 1), odd, even);
                }
            }
        }
    }
}

// Where vector v of a side goes: columns are tokens for keys (k = dims), dims for values (k = tokens).
template <bool kKey>
[[gnu::always_inline]] inline void store_vector(std::uint8_t* b, int dim, int v, Isa::Bytes bytes) {
    if constexpr (kKey) {
        Isa::store_group4(b, kTile, v / 4, v % 4 * 16, bytes);
    } else {
        Isa::store_group4(b, dim, v % 16, v / 16 * 16, bytes);
    }
}

template <int kBits, bool kKey>
void unpack(const CoderParams& p, const std::uint8_t* codes, std::uint8_t* b) {
    const int d = p.head_dim;
    for (int v = 0; v < d; v += 8, codes += 64 * kBits) {
        store_vector<kKey>(b, d, v, codewords<kBits, 0>(p, codes));
        store_vector<kKey>(b, d, v + 1, codewords<kBits, 1>(p, codes));
        store_vector<kKey>(b, d, v + 2, codewords<kBits, 2>(p, codes));
        store_vector<kKey>(b, d, v + 3, codewords<kBits, 3>(p, codes));
        store_vector<kKey>(b, d, v + 4, codewords<kBits, 4>(p, codes));
        store_vector<kKey>(b, d, v + 5, codewords<kBits, 5>(p, codes));
        store_vector<kKey>(b, d, v + 6, codewords<kBits, 6>(p, codes));
        store_vector<kKey>(b, d, v + 7, codewords<kBits, 7>(p, codes));
    }
}

template <bool kKey>
void unpack_tile(const CoderParams& p, const std::uint8_t* codes, std::uint8_t* b) {
    switch (p.bits) {
        case 2: return unpack<2, kKey>(p, codes, b);
        case 3: return unpack<3, kKey>(p, codes, b);
        case 4: return unpack<4, kKey>(p, codes, b);
        case 5: return unpack<5, kKey>(p, codes, b);
        case 6: return unpack<6, kKey>(p, codes, b);
        default: return unpack<8, kKey>(p, codes, b);
    }
}

void decode_tile(const CoderParams& p, bool key_side, const std::uint8_t* codes, const float* scales, float* out, std::uint8_t* scratch) {
    const int d = p.head_dim;
    key_side ? unpack_tile<true>(p, codes, scratch) : unpack_tile<false>(p, codes, scratch);
    for (int t = 0; t < kTile; ++t) {
        for (int j = 0; j < d; ++j) {
            const int codeword = key_side ? Isa::number_at(scratch, kTile, j, t) : Isa::number_at(scratch, d, t, j);
            out[t * d + j] = scales[t] * static_cast<float>(codeword);
        }
    }
}

}  // namespace

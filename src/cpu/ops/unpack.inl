// Codes of a simd64 tile -> the operand B of the integer dot products, one 64-lane vector at a time.

namespace {

constexpr int main_bits(int bits) { return bits == 8 ? 8 : bits >= 4 ? 4 : 2; }

// Codeword bytes of vector i (0..7) of a chunk.
template <int kBits, int kVector>
[[gnu::always_inline]] inline Isa::Bytes codewords(const CoderParams& p, const std::uint8_t* chunk) {
    constexpr int kMain = main_bits(kBits), kExtra = kBits - kMain;
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
            if constexpr (kBits == 3) {
                return Isa::select_bytes<kShift>(high, Isa::lookup(p.codeword + 4, low), Isa::lookup(p.codeword, low));
            } else {
                const Isa::Bytes even = Isa::select_bytes<kShift>(high, Isa::lookup(p.codeword + 16, low), Isa::lookup(p.codeword, low));
                if constexpr (kBits == 5) {
                    return even;
                } else {
                    const Isa::Bytes odd = Isa::select_bytes<kShift>(high, Isa::lookup(p.codeword + 48, low), Isa::lookup(p.codeword + 32, low));
                    return Isa::select_bytes<kShift + 1>(high, odd, even);
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

// Codes along a trellis: what a code stands for depends on the lowest bits u1, u2 of the two codes before it, which lie in the same
// lane of earlier vectors, but for the first vectors of a lane, which go on from the end of the lane before. All of it is done on
// whole planes, several codes per byte.
template <int kBits, bool kKey>
class TrellisPlanes {
public:
    static constexpr int kMain = main_bits(kBits), kPerByte = 8 / kMain;
    static constexpr int kStep = (kKey ? 4 : 16) / kPerByte;  // planes from a code to the one after it

    TrellisPlanes(const std::uint8_t* codes, int head_dim) : codes_(codes) {
        const int planes = head_dim / kPerByte;
        for (int i = 0; i < 2 * kStep; ++i) {
            const Isa::Bytes last = Isa::load_bytes(address(planes - 2 * kStep + i));
            first_[i] = kKey ? Isa::bytes_up(last) : Isa::words_up(last);
        }
    }
    // Main plane number k with u2 taken out of the codes.
    [[gnu::always_inline]] inline Isa::Bytes without_u2(int k) const {
        return Isa::exclusive_or(Isa::load_bytes(address(k)), Isa::shift_mask<0>(at(k - 2 * kStep), kMain == 4 ? 0x11 : 0x55));
    }
    // The plane whose codes' lowest bits are u1.
    [[gnu::always_inline]] inline Isa::Bytes with_u1(int k) const { return at(k - kStep); }

private:
    const std::uint8_t* address(int k) const {
        constexpr int kPlanesPerChunk = 8 / kPerByte;
        return codes_ + k / kPlanesPerChunk * 64 * kBits + k % kPlanesPerChunk * 64;
    }
    [[gnu::always_inline]] inline Isa::Bytes at(int k) const { return k < 0 ? first_[k + 2 * kStep] : Isa::load_bytes(address(k)); }

    const std::uint8_t* codes_;
    Isa::Bytes first_[2 * kStep];
};

// Codeword bytes of the kPerByte vectors of plane kPlane of a chunk; extra holds the chunk's high bits (3 bits only).
template <int kBits, int kPlane>
[[gnu::always_inline]] inline void trellis_codewords(const CoderParams& p, Isa::Bytes main, Isa::Bytes u1, const std::uint8_t* extra, Isa::Bytes* out) {
    if constexpr (kBits == 4) {
        const Isa::Bytes low = Isa::shift_mask<0>(main, 15), high = Isa::shift_mask<4>(main, 15);
        out[0] = Isa::select_bytes<0>(u1, Isa::lookup(p.codeword + 16, low), Isa::lookup(p.codeword, low));
        out[1] = Isa::select_bytes<4>(u1, Isa::lookup(p.codeword + 16, high), Isa::lookup(p.codeword, high));
    } else {
        // Nibbles of u1 and a code: of vectors 0 and 2, and of 1 and 3.
        const Isa::Bytes even = Isa::merge_bits<2>(Isa::shift_mask<0>(main, 0x33), Isa::shift_mask<0>(u1, 0x11));
        const Isa::Bytes odd = Isa::merge_bits<0>(Isa::shift_mask<2>(main, 0x33), Isa::shift_mask<0>(u1, 0x44));
        const Isa::Bytes index[4] = {Isa::shift_mask<0>(even, 15), Isa::shift_mask<0>(odd, 15), Isa::shift_mask<4>(even, 15), Isa::shift_mask<4>(odd, 15)};
        for (int i = 0; i < 4; ++i) out[i] = Isa::lookup(p.codeword, index[i]);
        if constexpr (kBits == 3) {
            const Isa::Bytes high = Isa::load_bytes(extra);
            constexpr int kFirst = kPlane * 4;
            out[0] = Isa::select_bytes<kFirst>(high, Isa::lookup(p.codeword + 8, index[0]), out[0]);
            out[1] = Isa::select_bytes<kFirst + 1>(high, Isa::lookup(p.codeword + 8, index[1]), out[1]);
            out[2] = Isa::select_bytes<kFirst + 2>(high, Isa::lookup(p.codeword + 8, index[2]), out[2]);
            out[3] = Isa::select_bytes<kFirst + 3>(high, Isa::lookup(p.codeword + 8, index[3]), out[3]);
        }
    }
}

template <int kBits, bool kKey>
void unpack_trellis(const CoderParams& p, const std::uint8_t* codes, std::uint8_t* b) {
    using Planes = TrellisPlanes<kBits, kKey>;
    constexpr int kPerByte = Planes::kPerByte;
    const int d = p.head_dim;
    const Planes planes(codes, d);
    for (int v = 0; v < d; v += 8, codes += 64 * kBits) {
        const auto unpack_plane = [&]<int kPlane>() __attribute__((always_inline)) {
            const int k = v / kPerByte + kPlane;
            Isa::Bytes words[kPerByte];
            trellis_codewords<kBits, kPlane>(p, planes.without_u2(k), planes.with_u1(k), codes + 128, words);
            for (int i = 0; i < kPerByte; ++i) store_vector<kKey>(b, d, v + kPlane * kPerByte + i, words[i]);
        };
        unpack_plane.template operator()<0>();
        unpack_plane.template operator()<1>();
        if constexpr (kPerByte == 2) {
            unpack_plane.template operator()<2>();
            unpack_plane.template operator()<3>();
        }
    }
}

template <bool kKey>
void unpack_tile(const CoderParams& p, const std::uint8_t* codes, std::uint8_t* b) {
    switch (p.bits) {
        case 2: return p.trellis ? unpack_trellis<2, kKey>(p, codes, b) : unpack<2, kKey>(p, codes, b);
        case 3: return p.trellis ? unpack_trellis<3, kKey>(p, codes, b) : unpack<3, kKey>(p, codes, b);
        case 4: return p.trellis ? unpack_trellis<4, kKey>(p, codes, b) : unpack<4, kKey>(p, codes, b);
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

// Codes of a simd64 tile -> operands of the integer dot products, one 64-lane vector at a time.

namespace {

constexpr int main_bits(int bits) { return bits == 8 ? 8 : bits >= 4 ? 4 : 2; }

// Planes of codes that follow a trellis: what a code stands for depends on the lowest bits u1, u2 of the two codes before it, which lie
// in the same lane of earlier vectors, but for the first vectors of a lane, which go on from the end of the lane before. All of it is
// done on whole planes, several codes per byte.
template <int kBits, bool kTrellis, bool kKey>
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
        return Isa::xor_masked(Isa::load_bytes(address(k)), at(k - 2 * kStep), kMain == 4 ? 0x11 : 0x55);
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

template <int kBits, bool kKey>
class TrellisPlanes<kBits, false, kKey> {
public:
    TrellisPlanes(const std::uint8_t*, int) {}
};

// Looks codes up, half a chunk (four of its eight vectors) at a time.
//
// Instruction sets with look-ups in 64 entries (V::kWideLookup) make one index of all that a code's meaning depends on; their tables
// repeat, so that bits above the index do not matter and need no masking. The others look up 16 entries and select.
template <int kBits, bool kTrellis, bool kKey, class V = Isa>
class CodeVectors {
public:
    using Bytes = typename V::Bytes;
    static constexpr int kMain = main_bits(kBits), kExtra = kBits - kMain, kPlanesPerChunk = kMain;

    // Which vectors of a chunk make a half: those that come out of the same operations on the planes.
    static constexpr int vector_of(int half, int i) { return kMain == 2 ? 2 * i + half : i / 2 * 4 + half * 2 + i % 2; }

    CodeVectors(const CoderParams& p, const std::uint8_t* codes) : p_(p), codes_(codes), trellis_(codes, p.head_dim), table_{} {
        if constexpr (V::kWideLookup && kBits < 8) table_ = V::wide_table(p.codeword, 1 << (kTrellis ? kBits + 1 : kBits));
    }

    template <int kHalf>
    [[gnu::always_inline]] inline void half(int chunk, Bytes (&out)[4]) const {
        const std::uint8_t* planes = codes_ + static_cast<std::size_t>(chunk) * 64 * kBits;
        if constexpr (kMain == 8) {
            for (int i = 0; i < 4; ++i) out[i] = V::operand_from_unsigned(V::load_bytes(planes + 64 * vector_of(kHalf, i)));
        } else if constexpr (kMain == 4) {
            nibbles<vector_of(kHalf, 0)>(chunk, planes, out[0], out[1]);
            nibbles<vector_of(kHalf, 2)>(chunk, planes, out[2], out[3]);
        } else {
            pairs<vector_of(kHalf, 0)>(chunk, planes, out[0], out[1]);
            pairs<vector_of(kHalf, 2)>(chunk, planes, out[2], out[3]);
        }
    }

private:
    // The extra plane that holds a vector's high bits, and where in its bytes they begin.
    template <int kVector>
    [[gnu::always_inline]] static inline Bytes extra_plane(const std::uint8_t* planes) {
        return V::load_bytes(planes + 64 * kMain + kVector * kExtra / 8 * 64);
    }
    static constexpr int extra_bit(int vector) { return vector * kExtra % 8; }

    // A look-up of a code without a trellis, its main bits lowest in `low`.
    template <int kVector>
    [[gnu::always_inline]] inline Bytes plain(const std::uint8_t* planes, Bytes low) const {
        if constexpr (V::kWideLookup) {
            if constexpr (kExtra > 0) low = V::bit_select((1 << kMain) - 1, low, V::template shift_right<extra_bit(kVector) - kMain>(extra_plane<kVector>(planes)));
            return V::wide_lookup(table_, low);
        } else {
            const auto found = [&](int offset) { return V::lookup(p_.codeword + offset, low); };
            Bytes word = found(0);
            if constexpr (kExtra > 0) {
                constexpr int kBit = extra_bit(kVector);
                const Bytes high = extra_plane<kVector>(planes);
                word = V::template select_bytes<kBit>(high, found(1 << kMain), word);
                if constexpr (kExtra == 2) word = V::template select_bytes<kBit + 1>(high, V::template select_bytes<kBit>(high, found(48), found(32)), word);
            }
            return V::operand(word);
        }
    }

    // 4 main bits: the plane of vectors kVector and kVector + 1.
    template <int kVector>
    [[gnu::always_inline]] inline void nibbles(int chunk, const std::uint8_t* planes, Bytes& even, Bytes& odd) const {
        if constexpr (!kTrellis) {
            const Bytes plane = V::load_bytes(planes + kVector / 2 * 64);
            even = plain<kVector>(planes, narrow_index<0, 15>(plane));
            odd = plain<kVector + 1>(planes, narrow_index<4, 15>(plane));
        } else {
            const int k = chunk * kPlanesPerChunk + kVector / 2;
            const Bytes main = trellis_.without_u2(k), u1 = trellis_.with_u1(k);
            if constexpr (V::kWideLookup) {
                even = V::wide_lookup(table_, V::bit_select(15, main, V::template shift_right<-4>(u1)));
                odd = V::wide_lookup(table_, V::bit_select(15, V::template shift_right<4>(main), u1));
            } else {
                const Bytes low = V::template shift_mask<0>(main, 15), high = V::template shift_mask<4>(main, 15);
                even = V::operand(V::template select_bytes<0>(u1, V::lookup(p_.codeword + 16, low), V::lookup(p_.codeword, low)));
                odd = V::operand(V::template select_bytes<4>(u1, V::lookup(p_.codeword + 16, high), V::lookup(p_.codeword, high)));
            }
        }
    }

    // 2 main bits: vectors kVector and kVector + 2 of a plane.
    template <int kVector>
    [[gnu::always_inline]] inline void pairs(int chunk, const std::uint8_t* planes, Bytes& first, Bytes& second) const {
        constexpr int kOdd = kVector % 2;
        if constexpr (!kTrellis) {
            const Bytes plane = V::load_bytes(planes + kVector / 4 * 64);
            first = plain<kVector>(planes, narrow_index<2 * kOdd, 3>(plane));
            second = plain<kVector + 2>(planes, narrow_index<2 * kOdd + 4, 3>(plane));
        } else {
            const int k = chunk * kPlanesPerChunk + kVector / 4;
            const Bytes main = trellis_.without_u2(k), u1 = trellis_.with_u1(k);
            // Nibbles of u1 and a code: of vectors 0 and 2, or of 1 and 3.
            if constexpr (V::kWideLookup) {
                const Bytes both = kOdd ? V::bit_select(0x33, V::template shift_right<2>(main), u1) : V::bit_select(0x33, main, V::template shift_right<-2>(u1));
                first = V::wide_lookup(table_, with_third_bit<kVector>(planes, both));
                second = V::wide_lookup(table_, with_third_bit<kVector + 2>(planes, V::template shift_right<4>(both)));
            } else {
                const Bytes both = kOdd ? V::template merge_bits<0>(V::template shift_mask<2>(main, 0x33), V::template shift_mask<0>(u1, 0x44))
                                             : V::template merge_bits<2>(V::template shift_mask<0>(main, 0x33), V::template shift_mask<0>(u1, 0x11));
                first = selected_by_third_bit<kVector>(planes, V::template shift_mask<0>(both, 15));
                second = selected_by_third_bit<kVector + 2>(planes, V::template shift_mask<4>(both, 15));
            }
        }
    }
    template <int kVector>
    [[gnu::always_inline]] static inline Bytes with_third_bit(const std::uint8_t* planes, Bytes index) {
        if constexpr (kBits == 3) index = V::bit_select(8, V::template shift_right<extra_bit(kVector) - 3>(extra_plane<kVector>(planes)), index);
        return index;
    }
    template <int kVector>
    [[gnu::always_inline]] inline Bytes selected_by_third_bit(const std::uint8_t* planes, Bytes index) const {
        Bytes word = V::lookup(p_.codeword, index);
        if constexpr (kBits == 3) word = V::template select_bytes<extra_bit(kVector)>(extra_plane<kVector>(planes), V::lookup(p_.codeword + 8, index), word);
        return V::operand(word);
    }
    template <int kShift, int kMask>
    [[gnu::always_inline]] static inline Bytes narrow_index(Bytes plane) {
        if constexpr (V::kWideLookup) {
            return V::template shift_right<kShift>(plane);
        } else {
            return V::template shift_mask<kShift>(plane, kMask);
        }
    }

    const CoderParams& p_;
    const std::uint8_t* codes_;
    TrellisPlanes<kBits, kTrellis, kKey> trellis_;
    typename V::Bytes table_;
};

// Where vector v of a side goes in an operand in memory: columns are tokens for keys (k = dims), dims for values (k = tokens).
template <bool kKey>
[[gnu::always_inline]] inline void store_vector(std::uint8_t* b, int dim, int v, Isa::Bytes operand) {
    if constexpr (kKey) {
        Isa::store_group4(b, kTile, v / 4, v % 4 * 16, operand);
    } else {
        Isa::store_group4(b, dim, v % 16, v / 16 * 16, operand);
    }
}

template <int kBits, bool kTrellis, bool kKey>
void unpack(const CoderParams& p, const std::uint8_t* codes, std::uint8_t* b) {
    const CodeVectors<kBits, kTrellis, kKey> vectors(p, codes);
    for (int chunk = 0; chunk < p.head_dim / 8; ++chunk) {
        Isa::Bytes out[4];
        vectors.template half<0>(chunk, out);
        for (int i = 0; i < 4; ++i) store_vector<kKey>(b, p.head_dim, 8 * chunk + vectors.vector_of(0, i), out[i]);
        vectors.template half<1>(chunk, out);
        for (int i = 0; i < 4; ++i) store_vector<kKey>(b, p.head_dim, 8 * chunk + vectors.vector_of(1, i), out[i]);
    }
}

template <bool kKey>
void unpack_tile(const CoderParams& p, const std::uint8_t* codes, std::uint8_t* b) {
    switch (p.bits) {
        case 2: return p.trellis ? unpack<2, true, kKey>(p, codes, b) : unpack<2, false, kKey>(p, codes, b);
        case 3: return p.trellis ? unpack<3, true, kKey>(p, codes, b) : unpack<3, false, kKey>(p, codes, b);
        case 4: return p.trellis ? unpack<4, true, kKey>(p, codes, b) : unpack<4, false, kKey>(p, codes, b);
        case 5: return unpack<5, false, kKey>(p, codes, b);
        case 6: return unpack<6, false, kKey>(p, codes, b);
        default: return unpack<8, false, kKey>(p, codes, b);
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

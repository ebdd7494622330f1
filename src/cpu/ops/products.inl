// Products of a few rows with a tile: integers with the codes, in memory or straight from the look-up, and floats with exact rows.

namespace {

// --- matrix products, kRows rows x kRegs (two, or one for what is left) registers of columns at a time ---

template <int kRows, int kRegs, class Finish>
void integer_block(const std::int32_t* a, std::size_t row_words, std::size_t plane_words, const std::int32_t* offset, const std::uint8_t* b, int groups, int columns,
                   int column, const Finish& finish) {
    Isa::Dot acc[kRows][kRegs];
    for (auto& row : acc) {
        for (auto& sum : row) sum = Isa::dot_zero();
    }
    const std::uint8_t* at = b + 4 * static_cast<std::size_t>(column);
    for (int g = 0; g < groups; ++g, at += 4 * static_cast<std::size_t>(columns)) {
        Isa::B bs[kRegs];
        for (int i = 0; i < kRegs; ++i) bs[i] = Isa::load_b(at + 4 * i * L);
        for (int r = 0; r < kRows; ++r) {
            for (int i = 0; i < kRegs; ++i) acc[r][i] = Isa::dot_step(acc[r][i], bs[i], a + r * row_words + g, plane_words);
        }
    }
    for (int r = 0; r < kRows; ++r) {
        for (int i = 0; i < kRegs; ++i) finish(r, column + i * L, Isa::dot_value(acc[r][i], offset[r]));
    }
}

// What each row's products have too much (Isa::offset_of).
void offsets(const std::int32_t* a, int rows, int groups, std::int32_t* offset) {
    for (int r = 0; r < rows; ++r) offset[r] = Isa::offset_of(a + static_cast<std::size_t>(r) * groups, static_cast<std::size_t>(rows) * groups, groups);
}

template <int kRows, class Finish>
void integer_rows(const std::int32_t* a, std::size_t plane_words, const std::int32_t* offset, const std::uint8_t* b, int groups, int columns, const Finish& finish) {
    const std::size_t row_words = groups;
    int n = 0;
    for (; n + 2 * L <= columns; n += 2 * L) integer_block<kRows, 2>(a, row_words, plane_words, offset, b, groups, columns, n, finish);
    if (n < columns) integer_block<kRows, 1>(a, row_words, plane_words, offset, b, groups, columns, n, finish);
}

// finish(row, column, value) receives C = A * B with A [rows][groups] words; columns is a multiple of 16.
template <class Finish>
void integer_product(const std::int32_t* a, int rows, std::size_t plane_words, const std::int32_t* offset, const std::uint8_t* b, int groups, int columns, const Finish& finish) {
    for (int r = 0; r < rows; r += 4) {
        const std::int32_t* ar = a + r * static_cast<std::size_t>(groups);
        const auto shifted = [&](int row, int column, F value) { finish(r + row, column, value); };
        switch (rows - r) {
            case 1: integer_rows<1>(ar, plane_words, offset + r, b, groups, columns, shifted); break;
            case 2: integer_rows<2>(ar, plane_words, offset + r, b, groups, columns, shifted); break;
            case 3: integer_rows<3>(ar, plane_words, offset + r, b, groups, columns, shifted); break;
            default: integer_rows<4>(ar, plane_words, offset + r, b, groups, columns, shifted); break;
        }
    }
}

// --- integer products of code vectors that never leave the registers, for few rows: what is decoded again for the next four of them
// costs less than a way through memory. Instruction sets with enough registers only. ---

constexpr int kFusedRows = 8;
constexpr int kTilesAhead = 2;

// Brings the codes of a later tile nearer, a few lines with every step of the work on this one: tiles lie scattered, so that a
// processor's own prefetcher starts anew at each, and all lines at once would only wait for each other.
class Ahead {
public:
    Ahead(const std::uint8_t* at, std::size_t num_bytes, int steps) : at_(at), end_(at + num_bytes), step_((num_bytes / 64 + steps) / steps * 64) {}
    [[gnu::always_inline]] inline void step() {
        const std::uint8_t* next = end_ - at_ < static_cast<std::ptrdiff_t>(step_) ? end_ : at_ + step_;
        for (; at_ < next; at_ += 64) __builtin_prefetch(at_, 0, 2);
    }

private:
    const std::uint8_t *at_, *end_;
    std::size_t step_;
};

// Keys: finish(row, token, value) for L tokens at a time.
template <int kRows, class Codes, class Finish, class V = Isa>
void fused_keys(const Codes& codes, const std::int32_t* a, std::size_t plane_words, const std::int32_t* offset, int dim, Ahead& ahead, const Finish& finish) {
    const std::size_t row_words = dim / V::kGroup;
    const auto half = [&]<int kHalf>() __attribute__((always_inline)) {
        typename V::Dot acc[kRows][2];
        for (auto& row : acc) row[0] = row[1] = V::dot_zero();
        for (int chunk = 0; chunk < dim / 8; ++chunk) {  // eight dims
            typename V::Bytes words[4];
            codes.template half<kHalf>(chunk, words);
            ahead.step();
            for (int group = 0; group < 2; ++group) {
                for (int r = 0; r < kRows; ++r) {
                    for (int i = 0; i < 2; ++i) acc[r][i] = V::dot_step(acc[r][i], V::as_b(words[2 * group + i]), a + r * row_words + 2 * chunk + group, plane_words);
                }
            }
        }
        for (int r = 0; r < kRows; ++r) {
            for (int i = 0; i < 2; ++i) finish(r, Codes::vector_of(kHalf, i) * L, V::dot_value(acc[r][i], offset[r]));
        }
    };
    half.template operator()<0>();
    half.template operator()<1>();
}

// Values: finish(row, dim, value) for L dims at a time.
template <int kRows, class Codes, class Finish, class V = Isa>
void fused_values(const Codes& codes, const std::int32_t* a, std::size_t plane_words, const std::int32_t* offset, int dim, Ahead& ahead, const Finish& finish) {
    constexpr std::size_t kRowWords = kTile / V::kGroup;
    for (int block = 0; block < dim / L; ++block) {
        typename V::Dot acc[kRows][2];
        for (auto& row : acc) row[0] = row[1] = V::dot_zero();
        for (int part = 0; part < 2; ++part) {  // 32 tokens
            const auto half = [&]<int kHalf>() __attribute__((always_inline)) {
                typename V::Bytes words[4];
                codes.template half<kHalf>(2 * block + part, words);
                ahead.step();
                for (int i = 0; i < 4; ++i) {
                    const int group = 8 * part + Codes::vector_of(kHalf, i);
                    for (int r = 0; r < kRows; ++r) acc[r][i % 2] = V::dot_step(acc[r][i % 2], V::as_b(words[i]), a + r * kRowWords + group, plane_words);
                }
            };
            half.template operator()<0>();
            half.template operator()<1>();
        }
        for (int r = 0; r < kRows; ++r) finish(r, block * L, V::dot_value(V::dot_add(acc[r][0], acc[r][1]), offset[r]));
    }
}

template <int kBits, bool kTrellis, bool kKey, class Finish, class V = Isa>
void fused_product(const CoderParams& p, const std::uint8_t* tile, const std::uint8_t* later, const std::int32_t* a, int rows, std::size_t plane_words,
                   const std::int32_t* offset, const Finish& finish) {
    const CodeVectors<kBits, kTrellis, kKey> codes(p, tile);
    const std::size_t blob_bytes = static_cast<std::size_t>(p.head_dim) * kBits * kTile / 8 + 2 * kTile + (kKey ? 2 * static_cast<std::size_t>(p.head_dim) : 0);
    Ahead ahead(later, later ? blob_bytes : 0, p.head_dim / 4);
    const int groups = (kKey ? p.head_dim : kTile) / V::kGroup;
    for (int first = 0; first < rows; first += 4) {
        const std::int32_t* ar = a + static_cast<std::size_t>(first) * groups;
        const auto shifted = [&](int row, int column, F value) { finish(first + row, column, value); };
        const auto product = [&]<int kRows>() {
            if constexpr (kKey) {
                fused_keys<kRows>(codes, ar, plane_words, offset + first, p.head_dim, ahead, shifted);
            } else {
                fused_values<kRows>(codes, ar, plane_words, offset + first, p.head_dim, ahead, shifted);
            }
        };
        switch (rows - first) {
            case 1: product.template operator()<1>(); break;
            case 2: product.template operator()<2>(); break;
            case 3: product.template operator()<3>(); break;
            default: product.template operator()<4>(); break;
        }
    }
}

// finish(row, column, value) receives A times a tile of codes, a column being a token of keys or a dim of values. later: the codes that
// will be asked for next, or null.
template <bool kKey, class Finish>
void code_product(const CoderParams& p, const std::uint8_t* tile, const std::uint8_t* later, const std::int32_t* a, int rows, const std::int32_t* offset, std::uint8_t* scratch,
                  const Finish& finish) {
    const int depth = kKey ? p.head_dim : kTile, groups = depth / Isa::kGroup;
    const std::size_t plane_words = static_cast<std::size_t>(rows) * groups;
    if constexpr (Isa::kDotsInRegisters) {
        if (rows <= kFusedRows) {
            switch (p.trellis ? p.bits : p.bits + 16) {
                case 2: return fused_product<2, true, kKey>(p, tile, later, a, rows, plane_words, offset, finish);
                case 3: return fused_product<3, true, kKey>(p, tile, later, a, rows, plane_words, offset, finish);
                case 4: return fused_product<4, true, kKey>(p, tile, later, a, rows, plane_words, offset, finish);
                case 16 + 4: return fused_product<4, false, kKey>(p, tile, later, a, rows, plane_words, offset, finish);
                case 16 + 8: return fused_product<8, false, kKey>(p, tile, later, a, rows, plane_words, offset, finish);
                default: break;  // the others are for comparison
            }
        }
    }
    unpack_tile<kKey>(p, tile, scratch);
    integer_product(a, rows, plane_words, offset, scratch, groups, kKey ? kTile : p.head_dim, finish);
}

template <int kRows, int kRegs>
void float_block(const float* a, int a_stride, const float* b, int depth, int columns, int column, float* c, bool accumulate) {
    F acc[kRows][kRegs];
    for (int r = 0; r < kRows; ++r) {
        for (int i = 0; i < kRegs; ++i) acc[r][i] = accumulate ? Isa::load(c + r * columns + column + i * L) : Isa::zero();
    }
    for (int k = 0; k < depth; ++k) {
        F bs[kRegs];
        for (int i = 0; i < kRegs; ++i) bs[i] = Isa::load(b + static_cast<std::size_t>(k) * columns + column + i * L);
        for (int r = 0; r < kRows; ++r) {
            const F av = Isa::set(a[r * a_stride + k]);
            for (int i = 0; i < kRegs; ++i) acc[r][i] = Isa::fma(av, bs[i], acc[r][i]);
        }
    }
    for (int r = 0; r < kRows; ++r) {
        for (int i = 0; i < kRegs; ++i) Isa::store(c + r * columns + column + i * L, acc[r][i]);
    }
}

template <int kRows>
void float_rows(const float* a, int a_stride, const float* b, int depth, int columns, float* c, bool accumulate) {
    int n = 0;
    for (; n + 2 * L <= columns; n += 2 * L) float_block<kRows, 2>(a, a_stride, b, depth, columns, n, c, accumulate);
    if (n < columns) float_block<kRows, 1>(a, a_stride, b, depth, columns, n, c, accumulate);
}

// C [rows][columns] = (C +) A [rows][depth] * B [depth][columns]; columns is a multiple of 16.
void float_product(const float* a, int a_stride, int rows, const float* b, int depth, int columns, float* c, bool accumulate) {
    for (int r = 0; r < rows; r += 4) {
        const float* ar = a + r * a_stride;
        float* cr = c + r * columns;
        switch (rows - r) {
            case 1: float_rows<1>(ar, a_stride, b, depth, columns, cr, accumulate); break;
            case 2: float_rows<2>(ar, a_stride, b, depth, columns, cr, accumulate); break;
            case 3: float_rows<3>(ar, a_stride, b, depth, columns, cr, accumulate); break;
            default: float_rows<4>(ar, a_stride, b, depth, columns, cr, accumulate); break;
        }
    }
}

}  // namespace

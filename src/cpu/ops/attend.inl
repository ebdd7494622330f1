// Attention of a block of query rows over a list of tiles, straight on the codes. All query heads of a KV head (and
// neighbouring query tokens) share one unpacking of a tile.
//
// Coded keys:   score = unit[r] * scale[t] * <packed q, codewords> + q . reference
// Coded values: weights times scales are rounded to 16 bits against the tile's largest; the sum stays in rotated space
// Exact tiles:  float arithmetic on the binary16 rows; their sum is kept apart, not rotated
// One running maximum and one total serve both sums (Milakov and Gimelshein 2018).

namespace {

// Bytes of scratch, one after another.
struct Scratch {
    float* scores;          // [kMaxRows][kTile]; becomes weights
    std::int32_t* packed;   // weights packed for dot products
    float* unit;            // [kMaxRows]
    float* total;           // [kMaxRows][lanes] sums of weights
    std::int32_t* query_offset, *weight_offset;  // [kMaxRows]
    float* scales;          // [2][kTile] key and value scales
    float* reference;       // [key_dim]
    float* offset;          // [kMaxRows] q . reference
    float* transposed;      // exact keys [key_dim][kTile]
    float* wide;            // exact rows [kTile][max dim]
    std::uint8_t* b;        // unpacked tile

    static std::size_t bytes(int key_dim, int value_dim) {
        const std::size_t dim = key_dim > value_dim ? key_dim : value_dim;
        return 4 * (kMaxRows * kTile + kMaxRows * kTile * Isa::kPlanes / Isa::kGroup + (4 + L) * kMaxRows + 2 * kTile + dim + 2 * kTile * dim) +
               kTile * dim * Isa::kBytesPerNumber + 13 * 64;
    }
    Scratch(std::uint8_t* p, int key_dim, int value_dim) {
        const std::size_t dim = key_dim > value_dim ? key_dim : value_dim;
        const auto take = [&p](std::size_t num_bytes) {
            std::uint8_t* at = p;
            p += (num_bytes + 63) / 64 * 64;
            return at;
        };
        scores = reinterpret_cast<float*>(take(4 * kMaxRows * kTile));
        packed = reinterpret_cast<std::int32_t*>(take(4 * kMaxRows * kTile * Isa::kPlanes / Isa::kGroup));
        unit = reinterpret_cast<float*>(take(4 * kMaxRows));
        total = reinterpret_cast<float*>(take(4 * kMaxRows * L));
        query_offset = reinterpret_cast<std::int32_t*>(take(4 * kMaxRows));
        weight_offset = reinterpret_cast<std::int32_t*>(take(4 * kMaxRows));
        scales = reinterpret_cast<float*>(take(4 * 2 * kTile));
        reference = reinterpret_cast<float*>(take(4 * dim));
        offset = reinterpret_cast<float*>(take(4 * kMaxRows));
        transposed = reinterpret_cast<float*>(take(4 * kTile * dim));
        wide = reinterpret_cast<float*>(take(4 * kTile * dim));
        b = take(kTile * dim * Isa::kBytesPerNumber);
    }
};

std::size_t attend_scratch_bytes(int key_dim, int value_dim) { return Scratch::bytes(key_dim, value_dim); }

// e^x for x <= 0, relative error below 3e-7; 0 below -87; NaN stays NaN (max keeps its second operand then). Cody-Waite
// reduction, degree-6 Taylor polynomial on +-ln2/2.
F exp_negative(F x) {
    const F lowest = Isa::set(-87.0f), inside = Isa::max(lowest, x);
    const F n = Isa::round(Isa::mul(inside, Isa::set(1.44269504f)));
    const F r = Isa::fma(n, Isa::set(2.12194440e-4f), Isa::fma(n, Isa::set(-0.693359375f), inside));
    F y = Isa::set(1.0f / 720);
    y = Isa::fma(y, r, Isa::set(1.0f / 120));
    y = Isa::fma(y, r, Isa::set(1.0f / 24));
    y = Isa::fma(y, r, Isa::set(1.0f / 6));
    y = Isa::fma(y, r, Isa::set(0.5f));
    y = Isa::fma(y, r, Isa::set(1.0f));
    y = Isa::fma(y, r, Isa::set(1.0f));
    return Isa::select(Isa::gt(lowest, x), Isa::zero(), Isa::scale_exp2(y, n));
}

F tanh_of(F x) {
    const F minus_twice = Isa::mul(Isa::set(-2.0f), Isa::abs(x));
    const F e = exp_negative(minus_twice);
    const F t = Isa::div(Isa::sub(Isa::set(1.0f), e), Isa::add(Isa::set(1.0f), e));
    return Isa::select(Isa::negative(x), Isa::sub(Isa::zero(), t), t);
}

// --- the parts of one tile ---

bool fully_masked(const AttendParams& p, const AttendTile& tile) {
    if (!p.mask) return false;
    const std::uint16_t* seen = nullptr;
    for (int r = 0; r < p.rows; ++r) {
        if (p.mask[r] == seen) continue;
        seen = p.mask[r];
        for (int t = tile.skip; t < tile.count; ++t) {
            if (seen[tile.first_cell + t] != 0xfc00) return false;
        }
    }
    return true;
}

// Records, one after another: all arithmetic is the scheme's.
void record_scores(const AttendParams& p, const AttendTile& tile, const Scratch& s) {
    float column[kMaxRows];
    for (int i = 0; i < p.rows * kTile; i += L) Isa::store(s.scores + i, Isa::zero());
    for (int t = tile.skip; t < tile.count; ++t) {
        p.key_records->scores(p.key_records->scheme, p.query_prepared, p.rows, tile.key + t * p.key_records->record_bytes, column);
        for (int r = 0; r < p.rows; ++r) s.scores[r * kTile + t] = column[r];
    }
}

void record_values(const AttendParams& p, const AttendTile& tile, const Scratch& s) {
    float column[kMaxRows];
    for (int t = tile.skip; t < tile.count; ++t) {
        bool any = false;
        for (int r = 0; r < p.rows; ++r) {
            column[r] = s.scores[r * kTile + t];
            any |= column[r] != 0;
        }
        if (any) p.value_records->accumulate(p.value_records->scheme, column, p.rows, tile.value + t * p.value_records->record_bytes, p.sum_rotated);
    }
}

float dot(const float* a, const float* b, int num) {
    F sum = Isa::zero();
    for (int j = 0; j < num; j += L) sum = Isa::fma(Isa::load(a + j), Isa::load(b + j), sum);
    return Isa::reduce_add(sum);
}

void coded_scores(const AttendParams& p, const AttendTile& tile, const AttendTile& later, const Scratch& s) {
    if (p.key_records) return record_scores(p, tile, s);
    const int d = p.key_dim;
    const std::uint8_t* scales = tile.key + static_cast<std::size_t>(d) * p.key_coder->bits * kTile / 8;
    halves_to_floats(reinterpret_cast<const std::uint16_t*>(scales), s.scales, kTile);
    halves_to_floats(reinterpret_cast<const std::uint16_t*>(scales) + kTile, s.reference, d);
    for (int r = 0; r < p.rows; ++r) s.offset[r] = dot(p.query + r * d, s.reference, d);
    code_product<true>(*p.key_coder, tile.key, later.key_coded ? later.key : nullptr, p.query_packed, p.rows, s.query_offset, s.b, [&](int r, int n, F value) {
        const F scale = Isa::mul(Isa::set(p.query_unit[r]), Isa::load(s.scales + n));
        Isa::store(s.scores + r * kTile + n, Isa::fma(value, scale, Isa::set(s.offset[r])));
    });
    const std::uint16_t* kept = tile.kept;
    for (std::uint64_t left = tile.kept_rows; left; left &= left - 1, kept += d) {
        halves_to_floats(kept, s.wide, d);
        for (int r = 0; r < p.rows; ++r) s.scores[r * kTile + __builtin_ctzll(left)] = dot(p.query + r * d, s.wide, d);
    }
}

// binary16 rows -> wide [kTile][dim]; rows outside [skip, count) are zero. Whether all numbers are finite.
bool widen(const std::uint8_t* rows, int stride, const AttendTile& tile, int dim, float* wide) {
    const auto* in = reinterpret_cast<const std::uint16_t*>(rows);
    F probe = Isa::zero();
    for (int t = 0; t < kTile; ++t) {
        float* out = wide + static_cast<std::size_t>(t) * dim;
        if (t < tile.skip || t >= tile.count) {
            for (int j = 0; j < dim; j += L) Isa::store(out + j, Isa::zero());
        } else {
            for (int j = 0; j < dim; j += L) {
                const F x = Isa::load_half(in + static_cast<std::size_t>(t) * stride + j);
                Isa::store(out + j, x);
                probe = Isa::fma(x, Isa::zero(), probe);
            }
        }
    }
    return Isa::reduce_add(probe) == 0;
}

void exact_scores(const AttendParams& p, const AttendTile& tile, const Scratch& s) {
    const int d = p.key_dim;
    widen(tile.key, tile.key_stride, tile, d, s.wide);
    for (int t = 0; t < kTile; t += L) {
        for (int j = 0; j < d; j += L) Isa::transpose(s.wide + static_cast<std::size_t>(t) * d + j, d, s.transposed + static_cast<std::size_t>(j) * kTile + t, kTile);
    }
    float_product(p.query, d, p.rows, s.transposed, d, kTile, s.scores, false);
}

// Whether all of a tile's scores count as they are, for every row.
bool is_plain(const AttendParams& p, const AttendTile& tile) {
    if (p.softcap != 0 || tile.skip > 0 || tile.count < kTile) return false;
    if (!p.mask) return true;
    const std::uint16_t* seen = nullptr;
    for (int r = 0; r < p.rows; ++r) {
        if (p.mask[r] == seen) continue;
        seen = p.mask[r];
        std::uint64_t set = 0, four[kTile / 4];
        __builtin_memcpy(four, seen + tile.first_cell, sizeof four);
        for (const std::uint64_t cells : four) set |= cells;
        if (set != 0) return false;
    }
    return true;
}

// Soft cap, mask and the tile's edges, in place.
void mask_row(const AttendParams& p, const AttendTile& tile, int r, float* row) {
    const F lowest = Isa::set(-__builtin_inff());
    for (int n = 0; n < kTile; n += L) {
        F score = Isa::load(row + n);
        if (p.softcap != 0) score = Isa::mul(Isa::set(p.softcap), tanh_of(Isa::mul(score, Isa::set(1 / p.softcap))));
        if (p.mask) {
            // The mask's row has cells for whole tiles only where the tile is whole.
            std::uint16_t padded[L];
            const std::uint16_t* cells = p.mask[r] + tile.first_cell + n;
            if (n + L > tile.count) {
                for (int i = 0; i < L; ++i) padded[i] = n + i < tile.count ? cells[i] : std::uint16_t{0xfc00};
                cells = padded;
            }
            const F mask = Isa::load_half(cells);
            score = Isa::select(Isa::gt(mask, lowest), Isa::fma(Isa::set(p.slope[r]), mask, score), lowest);
        }
        if (n < tile.skip || n + L > tile.count) {
            float lanes[L];
            Isa::store(lanes, score);
            for (int i = 0; i < L; ++i) {
                if (n + i < tile.skip || n + i >= tile.count) lanes[i] = -__builtin_inff();
            }
            score = Isa::load(lanes);
        }
        Isa::store(row + n, score);
    }
}

// All that a row has summed up so far, from its old maximum to a larger one.
void raise_maximum(const AttendParams& p, const Scratch& s, int r, float now) {
    float shrunk[L];
    Isa::store(shrunk, exp_negative(Isa::set(p.largest[r] - now)));
    const F factor = Isa::set(shrunk[0]);
    Isa::store(s.total + r * L, Isa::mul(Isa::load(s.total + r * L), factor));
    float* rotated = p.sum_rotated + static_cast<std::size_t>(r) * p.value_dim;
    float* exact = p.sum_exact + static_cast<std::size_t>(r) * p.value_dim;
    for (int j = 0; j < p.value_dim; j += L) {
        Isa::store(rotated + j, Isa::mul(Isa::load(rotated + j), factor));
        Isa::store(exact + j, Isa::mul(Isa::load(exact + j), factor));
    }
    p.largest[r] = now;
}

// Scores -> weights, in place; the row's maximum, total and sums are brought along. Returns false when no weight is left.
bool weigh_row(const AttendParams& p, const Scratch& s, int r, float* row) {
    F score[kTile / L], largest = Isa::set(-__builtin_inff());
    for (int i = 0; i < kTile / L; ++i) {
        score[i] = Isa::load(row + i * L);
        largest = Isa::max(score[i], largest);
    }
    const float before = p.largest[r];
    float now = before;
    if (before == -__builtin_inff() || Isa::any(Isa::gt(largest, Isa::set(before)))) {
        now = __builtin_fmaxf(before, Isa::reduce_max(largest));
        if (now == -__builtin_inff()) {
            bool hidden = true;  // else scores that are NaN and were no maximum: their weights shall be NaN too
            for (int n = 0; n < kTile; ++n) hidden &= row[n] == now;
            if (hidden) {
                for (int n = 0; n < kTile; n += L) Isa::store(row + n, Isa::zero());
                return false;
            }
            now = 0;
        }
        if (now > before) raise_maximum(p, s, r, now);
    }
    F total = Isa::load(s.total + r * L);
    for (int i = 0; i < kTile / L; ++i) {
        const F weight = exp_negative(Isa::sub(score[i], Isa::set(now)));
        Isa::store(row + i * L, weight);
        total = Isa::add(total, weight);
    }
    Isa::store(s.total + r * L, total);
    return true;
}

void coded_values(const AttendParams& p, const AttendTile& tile, const AttendTile& later, const Scratch& s) {
    if (p.value_records) return record_values(p, tile, s);
    const int d = p.value_dim;
    const std::uint8_t* scales = tile.value + static_cast<std::size_t>(d) * p.value_coder->bits * kTile / 8;
    halves_to_floats(reinterpret_cast<const std::uint16_t*>(scales), s.scales + kTile, kTile);
    const std::size_t row_words = kTile / Isa::kGroup, plane_words = row_words * p.rows;
    // A scale that is not finite spoils what its weight touches: a weight of zero wins over it, all others make the row NaN.
    F scale[kTile / L], probe = Isa::zero();
    for (int i = 0; i < kTile / L; ++i) {
        scale[i] = Isa::load(s.scales + kTile + i * L);
        probe = Isa::fma(scale[i], Isa::zero(), probe);
    }
    const bool finite = Isa::reduce_add(probe) == 0;
    for (int r = 0; r < p.rows; ++r) {
        float* row = s.scores + r * kTile;
        F largest = Isa::zero(), spoilt = Isa::zero();
        for (int i = 0; i < kTile / L; ++i) {
            const F weight = Isa::load(row + i * L);
            F scaled = Isa::mul(weight, scale[i]);
            if (!finite) {
                scaled = Isa::keep(Isa::gt(weight, Isa::zero()), scaled);
                spoilt = Isa::fma(scaled, Isa::zero(), spoilt);
            }
            Isa::store(row + i * L, scaled);
            largest = Isa::max(scaled, largest);
        }
        const float top = Isa::reduce_max(largest);
        Isa::pack(row, top > 0 ? Isa::kPackedMax / top : 0.0f, kTile, s.packed + r * row_words, plane_words);
        s.unit[r] = top / Isa::kPackedMax;
        if (!finite) s.unit[r] += Isa::reduce_add(spoilt);
    }
    offsets(s.packed, p.rows, static_cast<int>(row_words), s.weight_offset);
    code_product<false>(*p.value_coder, tile.value, later.value_coded ? later.value : nullptr, s.packed, p.rows, s.weight_offset, s.b, [&](int r, int n, F value) {
        float* sum = p.sum_rotated + static_cast<std::size_t>(r) * d + n;
        Isa::store(sum, Isa::fma(value, Isa::set(s.unit[r]), Isa::load(sum)));
    });
}

void exact_values(const AttendParams& p, const AttendTile& tile, const Scratch& s) {
    const int d = p.value_dim;
    if (widen(tile.value, tile.value_stride, tile, d, s.wide)) return float_product(s.scores, kTile, p.rows, s.wide, kTile, d, p.sum_exact, true);
    // Zero times infinity is NaN: what a row's mask hides must not enter its sum at all.
    for (int r = 0; r < p.rows; ++r) {
        for (int t = 0; t < kTile; ++t) {
            const float weight = s.scores[r * kTile + t];
            float* sum = p.sum_exact + static_cast<std::size_t>(r) * d;
            for (int j = 0; j < d && weight != 0; j += L) Isa::store(sum + j, Isa::fma(Isa::set(weight), Isa::load(s.wide + t * d + j), Isa::load(sum + j)));
        }
    }
}

void attend(const AttendParams& p) {
    const Scratch s(p.scratch, p.key_dim, p.value_dim);
    for (int i = 0; i < p.rows * L; i += L) Isa::store(s.total + i, Isa::zero());
    if (!p.key_records) offsets(p.query_packed, p.rows, p.key_dim / Isa::kGroup, s.query_offset);
    for (int i = 0; i < p.num_tiles; ++i) {
        const AttendTile& tile = p.tiles[i];
        if (fully_masked(p, tile)) continue;
        const AttendTile& later = p.tiles[i + kTilesAhead < p.num_tiles ? i + kTilesAhead : p.num_tiles - 1];
        tile.key_coded ? coded_scores(p, tile, later, s) : exact_scores(p, tile, s);
        bool any = false;
        const bool plain = is_plain(p, tile);
        for (int r = 0; r < p.rows; ++r) {
            if (!plain) mask_row(p, tile, r, s.scores + r * kTile);
            any |= weigh_row(p, s, r, s.scores + r * kTile);
        }
        if (!any) continue;
        tile.value_coded ? coded_values(p, tile, later, s) : exact_values(p, tile, s);
    }
    for (int r = 0; r < p.rows; ++r) p.total[r] = Isa::reduce_add(Isa::load(s.total + r * L));
}

std::size_t packed_words(int rows, int dim) { return static_cast<std::size_t>(rows) * dim * Isa::kPlanes / Isa::kGroup; }

void pack_rows(const float* x, int rows, int dim, std::int32_t* packed, float* unit) {
    // |sum over dim of packed * codeword| stays below 2^31 with codewords up to 127.
    const float safe = 2147483647.0f / (127.0f * static_cast<float>(dim));
    const float top = safe < Isa::kPackedMax ? __builtin_floorf(safe) : Isa::kPackedMax;
    const std::size_t plane_words = static_cast<std::size_t>(rows) * dim / Isa::kGroup;
    for (int r = 0; r < rows; ++r) {
        const float* row = x + static_cast<std::size_t>(r) * dim;
        F largest = Isa::zero();
        bool finite = true;
        for (int j = 0; j < dim; j += L) largest = Isa::max(Isa::abs(Isa::load(row + j)), largest);
        for (int j = 0; j < dim; ++j) finite &= __builtin_fabsf(row[j]) <= 3.402823466e38f;
        const float most = Isa::reduce_max(largest);
        Isa::pack(row, finite && most > 0 ? top / most : 0.0f, dim, packed + static_cast<std::size_t>(r) * dim / Isa::kGroup, plane_words);
        unit[r] = finite ? most / top : __builtin_nanf("");
    }
}

}  // namespace

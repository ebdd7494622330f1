// Rotation and encoding, Isa::kLanes vectors at a time: every lane is one vector, so that each step of the reference's
// definition (butterflies, trees, trials of gains) is an operation between whole registers and needs no shuffle.
// Included once by each per-ISA file, after its vocabulary; no intrinsics here.

namespace {

using F = Isa::F;
constexpr int L = Isa::kLanes;

// x [num][dim] -> soa [dim][L]; lanes beyond num are zero.
void load_lanes(const float* x, int num, int dim, float* soa) {
    if (num == L && dim % L == 0) {
        for (int j = 0; j < dim; j += L) Isa::transpose(x + j, dim, soa + j * L, L);
        return;
    }
    for (int j = 0; j < dim; ++j) {
        for (int i = 0; i < L; ++i) soa[j * L + i] = i < num ? x[i * dim + j] : 0.0f;
    }
}

void store_lanes(const float* soa, int num, int dim, float* x) {
    if (num == L && dim % L == 0) {
        for (int j = 0; j < dim; j += L) Isa::transpose(soa + j * L, L, x + j, dim);
        return;
    }
    for (int i = 0; i < num; ++i) {
        for (int j = 0; j < dim; ++j) x[i * dim + j] = soa[j * L + i];
    }
}

void butterflies(float* y, int run) {
    for (int h = run / 2; h >= 1; h /= 2) {
        for (int i = 0; i < run; i += 2 * h) {
            for (int j = i; j < i + h; ++j) {
                const F u = Isa::load(y + j * L), v = Isa::load(y + (j + h) * L);
                Isa::store(y + j * L, Isa::add(u, v));
                Isa::store(y + (j + h) * L, Isa::sub(u, v));
            }
        }
    }
}

void paley_stage(const CoderParams& p, float* y, bool transposed) {
    for (int b = 0; b < p.run; ++b) {
        F column[36];
        for (int a = 0; a < p.base; ++a) column[a] = Isa::load(y + (a * p.run + b) * L);
        for (int i = 0; i < p.base; ++i) {
            F sum = Isa::zero();
            for (int a = 0; a < p.base; ++a) {
                const F entry = Isa::set(p.paley[transposed ? a * p.base + i : i * p.base + a]);
                const F term = Isa::mul(entry, column[a]);
                sum = a == 0 ? term : Isa::add(sum, term);
            }
            Isa::store(y + (i * p.run + b) * L, sum);
        }
    }
}

void dense_product(const CoderParams& p, float* y, bool transposed) {
    float in[kMaxDim * L];
    const int d = p.head_dim;
    for (int j = 0; j < d * L; ++j) in[j] = y[j];
    for (int i = 0; i < d; ++i) {
        F sum = Isa::zero();
        for (int j = 0; j < d; ++j) {
            const F entry = Isa::set(transposed ? p.dense[static_cast<std::size_t>(j) * d + i] : p.dense[static_cast<std::size_t>(i) * d + j]);
            sum = Isa::add(sum, Isa::mul(entry, Isa::load(in + j * L)));
        }
        Isa::store(y + i * L, sum);
    }
}

void rotate_lanes(const CoderParams& p, float* y) {
    if (p.dense) return dense_product(p, y, false);
    for (int j = 0; j < p.head_dim; ++j) Isa::store(y + j * L, Isa::mul(Isa::load(y + j * L), Isa::set(p.sign[j])));
    for (int a = 0; a < p.base; ++a) butterflies(y + a * p.run * L, p.run);
    if (p.base > 1) paley_stage(p, y, false);
    const F norm = Isa::set(p.norm);
    for (int j = 0; j < p.head_dim; ++j) Isa::store(y + j * L, Isa::mul(Isa::load(y + j * L), norm));
}

void unrotate_lanes(const CoderParams& p, float* y) {
    if (p.dense) return dense_product(p, y, true);
    for (int a = 0; a < p.base; ++a) butterflies(y + a * p.run * L, p.run);
    if (p.base > 1) paley_stage(p, y, true);
    for (int j = 0; j < p.head_dim; ++j) {
        Isa::store(y + j * L, Isa::mul(Isa::load(y + j * L), Isa::set(p.norm * p.sign[j])));
    }
}

template <void (*kStep)(const CoderParams&, float*)>
void for_each_block(const CoderParams& p, float* x, int num) {
    alignas(64) float soa[kMaxDim * L];
    for (int i = 0; i < num; i += L) {
        const int lanes = num - i < L ? num - i : L;
        load_lanes(x + static_cast<std::size_t>(i) * p.head_dim, lanes, p.head_dim, soa);
        kStep(p, soa);
        store_lanes(soa, lanes, p.head_dim, x + static_cast<std::size_t>(i) * p.head_dim);
    }
}

void rotate(const CoderParams& p, float* x, int num) { for_each_block<rotate_lanes>(p, x, num); }
void unrotate(const CoderParams& p, float* x, int num) { for_each_block<unrotate_lanes>(p, x, num); }

// The reference's tree_sum of term(0..dim), terms not negative.
template <class Term>
F tree_sum(int dim, Term term) {
    alignas(64) float partial[512 * L];
    int half = 1;
    while (2 * half < dim) half *= 2;
    for (int i = 0; i < half; ++i) {
        F sum = term(i);
        if (i + half < dim) sum = Isa::add(sum, term(i + half));
        Isa::store(partial + i * L, sum);
    }
    for (int h = half / 2; h >= 1; h /= 2) {
        for (int i = 0; i < h; ++i) {
            Isa::store(partial + i * L, Isa::add(Isa::load(partial + i * L), Isa::load(partial + (i + h) * L)));
        }
    }
    return Isa::load(partial);
}

F kept_scale(const CoderParams& p, F norm2, F dot, F power) {
    const F scale = p.norm_matched ? Isa::sqrt(Isa::div(norm2, power)) : Isa::div(norm2, dot);
    return Isa::min(scale, Isa::set(65504.0f));
}

void encode_uniform_lanes(const CoderParams& p, const float* y, F norm2, float* code, F* scale) {
    F largest = Isa::zero();
    for (int j = 0; j < p.head_dim; ++j) largest = Isa::max(largest, Isa::abs(Isa::load(y + j * L)));
    const F units = Isa::div(Isa::set(127.0f), largest);
    F power = Isa::zero();
    for (int j = 0; j < p.head_dim; ++j) {
        const F in_range = Isa::min(Isa::max(Isa::mul(Isa::load(y + j * L), units), Isa::set(-127.0f)), Isa::set(127.0f));
        const F rounded = Isa::round(in_range);
        power = Isa::add(power, Isa::mul(rounded, rounded));
        Isa::store(code + j * L, rounded);
    }
    const F dot = tree_sum(p.head_dim, [&](int j) { return Isa::mul(Isa::load(y + j * L), Isa::load(code + j * L)); });
    for (int j = 0; j < p.head_dim; ++j) Isa::store(code + j * L, Isa::add(Isa::load(code + j * L), Isa::set(128.0f)));
    *scale = kept_scale(p, norm2, dot, power);
}

template <int kHalf>
void encode_codebook_lanes(const CoderParams& p, const float* y, F norm2, float* code, F* scale) {
    const F units = Isa::div(Isa::set(p.alpha), Isa::sqrt(Isa::div(norm2, Isa::set(static_cast<float>(p.head_dim)))));
    F best_score = Isa::set(-1.0f), best_factor = Isa::zero(), best_scale = Isa::zero();
    for (int g = 0; g < p.num_gains; ++g) {
        const F factor = Isa::mul(Isa::set(p.gain[g]), units);
        F power = Isa::zero();
        const F dot = tree_sum(p.head_dim, [&](int j) {
            const F magnitude = Isa::abs(Isa::load(y + j * L));
            const F scaled = Isa::mul(magnitude, factor);
            F level = Isa::set(p.level[0]);
            for (int k = 1; k < kHalf; ++k) {
                level = Isa::add(level, Isa::keep(Isa::ge(scaled, Isa::set(p.threshold[k])), Isa::set(p.level[k] - p.level[k - 1])));
            }
            power = Isa::add(power, Isa::mul(level, level));
            return Isa::mul(magnitude, level);
        });
        const auto better = Isa::gt(Isa::div(Isa::mul(dot, dot), power), best_score);
        best_score = Isa::select(better, Isa::div(Isa::mul(dot, dot), power), best_score);
        best_factor = Isa::select(better, factor, best_factor);
        best_scale = Isa::select(better, kept_scale(p, norm2, dot, power), best_scale);
    }
    for (int j = 0; j < p.head_dim; ++j) {
        const F v = Isa::load(y + j * L), scaled = Isa::mul(Isa::abs(v), best_factor);
        F index = Isa::zero();
        for (int k = 1; k < kHalf; ++k) index = Isa::add(index, Isa::keep(Isa::ge(scaled, Isa::set(p.threshold[k])), Isa::set(1.0f)));
        const F minus = Isa::sub(Isa::set(kHalf - 1.0f), index), plus = Isa::add(Isa::set(static_cast<float>(kHalf)), index);
        Isa::store(code + j * L, Isa::select(Isa::negative(v), minus, plus));
    }
    *scale = best_scale;
}

// Where there is no look-up of floats: numbers of a vector that are compared with a subset's thresholds before the paths are extended
// over them. Enough that the thresholds are brought into registers once for many, few enough to stay in the first cache.
constexpr int kTrellisBlock = 16;

// Nearest levels of subset s to x [num][L] times factor, and their squared distances.
template <int kPerSubset>
void subset_levels(const CoderParams& p, int s, const float* x, int stride, int num, F factor, float* level, float* cost) {
    F threshold[kPerSubset], step[kPerSubset];
    for (int k = 1; k < kPerSubset; ++k) {
        threshold[k] = Isa::set(p.subset_threshold[s][k]);
        step[k] = Isa::set(p.subset_level[s][k] - p.subset_level[s][k - 1]);
    }
    const F lowest = Isa::set(p.subset_level[s][0]);
    for (int i = 0; i < num; ++i) {
        const F scaled = Isa::mul(Isa::load(x + i * stride), factor);
        F nearest = lowest;
        for (int k = 1; k < kPerSubset; ++k) nearest = Isa::add(nearest, Isa::keep(Isa::ge(scaled, threshold[k]), step[k]));
        const F distance = Isa::sub(scaled, nearest);
        Isa::store(level + i * L, nearest);
        Isa::store(cost + i * L, Isa::mul(distance, distance));
    }
}

constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23: added, it rounds to an integer and leaves that in the lowest bits

// What tells a number's bucket, in registers: the compiler cannot know that no path is written over the params.
struct Buckets {
    F per_unit, first, last;
};

// As subset_levels, for one number and all subsets, looked up by its bucket: of a subset only two levels come into question there. level is
// left alone unless kRecord.
template <int kPerSubset, bool kRecord, class V = Isa>
void bucket_levels(const CoderParams& p, const Buckets& buckets, F scaled, F level[4], F cost[4]) {
    const F rounded = Isa::fma(scaled, buckets.per_unit, Isa::set(kToInteger));
    const F bucket = Isa::min(Isa::max(rounded, buckets.first), buckets.last);  // the first, if NaN
    const auto look_up = [&](const float* by_bucket, float only) {  // two levels have one threshold wherever the number is
        return kPerSubset == 2 ? V::set(only) : V::lookup8(by_bucket, bucket);
    };
    for (int s = 0; s < 4; ++s) {
        const F low = look_up(p.bucket_low[s], p.subset_level[s][0]), high = look_up(p.bucket_high[s], p.subset_level[s][1]);
        F distance;
        if constexpr (kRecord) {
            const F threshold = look_up(p.bucket_threshold[s], p.subset_threshold[s][1]);
            level[s] = Isa::select(Isa::ge(scaled, threshold), high, low);
            distance = Isa::sub(scaled, level[s]);
        } else {
            // From the nearer one: between the two both differences are positive, outside the nearer one's is the negative. Rounding
            // keeps their order, so that the square is to the bit that of the level which the threshold tells.
            distance = Isa::min(Isa::sub(scaled, low), Isa::sub(high, scaled));
        }
        cost[s] = Isa::mul(distance, distance);
    }
}

// Paths into the states 2 * u1 + u2 (core/trellis.hpp), extended over the numbers x [num], `stride` floats apart. error [4]: of the
// best path into each state. With kRecord, chosen receives per number and new state the level taken, plus 256 when the path comes from
// u2 = 1.
template <int kPerSubset, bool kRecord>
void extend_paths(const CoderParams& p, const float* x, int stride, int num, F factor, F error[4], float* chosen) {
    [[maybe_unused]] alignas(64) float levels[4][kTrellisBlock * L], costs[4][kTrellisBlock * L];
    if constexpr (!Isa::kLookup8) {
        for (int s = 0; s < 4; ++s) subset_levels<kPerSubset>(p, s, x, stride, num, factor, levels[s], costs[s]);
    }
    [[maybe_unused]] const Buckets buckets = {Isa::set(p.buckets_per_unit), Isa::set(kToInteger - p.outer_bucket), Isa::set(kToInteger + p.outer_bucket)};
    for (int i = 0; i < num; ++i) {
        F level[4], cost[4], next[4];
        if constexpr (Isa::kLookup8) {
            bucket_levels<kPerSubset, kRecord>(p, buckets, Isa::mul(Isa::load(x + i * stride), factor), level, cost);
        } else {
            for (int s = 0; s < 4; ++s) cost[s] = Isa::load(costs[s] + i * L);
            for (int s = 0; kRecord && s < 4; ++s) level[s] = Isa::load(levels[s] + i * L);
        }
        for (int state = 0; state < 4; ++state) {
            const int u1 = state % 2, other = state ^ 2;  // the subset if u2 is 1
            const F if_0 = Isa::add(error[2 * u1], cost[state]), if_1 = Isa::add(error[2 * u1 + 1], cost[other]);
            next[state] = Isa::min(if_1, if_0);
            if constexpr (kRecord) {
                const auto from_1 = Isa::gt(if_0, if_1);
                Isa::store(chosen + (4 * i + state) * L, Isa::select(from_1, Isa::add(level[other], Isa::set(256.0f)), level[state]));
            }
        }
        for (int s = 0; s < 4; ++s) error[s] = next[s];
    }
}

// Follows the best paths over y times factor, from state 0. error and chosen as above.
template <int kPerSubset, bool kRecord>
void follow_paths(const CoderParams& p, const float* y, int lanes, F factor, F error[4], float* chosen) {
    F best[4] = {Isa::zero(), Isa::set(__builtin_inff()), Isa::set(__builtin_inff()), Isa::set(__builtin_inff())};
    const int per_lane = p.head_dim / lanes;
    for (int lane = 0; lane < lanes; ++lane) {
        for (int i = 0; i < per_lane; i += kTrellisBlock) {
            const int num = per_lane - i < kTrellisBlock ? per_lane - i : kTrellisBlock;
            extend_paths<kPerSubset, kRecord>(p, y + (i * lanes + lane) * L, lanes * L, num, factor, best, chosen);
            if (kRecord) chosen += 4 * num * L;
        }
    }
    for (int s = 0; s < 4; ++s) error[s] = best[s];
}

// Leaves the products of y and the levels in y, and in code where CoderParams::trellis_code has the codes.
template <int kBits>
void encode_trellis_lanes(const CoderParams& p, float* y, F norm2, float* code, F* scale) {
    const int d = p.head_dim, lanes = p.norm_matched ? 4 : 16, per_lane = d / lanes;  // of the layout: keys and values
    const F units = Isa::div(Isa::set(p.alpha), Isa::sqrt(Isa::div(norm2, Isa::set(static_cast<float>(d)))));
    alignas(64) float chosen[4 * kMaxDim * L];
    F least = Isa::zero(), best_factor = Isa::zero(), error[4];
    for (int g = 0; g < p.num_gains; ++g) {
        const F factor = Isa::mul(Isa::set(p.gain[g]), units);
        follow_paths<1 << (kBits - 1), false>(p, y, lanes, factor, error, nullptr);
        F smallest = error[0];
        for (int s = 1; s < 4; ++s) smallest = Isa::select(Isa::gt(smallest, error[s]), error[s], smallest);
        smallest = Isa::div(smallest, Isa::set(p.gain[g] * p.gain[g]));
        const auto better = Isa::gt(least, smallest);
        best_factor = g == 0 ? factor : Isa::select(better, factor, best_factor);
        least = g == 0 ? smallest : Isa::select(better, smallest, least);
    }
    follow_paths<1 << (kBits - 1), true>(p, y, lanes, best_factor, error, chosen);

    // Back along the best path. u and u1, the state, are 0 or 1 in float lanes.
    F u = Isa::zero(), u1 = Isa::zero(), smallest = error[0], power = Isa::zero();
    for (int s = 1; s < 4; ++s) {
        const auto better = Isa::gt(smallest, error[s]);
        smallest = Isa::select(better, error[s], smallest);
        u = Isa::select(better, Isa::set(static_cast<float>(s / 2)), u);
        u1 = Isa::select(better, Isa::set(static_cast<float>(s % 2)), u1);
    }
    const F half = Isa::set(0.5f), step = Isa::set(256.0f);
    const float* taken = chosen + 4 * d * L;
    for (int lane = lanes - 1; lane >= 0; --lane) {
        for (int i = per_lane - 1; i >= 0; --i) {
            taken -= 4 * L;
            const auto high = Isa::gt(u, half), low = Isa::gt(u1, half);
            const F marked = Isa::select(high, Isa::select(low, Isa::load(taken + 3 * L), Isa::load(taken + 2 * L)),
                                         Isa::select(low, Isa::load(taken + L), Isa::load(taken)));
            const auto from_1 = Isa::gt(marked, Isa::set(128.0f));
            const F level = Isa::sub(marked, Isa::keep(from_1, step));
            const int at = (i * lanes + lane) * L;
            power = Isa::add(power, Isa::mul(level, level));
            Isa::store(y + at, Isa::mul(Isa::load(y + at), level));
            Isa::store(code + at, Isa::add(Isa::add(level, Isa::set(128.0f)), Isa::mul(u, step)));
            u = u1;
            u1 = Isa::keep(from_1, Isa::set(1.0f));
        }
    }
    *scale = kept_scale(p, norm2, tree_sum(d, [&](int j) { return Isa::load(y + j * L); }), power);
}

void encode(const CoderParams& p, const float* x, int num, std::uint8_t* codes, float* scales) {
    alignas(64) float y[kMaxDim * L], code[kMaxDim * L];
    float norms[L], block_scales[L];
    for (int i = 0; i < num; i += L) {
        const int lanes = num - i < L ? num - i : L;
        load_lanes(x + static_cast<std::size_t>(i) * p.head_dim, lanes, p.head_dim, y);
        rotate_lanes(p, y);
        const F norm2 = tree_sum(p.head_dim, [&](int j) { return Isa::mul(Isa::load(y + j * L), Isa::load(y + j * L)); });
        F scale = Isa::zero();
        switch (p.bits) {
            case 2: p.trellis ? encode_trellis_lanes<2>(p, y, norm2, code, &scale) : encode_codebook_lanes<2>(p, y, norm2, code, &scale); break;
            case 3: p.trellis ? encode_trellis_lanes<3>(p, y, norm2, code, &scale) : encode_codebook_lanes<4>(p, y, norm2, code, &scale); break;
            case 4: p.trellis ? encode_trellis_lanes<4>(p, y, norm2, code, &scale) : encode_codebook_lanes<8>(p, y, norm2, code, &scale); break;
            case 5: encode_codebook_lanes<16>(p, y, norm2, code, &scale); break;
            case 6: encode_codebook_lanes<32>(p, y, norm2, code, &scale); break;
            default: encode_uniform_lanes(p, y, norm2, code, &scale); break;
        }
        Isa::store(norms, norm2);
        Isa::store(block_scales, scale);
        const int d = p.head_dim;
        store_lanes(code, lanes, d, y);  // y has been used up
        for (int lane = 0; lane < lanes; ++lane) {
            const bool zero = norms[lane] == 0, usable = norms[lane] > 0 && norms[lane] <= 3.402823466e38f;
            std::uint8_t* out = codes + static_cast<std::size_t>(i + lane) * d;
            const float* found = y + lane * d;
            if (!usable) {
                for (int j = 0; j < d; ++j) out[j] = static_cast<std::uint8_t>(1 << (p.bits - 1));
            } else if (p.trellis) {
                for (int j = 0; j < d; ++j) out[j] = p.trellis_code[static_cast<int>(found[j])];
            } else {
                for (int j = 0; j < d; ++j) out[j] = static_cast<std::uint8_t>(static_cast<int>(found[j]));
            }
            scales[i + lane] = usable ? block_scales[lane] : zero ? 0.0f : __builtin_nanf("");
        }
    }
}

void halves_to_floats(const std::uint16_t* in, float* out, std::size_t num) {
    for (; num >= L; num -= L, in += L, out += L) Isa::store(out, Isa::load_half(in));
    std::uint16_t last[L] = {};
    float wide[L];
    for (std::size_t j = 0; j < num && j < L; ++j) last[j] = in[j];
    Isa::store(wide, Isa::load_half(last));
    for (std::size_t j = 0; j < num && j < L; ++j) out[j] = wide[j];
}

void floats_to_halves(const float* in, std::uint16_t* out, std::size_t num) {
    for (; num >= L; num -= L, in += L, out += L) Isa::store_half(out, Isa::load(in));
    float last[L] = {};
    std::uint16_t narrow[L];
    for (std::size_t j = 0; j < num && j < L; ++j) last[j] = in[j];
    Isa::store_half(narrow, Isa::load(last));
    for (std::size_t j = 0; j < num && j < L; ++j) out[j] = narrow[j];
}

}  // namespace

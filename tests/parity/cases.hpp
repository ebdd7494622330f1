// The cases of the parity tests: what every instruction set (and later every device) is compared with the reference on.
// Lists first, then the ways to make inputs. Everything is a function of its seed.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "support/vectors.hpp"

namespace turboquant::parity {

using testing::gaussian;

// Around the widths of registers (8 and 16 lanes) and tiles (64 cells).
inline constexpr int kTokenCounts[] = {0, 1, 15, 16, 17, 63, 64, 65, 127, 130, 300};
inline constexpr int kGroupSizes[] = {1, 2, 3, 4, 7, 8};        // query heads per KV head
inline constexpr int kQueryCounts[] = {1, 2, 5, 21, 22, 64, 70};  // 21 x 3 = 63 and 22 x 3 = 66: around the 64 rows of a kernel call
inline constexpr int kVectorCounts[] = {0, 1, 7, 8, 9, 15, 16, 17, 33};

// What a vector may hold.
enum class Input { normal, zero, minus_zero, one_number, constant, tiny, subnormal, half_subnormal, huge, overflowing, largest_half, nan, infinity, both_infinities };
inline constexpr Input kInputs[] = {Input::normal,         Input::zero, Input::minus_zero,  Input::one_number,   Input::constant, Input::tiny,     Input::subnormal,
                                    Input::half_subnormal, Input::huge, Input::overflowing, Input::largest_half, Input::nan,      Input::infinity, Input::both_infinities};

inline std::vector<float> make_vector(Input input, int dim, std::uint64_t seed) {
    std::vector<float> x = gaussian(dim, seed);
    const auto times = [&](float factor) {
        for (float& v : x) v *= factor;
    };
    const std::size_t at = seed % dim, other = (seed / 7 + 1 + at) % dim;
    switch (input) {
        case Input::normal: break;
        case Input::zero: times(0); for (float& v : x) v = 0; break;
        case Input::minus_zero: for (float& v : x) v = -0.0f; break;
        case Input::one_number: for (float& v : x) v = 0; x[at] = 3; break;
        case Input::constant: for (float& v : x) v = -1.5f; break;
        case Input::tiny: times(1e-20f); break;            // squares underflow to subnormals
        case Input::subnormal: times(1e-40f); break;       // squares underflow to zero
        case Input::half_subnormal: times(3e-8f); break;   // scales below binary16's smallest
        case Input::huge: times(1e18f); break;             // scales beyond binary16's largest
        case Input::overflowing: times(1e25f); break;      // squares overflow
        case Input::largest_half: for (float& v : x) v = v < 0 ? -65504.0f : 65504.0f; break;
        case Input::nan: x[at] = std::numeric_limits<float>::quiet_NaN(); break;
        case Input::infinity: x[at] = -INFINITY; break;
        case Input::both_infinities: x[at] = -INFINITY; x[other] = INFINITY; break;
    }
    return x;
}

// num vectors, one after another: every kind of input in turn, starting anywhere.
inline std::vector<float> make_vectors(int num, int dim, std::uint64_t seed) {
    std::vector<float> all;
    for (int i = 0; i < num; ++i) {
        const std::vector<float> one = make_vector(kInputs[(seed + i) % std::size(kInputs)], dim, seed * 1000 + i);
        all.insert(all.end(), one.begin(), one.end());
    }
    return all;
}

// One call of attend().
struct AttendCase {
    int key_dim, value_dim, key_bits, value_bits;
    int tokens, group_size, queries;
    int kv_heads = 1, streams = 1;
    bool centred = true;
    std::uint64_t seed = 0;
    bool trellis = true;
};

// Every head_dim with every width, the other numbers taking turns; then every number of tokens with every number of queries.
inline std::vector<AttendCase> attend_cases() {
    std::vector<AttendCase> cases;
    std::uint64_t i = 0;
    const auto turn = [&](const auto& list, std::uint64_t step) { return list[i * step % std::size(list)]; };
    for (const int dim : supported_head_dims()) {
        for (const int bits : supported_bits()) {
            AttendCase c{dim, dim, bits, turn(supported_bits(), 5), kTokenCounts[10 - i * 3 % 11], turn(kGroupSizes, 1), turn(kQueryCounts, 3)};
            c.kv_heads = 1 + static_cast<int>(i % 3);
            c.streams = 1 + static_cast<int>(i % 5 == 4);
            c.centred = i % 4 != 3;
            if (dim == 576) c.value_dim = turn(supported_head_dims(), 3);  // keys wider than values, as in latent attention
            if (dim > 128) c.queries = std::min(c.queries, 22);           // the oracle is slow
            c.seed = ++i;
            cases.push_back(c);
            if (std::min(c.key_bits, c.value_bits) > kMaxTrellisBits) continue;
            c.trellis = false;
            c.queries = std::min(c.queries, 2);
            cases.push_back(c);
        }
    }
    for (const int tokens : kTokenCounts) {
        for (const int queries : kQueryCounts) {
            cases.push_back({64, 64, 4, 4, tokens, turn(kGroupSizes, 1), queries});
            cases.back().seed = ++i;
        }
    }
    // More heads share one KV head than a kernel call has rows: Falcon-7B, DeepSeek.
    cases.push_back({64, 64, 4, 4, 130, 71, 2, 1, 1, true, ++i});
    cases.push_back({576, 256, 4, 4, 130, 128, 1, 1, 1, true, ++i});
    return cases;
}

}  // namespace turboquant::parity

// What the user asks for. A Spec defines results; nothing else may change them.
// Presets are named Specs: "k4v4" means 4 stored bits per key number and 4 per value number.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "turboquant/status.hpp"

namespace turboquant {

// Tokens per tile: the unit that shares one key reference and is sealed as a whole.
inline constexpr int kTileTokens = 64;

enum class Rotation : std::uint8_t {
    hadamard,  // random signs, then an orthogonal Hadamard matrix of exactly head_dim
    haar,      // a uniformly random orthogonal matrix (arXiv 2504.19874, section 3.1); slower
};

// How keys become codes. Keys only: values are averaged, and an average has no use for an unbiased product.
enum class Estimator : std::uint8_t {
    mse,   // all bits in the codes (arXiv 2504.19874, Algorithm 1, with what Spec adds to it)
    prod,  // one bit less in the codes, and one for the sign of a sketch of what they leave (Algorithm 2)
};

// The random matrix S of Estimator::prod, head_dim x head_dim.
enum class Sketch : std::uint8_t {
    gaussian,    // independent standard normals (the paper's)
    orthogonal,  // sqrt(head_dim) times an orthogonal matrix of the kind that Spec::rotation names
};

// How values become codes.
enum class ValueScheme : std::uint8_t {
    rotated,  // as keys do
    group,    // not rotated: groups of 32 numbers between their smallest and largest (the original project's)
};

struct Spec {
    int head_dim = 128;                     // numbers per vector; see supported_head_dims()
    int key_bits = 4;                       // stored bits per key number: 2, 3, 4, 5, 6 or 8
    int value_bits = 4;                     // stored bits per value number: the same choices
    Rotation rotation = Rotation::hadamard;
    std::uint64_t seed = 0x54515f76315f0001;  // of the sign streams (and of the Haar matrix)
    bool centred_keys = true;               // subtract the mean of each tile's keys first
    bool balanced_keys = true;              // scale key channels by powers of two, against the queries' (docs/format.md)
    int sink_tokens = 4;                    // first cells of a stream kept exact, 0..16
    int kept_keys = 4;                      // at most so many keys of a sealed tile (per KV head) stay exact, 0..16
    int tail_tiles = 2;                     // newest tiles kept exact, the one being filled included; 0 = none
    bool gain_search = true;                // try several gains per vector and keep the best
    bool trellis_codes = true;              // codes of 2 to 4 bits follow a trellis (docs/format.md), which is worth .25 bit
    bool wide_keys = true;                  // a layer whose key noise would be too large takes 8-bit keys

    // What the paper and the original project do otherwise; never in a default (docs/decisions/0010-the-papers-schemes.md).
    Estimator key_estimator = Estimator::mse;        // prod: key_bits 2, 3 or 4, the sign counted
    Sketch sketch = Sketch::gaussian;                // of prod
    ValueScheme value_scheme = ValueScheme::rotated; // group: value_bits 2 or 4
    bool outlier_split = false;             // a quarter of the channels, the loudest, is coded apart with one bit more

    bool operator==(const Spec&) const = default;
};

// The only place where a Spec is judged. On failure the message names the field, the value and the choices.
Status validate(const Spec& spec);

// Head sizes with an orthogonal Hadamard transform here, ascending.
std::span<const int> supported_head_dims();

// Stored bit widths, ascending.
std::span<const int> supported_bits();

struct Preset {
    std::string name;
    std::string_view summary;  // one line for `turboquant info`
    Spec spec;                 // head_dim is left at its default; the model's is filled in
};

// Every preset, in the order in which users should meet them. The first is the default.
std::span<const Preset> presets();

// The preset of that name, or of the widths that it says ("k5v3": any two of supported_bits()); the error lists all names and the
// nearest one. A name may be followed by settings, each a field of Spec
// and its value after a colon: "k4v4:tail_tiles=1:trellis_codes=0". Every field but head_dim can be set.
Result<Preset> find_preset(std::string_view name);

// Bits per number of sealed tiles at this head_dim, scales and references counted: {keys, values, mean}.
struct CodeBits {
    double keys, values, mean;
};
CodeBits code_bits(const Spec& spec);

}  // namespace turboquant

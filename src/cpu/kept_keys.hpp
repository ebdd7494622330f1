// Keys that stay exact inside sealed tiles: the few that nearly every query looks at (docs/decisions/0009-kept-keys.md).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "turboquant/cache.hpp"
#include "turboquant/spec.hpp"

namespace turboquant {

// The kept rows of one sealed tile and KV head.
struct KeptKeys {
    std::uint64_t rows = 0;                    // which
    std::unique_ptr<std::uint16_t[]> numbers;  // [popcount(rows)][head_dim] binary16, ascending; null when there are none

    std::size_t bytes(int head_dim) const;
    KeptKeys copy(int head_dim) const;
};

// What the latest queries have in common, per stream and query head: their mean and the mean logarithm of their softmax
// denominators, over about kHorizon rows. From both follows a key's mean log weight, E[q . k - log total], for any key.
class QueryTrend {
public:
    static constexpr int kHorizon = 64;

    void reset(int num_streams, int num_heads, int head_dim);

    // The queries of one stream (counted from 0) and head, times the softmax scale, and log_totals [num_queries]: the logarithms
    // of their denominators. Rows that saw nothing (-infinity) do not count.
    void add(int stream, int head, const float* query, std::size_t query_stride, int num_queries, float scale, const float* log_totals);

    // A stream that has had no queries yet, such as one that a saved state goes into, borrows another one's; -infinity before the
    // first query of all.
    float log_weight(int stream, int head, const float* key) const;

    std::size_t bytes() const { return 4 * (sum_.size() + log_total_.size() + weight_.size()); }
    int num_heads() const { return num_heads_; }
    bool any() const { return num_heads_ > 0; }

private:
    int num_heads_ = 0, head_dim_ = 0;
    std::vector<float> sum_, log_total_, weight_;  // [stream][head] ([head_dim]); sums that fade
};

// A row is kept when (its mean weight) * |q|^2 |k - reference|^2 / head_dim is above this: the KL divergence that its coding error
// would cause, in units of twice the codes' relative distortion. Decision 0009 has the measurements behind the number.
inline constexpr float kKeptKeyHarm = 0.05f;

// Codes of more bits have no error that is worth a key's bytes.
inline constexpr int kMostKeptBits = 5;

// The rows among `candidates` worth keeping, at most max_rows: those with the largest harm.
std::uint64_t most_harmful(const std::array<float, kTileTokens>& harm, std::uint64_t candidates, int max_rows);

}  // namespace turboquant

// What the paper and the original project do beside our own codes: a vector becomes one record of bytes, and attention works on
// records. Three schemes: prod (arXiv 2504.19874, Algorithm 2), group (min-max values) and split (outlier channels apart).
// docs/format.md section 12 has the bytes.
//
// A scheme is linear in what it is asked: scores are sums over codes against a prepared query, weighted values are summed in the
// space of the codes and brought back once, by finish(). No record is ever turned back into a vector for attention.
//
// This is scalar code, compiled once; it is the definition of the bytes and what stores run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/rotation.hpp"
#include "turboquant/spec.hpp"

namespace turboquant {

class RowScheme {
public:
    virtual ~RowScheme() = default;

    virtual int head_dim() const = 0;
    virtual std::size_t record_bytes() const = 0;

    // x [head_dim] -> record [record_bytes]. A vector with an infinity or NaN makes a record that scores and decodes as NaN (group:
    // in the groups that hold one). A record of zero bytes is the zero vector.
    virtual void encode(const float* x, std::uint8_t* record) const = 0;
    virtual void decode(const std::uint8_t* record, float* x) const = 0;

    // q [head_dim] -> prepared [prepared_numbers].
    virtual std::size_t prepared_numbers() const = 0;
    virtual void prepare(const float* q, float* prepared) const = 0;

    // scores [num_queries]: the estimates of q . x for prepared queries, one after another; equal to q . decode(record) but for
    // float rounding.
    virtual void scores(const float* prepared, int num_queries, const std::uint8_t* record, float* scores) const = 0;

    // sums [num_sums][sum_numbers] += weights [num_sums] * the vector. A weight of 0 adds nothing, whatever the record holds.
    virtual std::size_t sum_numbers() const = 0;
    virtual void accumulate(const float* weights, int num_sums, const std::uint8_t* record, float* sums) const = 0;
    // sum [sum_numbers] -> out [head_dim], which may be sum: the weighted sum of the vectors.
    virtual void finish(const float* sum, float* out) const = 0;

    // Memory of this object that it shares with no other.
    virtual std::size_t own_bytes() const = 0;
};

// Whether this side of a valid spec is coded by records; otherwise it is coded by tiles (core/reference.hpp).
bool uses_records(const Spec& spec, Side side);

// Channels of a vector that outlier_split codes apart.
constexpr int num_outliers(int head_dim) { return head_dim / 4; }

// The loudest ones: those with the largest power [head_dim] (of equal ones the first), ascending.
std::vector<std::uint16_t> outlier_channels(std::span<const double> power);

// spec must be valid and uses_records(). outliers: for outlier_split, num_outliers(head_dim) ascending channels; others ignore it.
std::unique_ptr<const RowScheme> make_scheme(const Spec& spec, Side side, std::span<const std::uint16_t> outliers = {});

// Bytes of a sealed tile of one KV head, however its side is coded. spec must be valid.
std::size_t sealed_tile_bytes(const Spec& spec, Side side);

}  // namespace turboquant

// What the encoder's kernels look levels up in: by bucket they must find what comparing with every threshold finds.
#include "cpu/coder_params.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <vector>

#include "core/trellis.hpp"
#include "support/vectors.hpp"

namespace turboquant {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

cpu::CoderParams params_of(int bits, Side side) { return cpu::coder_params(make_coder(testing::spec_of(64, bits), side)); }

// As src/cpu/ops/encode.inl has it, with fused multiplication and addition or without.
int table_index(const cpu::CoderParams& p, float x, bool fused) {
    constexpr float kToInteger = 12582912.0f;
    const float rounded = fused ? std::fma(x, p.buckets_per_unit, kToInteger) : x * p.buckets_per_unit + kToInteger;
    const float first = kToInteger - p.outer_bucket, last = kToInteger + p.outer_bucket;
    const float not_below = rounded > first ? rounded : first;
    return static_cast<int>(std::bit_cast<std::uint32_t>(not_below < last ? not_below : last) % 16);
}

float nearest_by_thresholds(const cpu::CoderParams& p, int subset, float x) {
    float level = p.subset_level[subset][0];
    for (int k = 1; k < 1 << (p.bits - 1); ++k) {
        if (x >= p.subset_threshold[subset][k]) level = p.subset_level[subset][k];
    }
    return level;
}

// Close together, every threshold and every bucket's edge with the floats beside it, and what is no number of ours.
std::vector<float> numbers(const cpu::CoderParams& p) {
    std::vector<float> x = {0.0f, -0.0f, 1e-45f, -1e-45f, 1e30f, -1e30f, 3.4e38f, -3.4e38f, kInfinity, -kInfinity};
    for (int i = -160 * 64; i <= 160 * 64; ++i) x.push_back(static_cast<float>(i) / 64 + 1e-3f * static_cast<float>(i % 7));
    std::vector<float> edges;
    for (const auto& subset : p.subset_threshold) edges.insert(edges.end(), std::begin(subset), std::end(subset));
    for (int b = -kOuterBucket; b < kOuterBucket; ++b) edges.push_back((static_cast<float>(b) + 0.5f) / p.buckets_per_unit);
    for (const float edge : edges) {
        float below = edge, above = edge;
        x.push_back(edge);
        for (int i = 0; i < 4; ++i) {
            x.push_back(below = std::nextafter(below, -kInfinity));
            x.push_back(above = std::nextafter(above, kInfinity));
        }
    }
    return x;
}

void expect_same_levels(const cpu::CoderParams& p, float x) {
    for (const bool fused : {false, true}) {
        const int at = table_index(p, x, fused);
        for (int s = 0; s < 4; ++s) {
            const float low = p.bucket_low[s][at], high = p.bucket_high[s][at], expected = nearest_by_thresholds(p, s, x);
            ASSERT_EQ(x >= p.bucket_threshold[s][at] ? high : low, expected) << x << ", subset " << s;
            const float nearer = std::min(x - low, high - x), distance = x - expected;
            ASSERT_EQ(nearer * nearer, distance * distance) << x << ", subset " << s;
        }
    }
}

TEST(CoderParams, BucketsFindTheNearestLevels) {
    for (const Side side : {Side::key, Side::value}) {
        for (int bits = 2; bits <= kMaxTrellisBits; ++bits) {
            SCOPED_TRACE(bits);
            const cpu::CoderParams p = params_of(bits, side);
            for (const float x : numbers(p)) expect_same_levels(p, x);
        }
    }
}

TEST(CoderParams, NaNFallsIntoTheFirstBucket) {
    const cpu::CoderParams p = params_of(4, Side::key);
    for (const bool fused : {false, true}) EXPECT_EQ(table_index(p, std::nanf(""), fused), 16 - kOuterBucket);
}

TEST(CoderParams, EveryThresholdHasABucketOfItsOwn) {
    for (int bits = 2; bits <= kMaxTrellisBits; ++bits) {
        const TrellisBook& book = trellis_book(bits);
        const cpu::CoderParams p = params_of(bits, Side::key);
        for (int s = 0; s < 4; ++s) {
            for (int k = 1; k < book.subset_size(); ++k) {
                const int at = trellis_bucket(book.threshold(s, k)) & 7;
                EXPECT_EQ(p.bucket_threshold[s][at], book.threshold(s, k)) << bits << " bits, subset " << s;
                EXPECT_LT(p.bucket_low[s][at], p.bucket_high[s][at]);
                EXPECT_EQ(p.bucket_low[s][at], p.bucket_low[s][at + 8]);
            }
        }
    }
}

}  // namespace
}  // namespace turboquant

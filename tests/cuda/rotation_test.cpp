// Vectors that four lanes have between them (device/rotation.cuh), lane by lane on the CPU, against the definition in core/rotation.hpp.
#include "cuda/device/rotation.cuh"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "core/rotation.hpp"
#include "cuda/checks.hpp"
#include "fibers.hpp"

namespace turboquant {
namespace {

template <int kHeadDim, bool kShort>
void check_quads() {
    constexpr int kPadded = device::RotationShape<kHeadDim>::kPadded, kOwn = kPadded / 4, kVectors = 8;
    for (bool inverse : {false, true}) {
        const auto tables = rotation_tables(kHeadDim, Rotation::hadamard, 3, Side::value);
        const cuda::RotationBits bits = cuda::rotation_bits(kHeadDim, 3, Side::value, inverse);
        std::mt19937 engine(kHeadDim);
        std::normal_distribution<float> normal;
        std::vector<float> x(kVectors * kPadded, 0.0f), got(x.size());
        for (int v = 0; v < kVectors; ++v) {
            for (int i = 0; i < kHeadDim; ++i) x[v * kPadded + i] = normal(engine);
        }
        test::Warp::run([&] {
            const int first = device::lane_id() / 4 * kPadded + device::lane_id() % 4 * kOwn;
            float own[kOwn];
            for (int i = 0; i < kOwn; ++i) own[i] = x[first + i];
            if (inverse) device::unrotate_quads<kHeadDim, kShort>(own, bits.sign, bits.paley);
            else device::rotate_quads<kHeadDim, kShort>(own, bits.sign, bits.paley);
            for (int i = 0; i < kOwn; ++i) got[first + i] = own[i];
        });
        for (int v = 0; v < kVectors; ++v) {
            std::vector<float> want(&x[v * kPadded], &x[v * kPadded] + kHeadDim);
            if (inverse) rotate_inverse(*tables, want.data());
            else rotate_forward(*tables, want.data());
            for (int i = 0; i < kPadded; ++i) {
                const float found = got[v * kPadded + i] * tables->norm;
                if (i < kHeadDim) ASSERT_NEAR(found, want[i], 3e-6f) << (inverse ? "inverse, " : "") << "head_dim " << kHeadDim << ", vector " << v << ", number " << i;
                else ASSERT_EQ(found, 0) << "head_dim " << kHeadDim << ", beyond it";
            }
        }
    }
}

template <int kHeadDim>
void check_both() {
    check_quads<kHeadDim, false>();
    check_quads<kHeadDim, true>();
}

TEST(CudaRotation, QuadsAndTheirInverse) {
    check_both<64>();
    check_both<80>();
    check_both<96>();
    check_both<112>();
    check_both<128>();
    check_both<192>();
    check_both<256>();
}

}  // namespace
}  // namespace turboquant

// One number of a row turned by its position (core/rope.hpp), bit for bit. Compile with -fmad=false.
#pragma once

#include "cuda/device/warp.cuh"

namespace turboquant::device {

struct RopePlace {
    int pair, partner;  // which entry of the tables, and the pair's other number
    bool second;
};
// dim is below 2 * half. interleaved: pairs are neighbours, else halves apart.
TQ_DEV RopePlace rope_place(bool interleaved, int half, int dim) {
    if (interleaved) return {dim / 2, dim ^ 1, dim % 2 != 0};
    return dim < half ? RopePlace{dim, dim + half, false} : RopePlace{dim - half, dim - half, true};
}

TQ_DEV float rope_number(float own, float partner, float cosine, float sine, bool second) {
    const float straight = own * cosine, across = partner * sine;
    return second ? straight + across : straight - across;
}

// To the nearest bf16, halves to even, as a float; NaN stays NaN.
TQ_DEV float round_to_bf16(float x) {
    const std::uint32_t bits = as_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return x;
    return as_float((bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u);
}

}  // namespace turboquant::device

// A consuming warpgroup: 64 query rows (rows.cuh) against the tiles that the producers make, in rotated space.
#pragma once

#include "cuda/device/warpgroup.cuh"
#include "cuda/prefill/produce.cuh"
#include "cuda/prefill/rows.cuh"

namespace turboquant::cuda {

template <int kHeadDim>
struct Consumer : QueryRows<kHeadDim, PrefillShape<kHeadDim>> {
    using Shape = PrefillShape<kHeadDim>;
    using Rows = QueryRows<kHeadDim, Shape>;
    using Rows::D, Rows::kSteps, Rows::kRegisterSteps, Rows::q, Rows::out;
    static constexpr int kColumns = D == 256 ? 128 : D;  // of one product with values: 256 would need too many registers

    __device__ __forceinline__ void start(const PrefillUnit<Shape::kRows>& piece, const std::uint16_t* reference) {
        Rows::start(piece, reference);
        if constexpr (kRegisterSteps < kSteps) {
            device::publish();
            device::meet_named(1 + (threadIdx.x >> 7), 128);
        }
    }
    // Issue products; their sums are there after wait(). tile: lower half of its descriptor.
    __device__ __forceinline__ void score(float* s, std::uint32_t tile) {
        device::hold<32>(s);
        device::products_begin();
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
            const std::uint32_t at = ((i / 4) * 8192 + (i % 4) * 32) / 16;
            const std::uint64_t keys = device::tile_operand(tile + at);
            if (i < kSteps - kRegisterSteps) device::Products<64>::add_shared(s, device::tile_operand(device::operand_low(Rows::queries(threadIdx.x)) + at), keys, i > 0);
            else device::Products<64>::add(s, q[i - (kSteps - kRegisterSteps)], keys, i > 0);
        }
        device::products_commit();
    }
    // Until the scores are there, while kLater products with values may be under way.
    template <int kLater = 0>
    __device__ __forceinline__ void wait_scores(float* s) {
        device::products_wait<kLater>();
        device::hold<32>(s);
    }
    __device__ __forceinline__ void wait_values() {
        device::products_wait();
        device::hold<D / 2>(out);
    }

    __device__ __forceinline__ void add_values(const std::uint32_t* weights, std::uint32_t tile) {
        device::hold<D / 2>(out);
        device::products_begin();
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int half = 0; half < D / kColumns; ++half) {
                device::Products<kColumns>::add(out + half * (kColumns / 2), weights + 4 * i, device::tile_operand(tile + (half * kColumns * kTileRowBytes + 32 * i) / 16), 1);
            }
        }
        device::products_commit();
    }
};

template <int kHeadDim>
__device__ __forceinline__ void consume(const PrefillParams& p) {
    using Shape = PrefillShape<kHeadDim>;
    const std::uint32_t memory = device::shared_address(prefill_shared);
    const Barriers barriers{memory + static_cast<std::uint32_t>(Shape::kBarriers)};
    const auto* starts = reinterpret_cast<const std::uint32_t*>(prefill_shared + Shape::kStarts);
    Consumer<kHeadDim> math{{p}};
    Turn<Shape::kKeyStages, Shape::kCtas> keys;
    Turn<Shape::kValueStages, Shape::kCtas> values;
    const std::uint32_t tiles = device::operand_low(memory);
    using Way = PrefillWay<Shape::kRows>;
    static_assert(sizeof(Way) <= kWayBytes);
    // Its address is known to be the same in all lanes, and so is what is read there (uniform()).
    Way* const kept = reinterpret_cast<Way*>(prefill_shared + Shape::kWays + device::uniform(static_cast<int>(threadIdx.x / 32 - Shape::kFirstThread / 32)) * kWayBytes);
    Way::start(p.a, PrefillPlan(p.a, gridDim.x / Shape::kCtas, starts), blockIdx.x / Shape::kCtas, kept);
    Way way;
#pragma unroll 1
    do {
        way = *kept;
        int token = (way.unit.pages.first + static_cast<int>(way.item - way.unit.start)) * kPageTokens, left = device::uniform(static_cast<int>(way.stop() - way.item));
        math.start(way.unit, reinterpret_cast<const std::uint16_t*>(p.a.pool + way.unit.blob(p.a, way.item) * 128 + p.layout.keys().reference_offset()));
        float scores[32], factor[2];
        std::uint32_t weights[16];
        const auto key_tile = [&] { return device::uniform(tiles + keys.stage * static_cast<std::uint32_t>(Shape::kKeyTile / 16)); };
        const auto value_tile = [&] { return device::uniform(tiles + static_cast<std::uint32_t>(Shape::kValues / 16) + values.stage * static_cast<std::uint32_t>(Shape::kValueTile / 16)); };
        if constexpr (Shape::kAhead) {
            device::barrier_wait(barriers.key_full(keys.stage), keys.full_phase());
            math.score(scores, key_tile());
            math.wait_scores(scores);
            arrive_at<Shape::kCtas>(barriers.key_empty(keys.stage), keys.next_writer());
            keys.next();
            math.soften(scores, token, factor);  // there are no sums yet
#pragma unroll 1
            while (--left > 0) {  // this page's values are multiplied beside the next one's softmax
                math.pack(scores, weights);
                device::barrier_wait(barriers.key_full(keys.stage), keys.full_phase());
                math.score(scores, key_tile());
                device::barrier_wait(barriers.value_full(values.stage), values.full_phase());
                math.add_values(weights, value_tile());
                math.template wait_scores<1>(scores);
                arrive_at<Shape::kCtas>(barriers.key_empty(keys.stage), keys.next_writer());
                keys.next();
                token += kPageTokens;
                const bool raised = math.soften(scores, token, factor);
                math.wait_values();
                if (raised) math.rescale(factor);
                arrive_at<Shape::kCtas>(barriers.value_empty(values.stage), values.next_writer());
                values.next();
            }
            math.pack(scores, weights);
            device::barrier_wait(barriers.value_full(values.stage), values.full_phase());
            math.add_values(weights, value_tile());
            math.wait_values();
            arrive_at<Shape::kCtas>(barriers.value_empty(values.stage), values.next_writer());
            values.next();
        } else {
#pragma unroll 1
            do {
                device::barrier_wait(barriers.key_full(keys.stage), keys.full_phase());
                math.score(scores, key_tile());
                math.wait_scores(scores);
                arrive_at<Shape::kCtas>(barriers.key_empty(keys.stage), keys.next_writer());
                keys.next();
                if (math.soften(scores, token, factor)) math.rescale(factor);
                math.pack(scores, weights);
                device::barrier_wait(barriers.value_full(values.stage), values.full_phase());
                math.add_values(weights, value_tile());
                math.wait_values();
                arrive_at<Shape::kCtas>(barriers.value_empty(values.stage), values.next_writer());
                values.next();
                token += kPageTokens;
            } while (--left > 0);
        }
        way = *kept;
        math.finish(way.unit, way.complete(), p.a.partials + (2 * static_cast<std::size_t>(blockIdx.x / Shape::kCtas) + (way.begins() ? 1 : 0)) * Shape::kPartial);
    } while (device::uniform(static_cast<int>(way.next(p.a, kept))));
}

}  // namespace turboquant::cuda

// What four warps make of a page's codes, lane by lane on the CPU: the operands of prefill's matrix products, for every head_dim and width.
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

#include "core/codebook.hpp"
#include "core/half.hpp"
#include "fibers.hpp"
#include "cuda/prefill/tiles.cuh"

namespace turboquant::cuda {
namespace {

struct Part {
    const std::uint8_t* bytes;
    std::uint32_t one(int at) const { std::uint32_t w; std::memcpy(&w, bytes + at, 4); return w; }
    std::uint32_t half(int at) const { std::uint16_t h; std::memcpy(&h, bytes + at, 2); return h; }
    void two(int at, std::uint32_t* w) const { std::memcpy(w, bytes + at, 8); }
    void four(int at, std::uint32_t* w) const { std::memcpy(w, bytes + at, 16); }
};

std::vector<std::uint8_t> random_part(const PageSide& side, unsigned seed) {
    std::mt19937 engine(seed);
    std::vector<std::uint8_t> part(side.part_bytes());
    for (auto& b : part) b = static_cast<std::uint8_t>(engine());
    for (int t = 0; t < kPageTokens; ++t) {
        const std::uint16_t scale = float_to_half(0.01f + 0.05f * static_cast<float>(engine() % 1000) / 1000);
        std::memcpy(&part[side.scales_offset() + 2 * t], &scale, 2);
    }
    return part;
}

float scale_of(const PageSide& side, const std::vector<std::uint8_t>& part, int token) {
    std::uint16_t half;
    std::memcpy(&half, &part[side.scales_offset() + 2 * PageSide::scale_index(token)], 2);
    return half_to_float(half);
}

// Collects what lanes store; every chunk once, and eight neighbouring lanes never two chunks of the same banks.
struct Tile {
    std::vector<std::uint8_t> bytes;
    std::vector<int> written;
    std::vector<std::vector<int>> order = std::vector<std::vector<int>>(32);
    explicit Tile(int size) : bytes(size), written(size / 16) {}
    void store(int at, const std::uint32_t* four) {
        ASSERT_EQ(at % 16, 0);
        std::memcpy(&bytes[at], four, 16);
        ++written[at / 16];
        order[device::lane_id()].push_back(at);
    }
    float number(int at) const { std::uint16_t h; std::memcpy(&h, &bytes[at], 2); return half_to_float(h); }
    void check_banks() const {
        for (std::size_t i = 0; i < order[0].size(); ++i) {
            for (int first = 0; first < 32; first += 8) {
                std::set<int> chunks;
                for (int lane = first; lane < first + 8; ++lane) chunks.insert(order[lane][i] / 16 % 8);
                ASSERT_EQ(chunks.size(), 8u);
            }
        }
    }
};

template <int kHeadDim, int kBits>
void check_keys() {
    using Tiles = PrefillTiles<kHeadDim>;
    constexpr PageSide side{Side::key, kHeadDim, kBits};
    const std::vector<std::uint8_t> part = random_part(side, 1);
    Tile tile(Tiles::kKeyBytes);
    const auto plus = [](int dim) { return 0.001f * static_cast<float>(dim % 50) - 0.01f; };
    test::Warp::run([&] {
        for (int warp = 0; warp < kProducers; ++warp) {
            Tiles::template decode_keys<kBits>(warp, device::lane_id(), Part{part.data()}, [&](int chunk, std::uint32_t* words) {
                for (int i = 0; i < 4; ++i) words[i] = device::pack_halves(plus(Tiles::key_dim_at(8 * chunk + 2 * i)), plus(Tiles::key_dim_at(8 * chunk + 2 * i + 1)));
            }, [&](int at, const std::uint32_t* four) { tile.store(at, four); });
        }
    });
    tile.check_banks();
    for (int n = 0; n < kPageTokens; ++n) {
        for (int p = 0; p < Tiles::D; ++p) {
            const int token = Tiles::token_at(n), dim = Tiles::key_dim_at(p), at = Tiles::place(kPageTokens, n, p);
            ASSERT_EQ(Tiles::key_position(dim), static_cast<unsigned>(p));
            ASSERT_EQ(tile.written[at / 16], 1);
            const float word = static_cast<float>(codeword_of(kBits, page_get_code(side, part.data(), token, dim))) / 128;
            const float want = half_to_float(float_to_half(word * scale_of(side, part, token) + half_to_float(float_to_half(plus(dim)))));
            ASSERT_EQ(tile.number(at), want) << kHeadDim << " " << kBits << " token " << token << " dim " << dim;
        }
    }
}

template <int kHeadDim, int kBits>
void check_values(int valid) {
    using Tiles = PrefillTiles<kHeadDim>;
    constexpr PageSide side{Side::value, kHeadDim, kBits};
    const std::vector<std::uint8_t> part = random_part(side, 2);
    Tile tile(Tiles::kValueBytes);
    test::Warp::run([&] {
        for (int warp = 0; warp < kProducers; ++warp) {
            Tiles::template decode_values<kBits>(warp, device::lane_id(), valid, Part{part.data()}, [&](int at, const std::uint32_t* four) { tile.store(at, four); });
        }
    });
    tile.check_banks();
    for (int n = 0; n < Tiles::D; ++n) {
        for (int k = 0; k < kPageTokens; ++k) {
            const int token = Tiles::token_at(k), dim = Tiles::value_dim_at(n), at = Tiles::place(Tiles::D, n, k);
            ASSERT_EQ(tile.written[at / 16], 1);
            const float word = static_cast<float>(codeword_of(kBits, page_get_code(side, part.data(), token, dim))) / 128;
            ASSERT_EQ(tile.number(at), token < valid ? half_to_float(float_to_half(word * scale_of(side, part, token))) : 0.0f)
                << kHeadDim << " " << kBits << " token " << token << " dim " << dim;
        }
    }
}

template <int kHeadDim>
void check_head() {
    check_keys<kHeadDim, 2>();
    check_keys<kHeadDim, 3>();
    check_keys<kHeadDim, 4>();
    check_keys<kHeadDim, 8>();
    for (int valid : {64, 41, 1}) {
        check_values<kHeadDim, 2>(valid);
        check_values<kHeadDim, 3>(valid);
        check_values<kHeadDim, 4>(valid);
        check_values<kHeadDim, 8>(valid);
    }
}

TEST(PrefillTiles, AreTheDecodedPage) {
    check_head<64>();
    check_head<80>();
    check_head<96>();
    check_head<112>();
    check_head<128>();
    check_head<192>();
    check_head<256>();
}

}  // namespace
}  // namespace turboquant::cuda

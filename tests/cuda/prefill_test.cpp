// What four or eight warps make of a page's codes, lane by lane on the CPU: the operands of prefill's matrix products, for every head_dim and width; and
// the products that a warp makes of such tiles by itself.
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

#include "core/codebook.hpp"
#include "core/half.hpp"
#include "fibers.hpp"
#include "cuda/prefill/warp_products.cuh"

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

template <int kHeadDim, int kBits, int kWarps>
void check_keys() {
    using Tiles = PrefillTiles<kHeadDim>;
    constexpr PageSide side{Side::key, kHeadDim, kBits};
    const std::vector<std::uint8_t> part = random_part(side, 1);
    Tile tile(Tiles::kKeyBytes);
    const auto plus = [](int dim) { return 0.001f * static_cast<float>(dim % 50) - 0.01f; };
    test::Warp::run([&] {
        for (int warp = 0; warp < kWarps; ++warp) {
            Tiles::template decode_keys<kBits, kWarps>(warp, device::lane_id(), Part{part.data()}, [&](int chunk, std::uint32_t* words) {
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

template <int kHeadDim, int kBits, int kWarps>
void check_values(int valid) {
    using Tiles = PrefillTiles<kHeadDim>;
    constexpr PageSide side{Side::value, kHeadDim, kBits};
    const std::vector<std::uint8_t> part = random_part(side, 2);
    Tile tile(Tiles::kValueBytes);
    test::Warp::run([&] {
        for (int warp = 0; warp < kWarps; ++warp) {
            Tiles::template decode_values<kBits, kWarps>(warp, device::lane_id(), valid, Part{part.data()}, [&](int at, const std::uint32_t* four) { tile.store(at, four); });
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

template <int kHeadDim, int kWarps>
void check_head() {
    check_keys<kHeadDim, 2, kWarps>();
    check_keys<kHeadDim, 3, kWarps>();
    check_keys<kHeadDim, 4, kWarps>();
    check_keys<kHeadDim, 8, kWarps>();
    for (int valid : {64, 41, 1}) {
        check_values<kHeadDim, 2, kWarps>(valid);
        check_values<kHeadDim, 3, kWarps>(valid);
        check_values<kHeadDim, 4, kWarps>(valid);
        check_values<kHeadDim, 8, kWarps>(valid);
    }
}

TEST(PrefillTiles, AreTheDecodedPage) {
    check_head<64, 4>();
    check_head<80, 4>();
    check_head<96, 4>();
    check_head<112, 4>();
    check_head<128, 4>();
    check_head<192, 4>();
    check_head<256, 4>();
}

TEST(PrefillTiles, AreTheDecodedPageWithEightWarps) {
    check_head<192, 8>();
    check_head<256, 8>();
}

// A tile of small whole numbers, so that sums are exact: number (row, inner).
struct NumberTile {
    std::vector<std::uint8_t> bytes;
    unsigned rows;
    NumberTile(unsigned the_rows, unsigned inner, unsigned seed) : bytes((inner + 63) / 64 * the_rows * kTileRowBytes), rows(the_rows) {
        std::mt19937 engine(seed);
        for (std::size_t i = 0; i < bytes.size(); i += 2) {
            const std::uint16_t half = float_to_half(static_cast<float>(static_cast<int>(engine() % 17) - 8));
            std::memcpy(&bytes[i], &half, 2);
        }
    }
    float number(unsigned row, unsigned inner) const {
        std::uint16_t half;
        std::memcpy(&half, &bytes[PrefillTiles<64>::place(rows, row, inner)], 2);
        return half_to_float(half);
    }
    // ldmatrix.
    void load(unsigned at, std::uint32_t* four) const {
        const int lane = device::lane_id();
        for (int i = 0; i < 4; ++i) {
            const std::uint32_t row = device::from_lane(at, 8 * i + lane / 4);  // every lane of the group of four asks for its own row
            std::memcpy(four + i, &bytes[row + 4 * (lane & 3)], 4);
        }
    }
};

template <int kHeadDim, int kRowTiles>
void check_products() {
    using Products = WarpProducts<kHeadDim>;
    constexpr int D = Products::D;
    const NumberTile queries(64, D, 1), keys(kPageTokens, D, 2), values(D, kPageTokens, 3), weights(64, kPageTokens, 4);
    for (unsigned first : {0u, 32u}) {
        test::Warp::run([&] {
            const int g = device::lane_id() >> 2, t = device::lane_id() & 3;
            // The first of two tiles of rows begins at `first`, the second 16 further on.
            float s[kRowTiles][32], out[kRowTiles][D / 2];
            std::uint32_t operand[kRowTiles][16];
            const auto rows = [&](const NumberTile& of, int tile, int step, std::uint32_t* a) {
                Products::load_rows(first + 16 * static_cast<unsigned>(tile), step, a, [&](unsigned at, std::uint32_t* four) { of.load(at, four); });
            };
            Products::template score<kRowTiles>(s, [&](int tile, int step, std::uint32_t* a) { rows(queries, tile, step, a); }, [&](unsigned at, std::uint32_t* four) { keys.load(at, four); });
            for (int tile = 0; tile < kRowTiles; ++tile) {
                for (int i = 0; i < D / 2; ++i) out[tile][i] = static_cast<float>(i);
                for (int step = 0; step < 4; ++step) rows(weights, tile, step, operand[tile] + 4 * step);
            }
            Products::template add_values<kRowTiles>([&](int tile) { return out[tile]; }, operand, [&](unsigned at, std::uint32_t* four) { values.load(at, four); });
            for (int tile = 0; tile < kRowTiles; ++tile) {
                const auto row_of = [&](int i) { return first + static_cast<unsigned>(16 * tile + g + 8 * (i >> 1 & 1)); };
                const auto column_of = [&](int i) { return static_cast<unsigned>(8 * (i >> 2) + 2 * t + (i & 1)); };
                for (int i = 0; i < 32; ++i) {
                    float want = 0;
                    for (unsigned k = 0; k < D; ++k) want += queries.number(row_of(i), k) * keys.number(column_of(i), k);
                    ASSERT_EQ(s[tile][i], want) << kHeadDim << " score " << i;
                }
                for (int i = 0; i < D / 2; ++i) {
                    float want = static_cast<float>(i);
                    for (unsigned k = 0; k < kPageTokens; ++k) want += weights.number(row_of(i), k) * values.number(column_of(i), k);
                    ASSERT_EQ(out[tile][i], want) << kHeadDim << " output " << i;
                }
            }
        });
    }
}

TEST(WarpProducts, AreThoseOfTheTiles) {
    check_products<64, 1>();
    check_products<64, 2>();
    check_products<80, 2>();
    check_products<128, 1>();
    check_products<128, 2>();
    check_products<192, 1>();
    check_products<256, 1>();
}

TEST(WarpProducts, LanesBringTheirChunksFromDifferentBanks) {
    test::Warp::run([] {
        for (unsigned rows : {64u, 96u, 128u, 256u}) {
            const unsigned own[] = {WarpProducts<128>::columns_from(rows), WarpProducts<128>::rows_from(rows, 16)};
            for (unsigned at : own) {
                std::set<unsigned> chunks;
                for (int lane = device::lane_id() / 8 * 8, end = lane + 8; lane < end; ++lane) chunks.insert(device::from_lane(at, lane) / 16 % 8);
                EXPECT_EQ(chunks.size(), 8u);
            }
        }
    });
}

}  // namespace
}  // namespace turboquant::cuda

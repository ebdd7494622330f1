// What the converting kernels compute byte by byte is what core/page_convert.hpp says, for every head_dim and width.
#include "cuda/pages/images.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "core/page_convert.hpp"

namespace turboquant::cuda {
namespace {

template <class Body>
void for_all_sides(Body&& body) {
    for (int d : {64, 80, 96, 112, 128, 192, 256}) {
        for (int bits : {2, 3, 4, 8}) {
            body(PageLayout{d, bits, 4}, Side::key);
            body(PageLayout{d, 4, bits}, Side::value);
        }
    }
}

std::vector<std::uint8_t> random_codes(const PageSide& side) {
    std::mt19937 engine(static_cast<unsigned>(side.head_dim * side.bits));
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(kPageTokens) * side.head_dim);
    for (auto& c : codes) c = static_cast<std::uint8_t>(engine() & ((1 << side.bits) - 1));
    return codes;
}

TEST(CudaPages, CodeAtIsTheInverseOfPlace) {
    for_all_sides([](const PageLayout& layout, Side which) {
        const PageSide side = layout.of(which);
        for (int token = 0; token < kPageTokens; ++token) {
            for (int dim = 0; dim < side.padded_dim(); ++dim) {
                const auto place = side.place(token, dim);
                const auto code = side.code_at(place.lane, place.group, place.index);
                ASSERT_EQ(code.token, token);
                ASSERT_EQ(code.dim, dim);
            }
        }
    });
}

TEST(CudaPages, WordsMakeThePage) {
    for_all_sides([](const PageLayout& layout, Side which) {
        const PageSide side = layout.of(which);
        const std::vector<std::uint8_t> codes = random_codes(side);
        std::vector<std::uint8_t> part(side.part_bytes());
        for (int lane = 0; lane < kWarpLanes; ++lane) {
            for (int group = 0; group < groups_per_lane(side); ++group) {
                std::uint32_t words[8];
                page_words(side, codes.data(), lane, group, words);
                for (int w = 0; w < side.bits; ++w) std::memcpy(&part[side.word_offset(lane, side.group_word(group, w))], &words[w], 4);
            }
        }
        for (int token = 0; token < kPageTokens; ++token) {
            for (int dim = 0; dim < side.padded_dim(); ++dim) {
                ASSERT_EQ(page_get_code(side, part.data(), token, dim), dim < side.head_dim ? codes[static_cast<std::size_t>(token) * side.head_dim + dim] : 0);
            }
        }
    });
}

TEST(CudaPages, BytesMakeRowsAndTiles) {
    for_all_sides([](const PageLayout& layout, Side which) {
        const PageSide side = layout.of(which);
        const std::vector<std::uint8_t> codes = random_codes(side);
        const TileLayout tile{which, side.head_dim, side.bits};
        std::vector<std::uint8_t> want(tile.codes_bytes()), row(RowLayout::packed_bytes(side.head_dim, side.bits));
        for (int t = 0; t < kPageTokens; ++t) {
            const std::uint8_t* own = &codes[static_cast<std::size_t>(t) * side.head_dim];
            for (int j = 0; j < side.head_dim; ++j) {
                tile_set_code(tile, want.data(), t, j, own[j]);
                row_set_code(row.data(), side.bits, j, own[j]);
            }
            for (std::size_t i = 0; i < row.size(); ++i) ASSERT_EQ(row_byte(side.bits, own, static_cast<int>(i)), row[i]);
        }
        for (std::size_t i = 0; i < want.size(); ++i) ASSERT_EQ(tile_byte(tile, codes.data(), static_cast<int>(i)), want[i]) << side.head_dim << " " << side.bits << " " << i;
    });
}

}  // namespace
}  // namespace turboquant::cuda

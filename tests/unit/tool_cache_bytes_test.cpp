// Sizes of the engine's caches, from the line in which the engine announces them. Needs an engine (its type table).
#include "cache_bytes.hpp"

#include <gtest/gtest.h>

namespace turboquant::tool {
namespace {

const std::string kF16 =
    "llama_kv_cache: size =   90.00 MiB (  4096 cells,  30 layers,  1/1 seqs), K (f16):   45.00 MiB, V (f16):   45.00 MiB";

TEST(CacheBytes, ReadsAnAnnouncement) {
    const auto cache = parse_announcement(kF16);
    ASSERT_TRUE(cache);
    EXPECT_EQ(cache->cells, 4096u);
    EXPECT_EQ(cache->key_type, "f16");
    EXPECT_EQ(cache->value_type, "f16");
    EXPECT_EQ(cache->key_bytes, 45.0 * 1024 * 1024);
}

TEST(CacheBytes, OtherLinesAreNotAnnouncements) {
    EXPECT_FALSE(parse_announcement(""));
    EXPECT_FALSE(parse_announcement("llama_kv_cache:        CPU KV buffer size =    90.00 MiB"));
    EXPECT_FALSE(parse_announcement(
        "llama_memory_recurrent: size = 1.00 MiB ( 1 cells, 24 layers, 1 seqs), R (f32): 0.50 MiB, S (f32): 0.50 MiB"));
    EXPECT_FALSE(parse_announcement("size = 0.00 MiB ( 0 cells, 0 layers, 1/1 seqs), K (f16): 0.00 MiB, V (f16): 0.00 MiB"));
}

TEST(CacheBytes, CountsCellsInUseOnly) {
    const CacheUse use = engine_cache_use({*parse_announcement(kF16)}, 100);
    EXPECT_EQ(use.elements, 100.0 * 2 * 30 * 192);  // SmolLM2: 30 layers, 3 heads of 64, K and V
    EXPECT_EQ(use.bytes, 2 * use.elements);
    EXPECT_EQ(use.bits_per_value(), 16.0);
}

TEST(CacheBytes, IsExactAlthoughTheTextIsRounded) {
    // 1,024 cells of q4_0: 5,760 numbers for K take 3,240 bytes per cell, 3.1640625 MiB in all, announced as 3.16.
    const auto cache = parse_announcement(
        "llama_kv_cache: size =    6.33 MiB (  1024 cells,  30 layers,  1/1 seqs), K (q4_0):    3.16 MiB, V (q4_0):    3.16 "
        "MiB");
    ASSERT_TRUE(cache);
    const CacheUse use = engine_cache_use({*cache}, 1024);
    EXPECT_EQ(use.elements, 1024.0 * 2 * 5760);
    EXPECT_EQ(use.bytes, 1024.0 * 2 * 3240);
    EXPECT_EQ(use.bits_per_value(), 4.5);
}

TEST(CacheBytes, ASlidingWindowHoldsItsOwnCellsAtMost) {
    const AnnouncedCache all{4096, "f16", "f16", 4096 * 64 * 2.0, 4096 * 64 * 2.0};
    const AnnouncedCache window{1024, "f16", "f16", 1024 * 64 * 2.0, 1024 * 64 * 2.0};
    EXPECT_EQ(engine_cache_use({all, window}, 2000).elements, (2000.0 + 1024.0) * 128);
    EXPECT_EQ(engine_cache_use({all, window}, 500).elements, (500.0 + 500.0) * 128);
    const CacheUse use = engine_cache_use({window, all}, 2000);  // in any order: the larger one attends to everything
    EXPECT_EQ(use.full_elements, 2000.0 * 128);
    EXPECT_EQ(use.full_bytes, 2 * use.full_elements);
    EXPECT_EQ(use.full_bits_per_value(), 16);
    EXPECT_EQ(engine_cache_use({all}, 2000).full_elements, engine_cache_use({all}, 2000).elements);
}

TEST(CacheBytes, ModelsWithoutValueRowsCountKeysOnly) {
    const AnnouncedCache latent{256, "f16", "f16", 256 * 576 * 2.0, 0};
    EXPECT_EQ(engine_cache_use({latent}, 10).elements, 5760.0);
}

}  // namespace
}  // namespace turboquant::tool
